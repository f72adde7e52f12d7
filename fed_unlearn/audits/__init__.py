"""Questions asked of a model before and after a request, one a file."""
