"""Avalanche metrics of forgetting."""

from fed_unlearn.avalanche.metrics.plugin_metrics import forget_metrics

__all__ = ["forget_metrics"]
