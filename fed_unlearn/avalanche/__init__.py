"""Continual unlearning for Avalanche: forget streams, a plug-in and metrics.

Importing this package imports Avalanche, which takes seconds. No other package of fed_unlearn imports it on its own.
"""

from fed_unlearn.avalanche.frozen_head import FrozenHead
from fed_unlearn.avalanche.metrics import forget_metrics
from fed_unlearn.avalanche.plugin import Unlearning, UnlearningCallbacks, UnlearningPlugin
from fed_unlearn.avalanche.streams import ForgetExperience, forget_benchmark
from fed_unlearn.avalanche.streams.order import interleave
from fed_unlearn.avalanche.streams.samples import as_avalanche_dataset, with_sample_ids

__all__ = [
    "ForgetExperience",
    "FrozenHead",
    "Unlearning",
    "UnlearningCallbacks",
    "UnlearningPlugin",
    "as_avalanche_dataset",
    "forget_benchmark",
    "forget_metrics",
    "interleave",
    "with_sample_ids",
]
