"""Tests, which mirror the rooms of the project; ``tests.trials`` has the long checks."""
