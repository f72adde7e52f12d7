"""Bounds of the hyper-parameters of server-side methods, which their fields declare.

Larger values end in numbers that are not finite, or in rounds without end.
"""

from __future__ import annotations

from typing import Annotated

from annotated_types import Interval

Rounds = Annotated[int, Interval(ge=1, le=100_000)]
RoundsFromZero = Annotated[int, Interval(ge=0, le=100_000)]
Epochs = Annotated[int, Interval(ge=1, le=100_000)]
BatchSize = Annotated[int, Interval(ge=1, le=1_000_000)]
Layers = Annotated[int, Interval(ge=1, le=10_000)]
LayersFromZero = Annotated[int, Interval(ge=0, le=10_000)]
LearningRate = Annotated[float, Interval(gt=0, le=100)]
Factor = Annotated[float, Interval(gt=0, le=10_000)]
"""What weights, changes or lengths are multiplied by."""
FactorFromZero = Annotated[float, Interval(ge=0, le=10_000)]
"""A factor that may be 0 too."""
