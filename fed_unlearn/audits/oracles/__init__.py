"""Figures of a model judged beside those of models that were retrained without the forget set."""
