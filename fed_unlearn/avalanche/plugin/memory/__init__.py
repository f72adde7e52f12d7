"""What a strategy and its plug-ins keep of samples: found, purged, and searched for where nobody told of it."""
