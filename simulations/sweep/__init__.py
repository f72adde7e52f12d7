"""Runs of one scenario over methods and seeds."""
