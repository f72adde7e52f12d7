"""Projected ascent at the leaving client, then ordinary rounds (Halimi et al., "Federated Unlearning: How to
Efficiently Erase a Client in FL?", 2022, arXiv 2207.05521).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import sqrt
from typing import ClassVar, Self

import numpy as np

from fed_unlearn.arrays import Arrays, add_clipped, difference, norm
from fed_unlearn.methods.parts.validation import BelowOne
from fed_unlearn.strategies.server_methods.base import ServerWork
from fed_unlearn.strategies.server_methods.leaving import unlearn_at_leaving
from fed_unlearn.strategies.server_methods.parameters import BatchSize, Epochs, Factor, LearningRate, Rounds
from fed_unlearn.strategies.server_methods.parts import scaled, stored_round
from fed_unlearn.strategies.server_methods.recovery import LeavingAndRecovery
from fed_unlearn.strategies.server_methods.registry import register


@register("projected-ascent")
@dataclass(frozen=True, kw_only=True)
class AscentAndRecovery(LeavingAndRecovery):
    """One step of ascent at the leaving client, inside a ball around the mean of the others; then they train on.

    The mean of the other clients' models in the last round is the reference: it still knows what they taught. It is
    made of the served model and the leaving client's last stored model; where that is not stored, the served model
    takes its place. The client's word is not taken for the ball: a change that is longer than any such ball's radius
    is scaled down to it. Inside it, the leaving client decides: where that is too much trust, use ``federaser``.

    Parameters
    ----------
    recovery_rounds : int, default 10
        Ordinary rounds of the staying clients, at least 1: the ascent costs the others much, and they win it back.
    epochs, radius_fraction, learning_rate, batch_size, target_accuracy
        Parameters of the leaving client's step, as in
        :class:`fed_unlearn.methods.client_projected_ascent.ClientProjectedAscent`.
    """

    paper: ClassVar[str] = "Halimi et al., How to Efficiently Erase a Client in FL, 2022"
    needs: ClassVar[str] = "forget, retain (history)"
    client_method: ClassVar[str] = "projected-ascent"
    bounds_by_plan: ClassVar[bool] = False

    recovery_rounds: Rounds = 10
    epochs: Epochs = 20
    radius_fraction: Factor = 0.2
    learning_rate: LearningRate = 1e-2
    batch_size: BatchSize = 64
    target_accuracy: BelowOne = 0.5

    def left(self, work: ServerWork, step: int) -> Arrays:
        """The leaving client's model, within the ball."""
        reference = reference_model(work)
        unlearned = unlearn_at_leaving(work, reference, step, self.client_method, self.client_parameters)
        change = difference(unlearned.arrays, reference)
        return add_clipped(reference, [change], self._longest_radius(reference))

    def stronger(self) -> Self:
        """Twice the epochs in a ball of one and a half times the radius, and twice the ordinary rounds."""
        return replace(
            self,
            epochs=2 * self.epochs,
            radius_fraction=1.5 * self.radius_fraction,
            recovery_rounds=2 * self.recovery_rounds,
        )

    def _longest_radius(self, reference: Arrays) -> float:
        """Random weights are shorter than trained ones, and at right angles to them."""
        nothing = {name: np.zeros_like(value) for name, value in reference.items()}
        return self.radius_fraction * sqrt(2) * norm(difference(reference, nothing))


def reference_model(work: ServerWork) -> Arrays:
    """The mean of the clients' models without the leaving one's: ``(served - s leaving) / (1 - s)``.

    ``s`` is the leaving client's share of the samples.

    Trainable arrays only; statistics and counters stay those of the served model.

    Parameters
    ----------
    work : ServerWork
    """
    rounds = work.history.rounds() if work.history is not None else ()
    if not rounds:
        return work.served
    stored = stored_round(work, rounds[-1])
    total = sum(weight for _, weight in stored.clients.values())
    model, weight = stored.clients.get(work.leaving or "", (work.served, 0.0))
    if not 0 < weight < total:
        return work.served
    return add_clipped(work.served, [scaled(difference(model, work.served), -weight / (total - weight))], np.inf)
