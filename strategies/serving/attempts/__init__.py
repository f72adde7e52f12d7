"""One attempt at requests: at the holders, or at the server."""
