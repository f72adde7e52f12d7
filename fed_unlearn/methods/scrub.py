"""SCRUB (Kurmanji et al., "Towards Unbounded Machine Unlearning", NeurIPS 2023), bounded per sample.

The copy is a student that disobeys the original model on forget samples and follows it on retained ones, in turns. The
divergence from the teacher has no bound and takes the model with it; here a sample is left alone once it is called
something else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from fed_unlearn.inference import predict_logits
from fed_unlearn.methods import register
from fed_unlearn.methods.base import Applied, Scope, Workspace
from fed_unlearn.methods.descent import Batch, Descent
from fed_unlearn.methods.labels import require_allowed_labels


@register("scrub")
@dataclass(frozen=True, kw_only=True)
class Scrub(Descent):
    """Alternate between climbing away from the original on forget samples and descending to it on retained ones.

    A max-step ascends ``T^2 KL(f0 || f)`` on forget samples (see :func:`climb` for how far); the ``min_steps`` that
    follow minimise ``alpha T^2 KL(f0 || f) + gamma CE`` on retained ones. After ``max_phases`` max-steps only
    min-steps are taken.

    Parameters
    ----------
    temperature : float, default 4.0
        T: logits are divided by it inside the divergences.
    alpha, gamma : float
        Weights of the two terms of a min-step; not both 0.
    max_phases : int
        Max-steps in all.
    min_steps : int
        Min-steps after each of them.
    margin : float
        A forget sample is left alone once another class leads by so much, in logits.
    rewind : bool, default False
        Go back, after the run, to the checkpoint whose error on the forget set is nearest to the error that the model
        makes at the end of the run on unseen samples of the same classes: for deletion, where being wrong more often
        than that is a trace. Takes unseen samples.
    rewind_interval : int, default 10
        Steps between two checkpoints; each is a copy of the parameters.
    learning_rate, momentum, batch_size, max_steps, target_accuracy, retain_tolerance, max_gradient_norm
        As in :class:`~fed_unlearn.methods.descent.Descent`. The bound on the gradient lets one learning rate serve
        small and large models.
    """

    paper: ClassVar[str] = "Kurmanji et al., Towards Unbounded Machine Unlearning, NeurIPS 2023"
    scopes: ClassVar[tuple[Scope, ...]] = ("class", "sample", "client")
    needs: ClassVar[str] = "forget, retain"
    requires_retain: ClassVar[bool] = True

    learning_rate: float = 1e-3
    max_steps: int = 1000
    max_gradient_norm: float = 1.0
    temperature: float = 4.0
    alpha: float = 0.5
    gamma: float = 1.0
    max_phases: int = 500
    min_steps: int = 1
    margin: float = 0.5
    rewind: bool = False
    rewind_interval: int = 10

    def _reads(self, step: int) -> tuple[bool, bool]:
        phase, position = divmod(step - 1, 1 + self.min_steps)
        climbs = position == 0 and phase < self.max_phases
        return climbs, not climbs

    def _apply(self, work: Workspace) -> Applied:
        require_allowed_labels(self.name, work.forget.labels, work.excluded_classes, work.class_count)
        before = predict_logits(work.original, work.forget).to(work.forget.labels.device)
        work.passes.add(forward=len(work.forget))
        forbidden = functional.one_hot(work.forget.labels, work.class_count).bool()
        forbidden[:, sorted(work.excluded_classes)] = True

        def loss_of(batch: Batch) -> Tensor:
            if len(batch.positions):
                chosen = batch.positions
                climbed = climb(batch.logits, before[chosen], forbidden[chosen], self.temperature, self.margin)
                return -(self.temperature**2) * climbed.mean()
            with torch.no_grad():
                kept = work.original(batch.images)
            work.passes.add(forward=len(kept))
            found, wanted = (functional.log_softmax(logits / self.temperature, dim=1) for logits in (batch.logits, kept))
            divergence = functional.kl_div(found, wanted, reduction="batchmean", log_target=True)
            loss = self.gamma * functional.cross_entropy(batch.logits, batch.labels)
            return loss + self.alpha * self.temperature**2 * divergence

        converged, steps = self._descend(work, loss_of, work.retain)
        return Applied(converged=converged, steps=steps, guard_labels=None)


def climb(logits: Tensor, before: Tensor, forbidden: Tensor, temperature: float, margin: float) -> Tensor:
    found, wanted = (functional.log_softmax(part / temperature, dim=1) for part in (logits, before))
    own, own_before = (part.masked_fill(~forbidden, -torch.inf).logsumexp(dim=1) for part in (found, wanted))
    terms = wanted.exp() * (wanted - found)
    others = terms.masked_fill(forbidden, 0).sum(dim=1)
    own_term = own_before.exp() * (own_before - own)
    climbed = own_term + others * (own < own_before)
    best = logits.masked_fill(forbidden, -torch.inf).amax(dim=1)
    gap = best - logits.masked_fill(~forbidden, -torch.inf).amax(dim=1)
    return climbed * (gap < margin)
