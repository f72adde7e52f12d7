"""What the report shows of models and is no figure of an audit: where images go, and how features lie."""
