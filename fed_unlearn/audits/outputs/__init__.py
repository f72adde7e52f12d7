"""Audits of what a model puts out: for the classes that were forgotten, and for those that stay."""
