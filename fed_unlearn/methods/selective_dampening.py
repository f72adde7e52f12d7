"""Selective Synaptic Dampening (Foster et al., "Fast Machine Unlearning Without Retraining", AAAI 2024).

Parameters that are far more important to the forget samples than to all samples are made smaller. Nothing is trained.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import InvalidModelError, UnlearningDivergedError
from fed_unlearn.methods.base import Applied, Method, Scope, Workspace
from fed_unlearn.methods.descent import accuracy_of
from fed_unlearn.methods.parts.sample_gradients import fisher_diagonal, trainable
from fed_unlearn.methods.parts.validation import BelowOne
from fed_unlearn.methods.registry import register
from fed_unlearn.settings import AboveZero, FromOne, NotNegative


@register("selective-dampening")
@dataclass(frozen=True, kw_only=True)
class SelectiveDampening(Method):
    """Dampen the parameters that are important to the forget samples and unimportant to the others.

    The importance ``I`` of a parameter is the mean over samples of the squared derivative of the sample's
    cross-entropy. Where ``I_F > alpha * I_D``, the parameter is multiplied by ``min(dampening * I_D / I_F, 1)`` (the
    paper's rule for beta). ``F`` are the forget samples; ``D`` are the forget and the retained samples together. As
    ``F`` is a part of ``D``, ``I_F / I_D`` is at most ``len(D) / len(F)``, and a larger ``alpha`` changes nothing. The
    published ``alpha`` of 10 changes nothing when one class of ten equally large ones is forgotten.

    Parameters
    ----------
    alpha : float, default 3
        Parameters whose importance for the forget samples is more than ``alpha`` times that for all are dampened.
    dampening : float, default 1
        The paper's lambda. Smaller values dampen more.
    most_samples : int, default 1000
        Maximum number of samples of each set that are read for its importance, drawn at random. The importance for all
        samples is the mean of both, weighted by the sizes of the sets.
    target_accuracy : float, default 0.01
        The aim: at most this share of the forget set is still predicted under its own label.
    """

    paper: ClassVar[str] = "Foster et al., Fast Machine Unlearning Without Retraining, AAAI 2024"
    scopes: ClassVar[tuple[Scope, ...]] = ("class", "sample", "client")
    needs: ClassVar[str] = "forget, retain"
    requires_retain: ClassVar[bool] = True

    alpha: AboveZero = 3.0
    dampening: NotNegative = 1.0
    most_samples: FromOne = 1000
    target_accuracy: BelowOne = 0.01

    def stronger(self) -> Self:
        """Two thirds of ``alpha`` and a third of ``dampening``: more parameters are dampened, and by more."""
        return replace(self, alpha=self.alpha / 1.5, dampening=self.dampening / 3)

    def _apply(self, work: Workspace) -> Applied:
        parameters = trainable(work.model)
        if not parameters:
            raise InvalidModelError(f"{self.name}: the model has no parameter that may be trained")
        forget = self._importance(work, work.forget)
        retain = self._importance(work, work.retained)
        share = len(work.forget) / (len(work.forget) + len(work.retained))
        changed = []
        with torch.no_grad():
            for name, parameter in parameters.items():
                overall = share * forget[name] + (1 - share) * retain[name]
                selected = forget[name] > self.alpha * overall
                factors = (self.dampening * overall / forget[name]).clamp(max=1)
                parameter.mul_(torch.where(selected, factors, 1.0))
                changed.append(selected.any())
        converged = accuracy_of(work, work.forget, step=1) <= self.target_accuracy
        return Applied(converged, steps=int(torch.stack(changed).any()))

    def _importance(self, work: Workspace, samples: SampleSet) -> dict[str, Tensor]:
        drawn = torch.randperm(len(samples), generator=work.generator)[: self.most_samples].sort().values
        importance = fisher_diagonal(work.model, samples.subset(drawn), work.passes)
        if not all(bool(torch.isfinite(values).all()) for values in importance.values()):
            raise UnlearningDivergedError(
                f"{self.name}: the gradients at step 1 are not all finite; the given model is unchanged: check its"
                " weights for values that are not numbers"
            )
        return importance
