"""Audits: questions asked of a model before and after a request, and the figures that answer them."""
