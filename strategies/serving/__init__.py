"""Serving forget requests, from the queue to the commit."""
