"""An unlearning method, a server method, a data source and an audit for fed-unlearn."""
