"""The leaving client's part of Halimi et al. ("Federated Unlearning: How to Efficiently Erase a Client in FL?", 2022,
arXiv 2207.05521). It ascends the client's loss inside a ball around the given model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from fed_unlearn.errors import UnlearningDivergedError
from fed_unlearn.methods.bad_teacher import randomly_initialised
from fed_unlearn.methods.base import Applied, Scope, Workspace
from fed_unlearn.methods.descent import EpochDescent
from fed_unlearn.methods.parts.batches import Batch
from fed_unlearn.methods.registry import register
from fed_unlearn.settings import AboveZero, FromOne, NotNegative


@register("projected-ascent")
@dataclass(frozen=True, kw_only=True)
class ClientProjectedAscent(EpochDescent):
    """Maximise the cross-entropy of the forget set by projected steps inside an L2 ball around the given model.

    The ascent stops when the forget set is no longer recognised, and the ball bounds the damage to everything else. In
    a federation the given model is the mean of the other clients' models.

    Parameters
    ----------
    epochs : int, default 20
        Maximum number of passes over the forget set. Fewer are made if the aim is met earlier.
    radius : float, default 0.0
        Radius of the ball, over all parameters together. 0 means that ``radius_fraction`` decides.
    radius_fraction : float, default 0.2
        Radius as a share of the mean distance between the given model and models with random weights. The paper uses a
        third, which on small networks is as far as the whole training went.
    random_models : int, default 10
        Number of models with random weights.
    learning_rate : float, default 0.01
        Learning rate of SGD.
    target_accuracy : float, default 0.5
        The aim, which ends the ascent: at most this share of the forget set is still predicted under its own label.
    max_gradient_norm : float, default 5.0
        Longer gradients are scaled down to this norm. Gradients grow as the loss is ascended.
    momentum, batch_size, max_steps, retain_tolerance, trained_layers
        As in :class:`~fed_unlearn.methods.descent.EpochDescent`.
    """

    paper: ClassVar[str] = "Halimi et al., How to Efficiently Erase a Client in FL, 2022"
    scopes: ClassVar[tuple[Scope, ...]] = ("client",)
    needs: ClassVar[str] = "forget"

    epochs: int = 20
    radius: NotNegative = 0.0
    radius_fraction: AboveZero = 0.2
    random_models: FromOne = 10
    learning_rate: float = 1e-2
    target_accuracy: float = 0.5
    max_gradient_norm: float = 5.0

    def stronger(self) -> Self:
        """Twice the epochs and steps, in a ball of one and a half times the radius."""
        return replace(
            self,
            epochs=2 * self.epochs,
            max_steps=2 * self.max_steps,
            radius=1.5 * self.radius,
            radius_fraction=1.5 * self.radius_fraction,
        )

    def _optimizer(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        optimizer = super()._optimizer(parameters)
        optimizer.register_step_post_hook(_Ball(parameters, self.radius))
        return optimizer

    def _apply(self, work: Workspace) -> Applied:
        if not self.radius:
            return replace(self, radius=self.radius_fraction * self._mean_distance(work))._apply(work)

        def loss_of(batch: Batch) -> Tensor:
            return -functional.cross_entropy(batch.forget_logits, batch.forget_labels)

        return Applied(*self._descend(work, loss_of))

    def _mean_distance(self, work: Workspace) -> float:
        """Mean distance between the given model and models with random weights."""
        given = list(work.original.parameters())
        distances = []
        for seed in torch.randint(2**62, (self.random_models,), generator=work.generator).tolist():
            distances.append(float(_distance(given, list(randomly_initialised(work.original, seed).parameters()))))
        mean = sum(distances) / len(distances)
        if not math.isfinite(mean):
            raise UnlearningDivergedError(
                "the weights are not finite at step 0; the given model is unchanged: give a model with finite weights"
            )
        return mean


class _Ball:
    """A ball around the initial parameters. After a step of the optimizer, parameters outside are projected onto it."""

    def __init__(self, parameters: list[nn.Parameter], radius: float) -> None:
        self._parameters, self._radius, self._steps = parameters, radius, 0
        self._centre = [parameter.detach().clone() for parameter in parameters]

    @torch.no_grad()
    def __call__(self, optimizer: torch.optim.Optimizer, arguments: object, keywords: object) -> None:
        self._steps += 1
        distance = float(_distance(self._parameters, self._centre))
        if not math.isfinite(distance):
            raise UnlearningDivergedError(
                f"the weights are not finite at step {self._steps}; the given model is unchanged: try a smaller"
                " learning rate"
            )
        if distance > self._radius:
            for parameter, centre in zip(self._parameters, self._centre, strict=True):
                parameter.lerp_(centre, 1 - self._radius / distance)


def _distance(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
    """Euclidean distance over all parameters together."""
    with torch.no_grad():
        parts = [torch.dist(one, other) for one, other in zip(first, second, strict=True)]
        distance: Tensor = torch.linalg.vector_norm(torch.stack(parts))
    return distance
