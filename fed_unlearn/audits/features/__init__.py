"""Audits of what a model's features still hold of forgotten classes."""
