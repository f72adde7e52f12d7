"""Figures of a run for experiment trackers."""
