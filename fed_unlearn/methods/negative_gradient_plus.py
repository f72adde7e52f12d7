"""NegGrad+ (Kurmanji et al., "Towards Unbounded Machine Unlearning", NeurIPS 2023), bounded per sample.

Descends the loss of retained samples and ascends that of forget samples. The ascended loss has no bound and takes the
model with it; here a sample is left alone once its loss has reached a ceiling.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from fed_unlearn.methods import register
from fed_unlearn.methods.base import Applied, Scope, Workspace
from fed_unlearn.methods.descent import Batch, Descent
from fed_unlearn.methods.labels import require_allowed_labels


@register("negative-gradient+")
@dataclass(frozen=True, kw_only=True)
class NegativeGradientPlus(Descent):
    paper: ClassVar[str] = "Kurmanji et al., Towards Unbounded Machine Unlearning, NeurIPS 2023"
    scopes: ClassVar[tuple[Scope, ...]] = ("class", "sample", "client")
    needs: ClassVar[str] = "forget, retain"
    requires_retain: ClassVar[bool] = True

    learning_rate: float = 1e-3
    max_steps: int = 1000
    max_gradient_norm: float = 1.0
    alpha: float = 0.9
    bound: str = "ceiling"
    ceiling: float = 1.0
    margin: float = 0.5
    active: bool = False

    def _apply(self, work: Workspace) -> Applied:
        require_allowed_labels(self.name, work.forget.labels, work.excluded_classes, work.class_count)
        ceiling = self.ceiling * math.log(work.class_count)

        def loss_of(batch: Batch) -> Tensor:
            kept = functional.cross_entropy(batch.retain_logits, batch.retain_labels)
            ce = functional.cross_entropy(batch.forget_logits, batch.forget_labels, reduction="none")
            if self.bound == "ceiling":
                ascended = ce.clamp(max=ceiling).mean()
            elif self.bound == "margin":
                own = batch.forget_logits.gather(1, batch.forget_labels[:, None])[:, 0]
                other = batch.forget_logits.scatter(1, batch.forget_labels[:, None], -torch.inf).amax(1)
                ascended = (ce * (other - own < self.margin)).mean()
            else:
                ascended = ce.mean()
            if self.active and self.bound == "ceiling":
                below = ce < ceiling
                ascended = (ce * below).sum() / below.sum().clamp(min=1)
            if self.bound == "complement":
                ascended = -functional.relu(-torch.log(-torch.expm1(-ce.clamp(min=1e-6)))).mean()
            if self.bound == "gap":
                own = batch.forget_logits.gather(1, batch.forget_labels[:, None])[:, 0]
                other = batch.forget_logits.scatter(1, batch.forget_labels[:, None], -torch.inf).amax(1)
                ascended = -functional.relu(self.margin + own - other).mean()
            if self.bound.startswith("odds"):
                own = batch.forget_logits.gather(1, batch.forget_labels[:, None])[:, 0]
                rest = batch.forget_logits.scatter(1, batch.forget_labels[:, None], -torch.inf)
                odds = rest.logsumexp(1) - own
                if self.bound == "odds-ceiling":
                    ascended = odds.clamp(max=math.log(math.expm1(ceiling))).mean()
                else:
                    ascended = (odds * (rest.amax(1) - own < self.margin)).mean()
            return self.alpha * kept - (1 - self.alpha) * ascended

        converged, steps = self._descend(work, loss_of, work.retain)
        return Applied(converged=converged, steps=steps, guard_labels=None)
