"""The leaving client's part of Halimi et al. ("Federated Unlearning: How to Efficiently Erase a Client in FL?", 2022,
arXiv 2207.05521): ascent on its loss, never further than a bound from the model that it was given.
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
from fed_unlearn.methods.descent import Descent
from fed_unlearn.methods.parts.batches import Batch
from fed_unlearn.methods.parts.validation import require
from fed_unlearn.methods.registry import register


@register("projected-ascent")
@dataclass(frozen=True, kw_only=True)
class ProjectedAscent(Descent):
    """Maximise the cross-entropy of the forget set inside an L2 ball around the given model, by projected steps.

    Ascent has no end: it is stopped where the forget set is no longer recognised, and the ball bounds what it can do
    to everything else. In a federation the given model is the mean of the other clients' models.

    Parameters
    ----------
    epochs : int, default 20
        Most passes over the forget set; fewer are made once the aim is met.
    radius : float, default 0.0
        Of the ball, over all parameters; 0 for ``radius_fraction`` of a mean distance.
    radius_fraction : float, default 0.2
        Share of the mean distance from the given model to ones with random weights. The paper has a third, which on
        small networks is as far as the whole training went.
    random_models : int, default 10
        So many such models.
    learning_rate : float, default 0.01
    target_accuracy : float, default 0.5
        The aim, and the early stop: at most this share of the forget set is still predicted under its own label.
    max_gradient_norm : float, default 5.0
        Longer gradients are scaled down to it: the steeper the loss gets, the longer they are.
    momentum, batch_size, max_steps, retain_tolerance, trained_layers
        As in :class:`~fed_unlearn.methods.descent.Descent`.
    """

    paper: ClassVar[str] = "Halimi et al., How to Efficiently Erase a Client in FL, 2022"
    scopes: ClassVar[tuple[Scope, ...]] = ("client",)
    needs: ClassVar[str] = "forget"

    epochs: int = 20
    radius: float = 0.0
    radius_fraction: float = 0.2
    random_models: int = 10
    learning_rate: float = 1e-2
    target_accuracy: float = 0.5
    max_gradient_norm: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require("epochs", self.name, self.epochs, int, minimum=1)
        require("radius", self.name, self.radius, float, minimum=0)
        require("radius_fraction", self.name, self.radius_fraction, float, above=0)
        require("random_models", self.name, self.random_models, int, minimum=1)

    def stronger(self) -> Self:
        """Twice the epochs and steps, in a ball of one and a half times the radius."""
        return replace(
            self,
            epochs=2 * self.epochs,
            max_steps=2 * self.max_steps,
            radius=1.5 * self.radius,
            radius_fraction=1.5 * self.radius_fraction,
        )

    def _most_steps(self, work: Workspace) -> int:
        return min(self.max_steps, self.epochs * math.ceil(len(work.forget) / self.batch_size))

    def _optimizer(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        return _InsideBall(parameters, self.radius, self.learning_rate, self.momentum)

    def _apply(self, work: Workspace) -> Applied:
        if not self.radius:
            return replace(self, radius=self.radius_fraction * self._mean_distance(work))._apply(work)

        def loss_of(batch: Batch) -> Tensor:
            return -functional.cross_entropy(batch.forget_logits, batch.forget_labels)

        converged, steps = self._descend(work, loss_of)
        return Applied(converged=converged, steps=steps, guard_labels=None)

    def _mean_distance(self, work: Workspace) -> float:
        """From the given model to ones with random weights."""
        given = list(work.original.parameters())
        distances = []
        for seed in torch.randint(2**62, (self.random_models,), generator=work.generator).tolist():
            distances.append(float(_distance(given, list(randomly_initialised(work.original, seed).parameters()))))
        mean = sum(distances) / len(distances)
        if not math.isfinite(mean):
            raise UnlearningDivergedError(
                "the weights are not finite at step 0; the given model is unchanged: give one whose weights are"
            )
        return mean


class _InsideBall(torch.optim.SGD):
    """SGD whose every step ends inside a ball around the parameters as they were at first."""

    def __init__(self, parameters: list[nn.Parameter], radius: float, learning_rate: float, momentum: float) -> None:
        super().__init__(parameters, lr=learning_rate, momentum=momentum)
        self._parameters, self._radius, self._steps = parameters, radius, 0
        self._centre = [parameter.detach().clone() for parameter in parameters]

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        super().step(closure)
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
    """Euclidean, over all parameters together."""
    with torch.no_grad():
        parts = [torch.dist(one, other) for one, other in zip(first, second, strict=True)]
        distance: Tensor = torch.linalg.vector_norm(torch.stack(parts))
    return distance
