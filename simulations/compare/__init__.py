"""Comparisons of runs: methods by scenarios by seeds."""
