"""SCRUB (Kurmanji et al., "Towards Unbounded Machine Unlearning", NeurIPS 2023), bounded per sample.

The copy is a student of the original model. In turns, it moves away from the teacher on forget samples and towards it
on retained ones. The divergence from the teacher has no bound and would destroy the model, so a forget sample no longer
counts once it is misclassified by a margin.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.nn import functional

from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import InvalidDataError
from fed_unlearn.logits import logit_gaps, predict_logits
from fed_unlearn.methods.base import Applied, Scope, Workspace
from fed_unlearn.methods.descent import Descent, accuracy_of
from fed_unlearn.methods.parts.batches import Batch
from fed_unlearn.methods.parts.labels import forbidden_classes
from fed_unlearn.methods.registry import register
from fed_unlearn.model_inputs import model_inputs
from fed_unlearn.settings import AboveZero, FromOne, NotNegative

REWIND_TOLERANCE = 0.05  # largest difference between the accuracies on forget and on unseen samples
ROUNDING = 1e-4  # equal log-probabilities computed in batches of different sizes differ by less than this


@register("scrub")
@dataclass(frozen=True, kw_only=True)
class Scrub(Descent):
    """Alternate between moving away from the original on forget samples and towards it on retained ones.

    A max-step ascends ``T^2 KL(f0 || f)`` on forget samples, bounded as :func:`climb` says. The ``min_steps`` that
    follow it minimise ``alpha T^2 KL(f0 || f) + gamma CE`` on retained samples (eq. 3 of the paper). After
    ``max_phases`` max-steps only min-steps are taken. The paper alternates whole epochs; single steps keep the model
    nearer to the original.

    Parameters
    ----------
    temperature : float, default 4.0
        T, which divides the logits in both divergences.
    alpha : float, default 0.5
        Weight of the divergence on retained samples.
    gamma : float, default 1.0
        Weight of the cross-entropy on retained samples.
    min_steps : int, default 1
        Steps on retained samples after each step on forget samples.
    max_phases : int, default 500
        Maximum number of steps on forget samples.
    margin : float, default 0.5
        A forget sample no longer counts once the largest logit of an allowed class exceeds that of its own class by
        this much.
    rewind : bool, default False
        Whether to return to an earlier state of the copy: the one whose accuracy on the forget samples is nearest to
        the final accuracy on unseen samples of the same classes (the paper's SCRUB+R). Membership attacks then do not
        show that the samples were forgotten. Needs unseen samples.
    rewind_interval : int, default 10
        Number of max-steps between two states that the method may return to. All states are kept in the CPU's memory.
    max_gradient_norm : float, default 1.0
        Longer gradients are scaled down to this norm, so that one learning rate serves small and large models.
    learning_rate, momentum, batch_size, max_steps, target_accuracy, retain_tolerance, trained_layers
        As in :class:`~fed_unlearn.methods.descent.Descent`.
    """

    paper: ClassVar[str] = "Kurmanji et al., Towards Unbounded Machine Unlearning, NeurIPS 2023"
    scopes: ClassVar[tuple[Scope, ...]] = ("class", "sample", "client")
    needs: ClassVar[str] = "forget, retain (unseen)"
    requires_retain: ClassVar[bool] = True

    learning_rate: float = 5e-3
    max_steps: int = 500
    max_gradient_norm: float = 1.0
    temperature: AboveZero = 4.0
    alpha: NotNegative = 0.5
    gamma: NotNegative = 1.0
    min_steps: FromOne = 1
    max_phases: FromOne = 500
    margin: AboveZero = 0.5
    rewind: bool = False
    rewind_interval: FromOne = 10

    @property
    def reads_unseen(self) -> bool:
        """True if the method rewinds."""
        return self.rewind

    def stronger(self) -> Self:
        """Twice the learning rate and twice the steps, both those on forget samples and all together."""
        return replace(super().stronger(), max_phases=2 * self.max_phases)

    def _reads(self, step: int) -> tuple[bool, bool]:
        phase, position = divmod(step - 1, 1 + self.min_steps)
        climbs = position == 0 and phase < self.max_phases
        return climbs, not climbs

    def _apply(self, work: Workspace) -> Applied:
        states = _States(work, self._unseen_alike(work)) if self.rewind else None
        before = predict_logits(work.original, work.forget).to(work.forget.labels.device)
        work.passes.add(forward=len(work.forget))
        forbidden = forbidden_classes(work.forget.labels, work.excluded_classes, work.class_count)

        def loss_of(batch: Batch) -> Tensor:
            if not len(batch.positions):
                return self._followed(work, batch)
            if states is not None and (batch.step - 1) // (1 + self.min_steps) % self.rewind_interval == 0:
                states.keep(batch.step - 1)
            chosen = batch.positions
            climbed = climb(batch.logits, before[chosen], forbidden[chosen], self.temperature, self.margin)
            return -(self.temperature**2) * climbed.mean()

        converged, steps = self._descend(work, loss_of, work.retained)
        if states is not None:
            converged = abs(states.rewind(steps)) <= REWIND_TOLERANCE
        return Applied(converged, steps)

    def _followed(self, work: Workspace, batch: Batch) -> Tensor:
        """Loss on retained samples."""
        with torch.no_grad():
            kept = work.original(model_inputs(work.original, batch.images, pack=False))
        work.passes.add(forward=len(kept))
        found, wanted = (functional.log_softmax(each / self.temperature, dim=1) for each in (batch.logits, kept))
        divergence = functional.kl_div(found, wanted, reduction="batchmean", log_target=True)
        loss = self.gamma * functional.cross_entropy(batch.logits, batch.labels)
        return loss + self.alpha * self.temperature**2 * divergence

    def _unseen_alike(self, work: Workspace) -> SampleSet:
        """The unseen samples of the classes in the forget set."""
        if work.unseen is not None:
            alike = torch.isin(work.unseen.labels, work.forget.labels).nonzero().flatten()
            if len(alike):
                return work.unseen.subset(alike)
        raise InvalidDataError(
            f"{self.name}: no unseen samples of the classes in the forget set were given; rewind needs some that the"
            " model was never trained on"
        )


def climb(logits: Tensor, before: Tensor, forbidden: Tensor, temperature: float, margin: float) -> Tensor:
    """The value that a max-step ascends: the terms of the divergence that lead away from the forbidden classes.

    The divergence has its minimum, and a zero gradient, where the copy starts. If it were ascended as it is, chance
    would decide the direction, and the copy could become ever surer of a sample's own class. The terms are therefore
    separated. The term of the forbidden classes always counts. The terms of the other classes count as soon as the
    forbidden classes have lost probability.

    Parameters
    ----------
    logits, before : Tensor of shape (n, classes)
        Logits of the copy, with gradients, and of the original model.
    forbidden : Tensor of shape (n, classes), bool
        Whether a class is the sample's own or one that was forgotten earlier.
    temperature : float
        Temperature that divides both logits.
    margin : float
        A sample adds nothing once the largest allowed logit exceeds the largest forbidden one by this much.

    Returns
    -------
    Tensor of shape (n,)
    """
    found, wanted = (functional.log_softmax(each / temperature, dim=1) for each in (logits, before))
    own, own_before = (each.masked_fill(~forbidden, -torch.inf).logsumexp(dim=1) for each in (found, wanted))
    others = (wanted.exp() * (wanted - found)).masked_fill(forbidden, 0).sum(dim=1)
    climbed = own_before.exp() * (own_before - own) + others * (own < own_before - ROUNDING)
    return climbed * (logit_gaps(logits, ~forbidden) < margin)


@dataclass
class _States:
    """Earlier states of the copy, each with the share of forget samples that it had right."""

    work: Workspace
    unseen: SampleSet
    kept: list[tuple[float, dict[str, Tensor]]] = field(default_factory=list)

    def keep(self, step: int) -> None:
        weights = {name: tensor.cpu().clone() for name, tensor in self.work.model.state_dict().items()}
        self.kept.append((accuracy_of(self.work, self.work.forget, step), weights))

    def rewind(self, step: int) -> float:
        """Return to the best state; return its accuracy on forget samples minus the final one on unseen samples."""
        reference = accuracy_of(self.work, self.unseen, step)
        self.keep(step)
        # The latest of equal states is taken: the first one is the given model, with nothing forgotten.
        share, weights = min(reversed(self.kept), key=lambda state: abs(state[0] - reference))
        self.work.model.load_state_dict(weights)
        return share - reference
