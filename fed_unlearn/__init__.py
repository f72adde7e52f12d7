"""Continual unlearning for federated learning."""
