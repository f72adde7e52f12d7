"""What training and methods cost, in passes of samples through a model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class PassCounter:
    """Number of samples pushed through a model: the cost of a method without a clock.

    Attributes
    ----------
    forward, backward : int
        Samples in forward and in backward passes.
    """

    forward: int = 0
    backward: int = 0

    def add(self, forward: int = 0, backward: int = 0) -> None:
        """Add samples to both counts."""
        self.forward += forward
        self.backward += backward
