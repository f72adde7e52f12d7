"""Audits of requests that whole clients be forgotten."""
