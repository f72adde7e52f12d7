"""Benchmarks of unlearning methods and of the federation's cost."""
