"""The aims of instance-wise unlearning: the loss of each forget sample, and when it needs no more steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from fed_unlearn.logits import confidence, logit_gaps

# A sample counts as settled from this share of the margin on, because anchors keep a hinge from reaching zero.
SETTLED_SHARE = 0.2


class Objective(Protocol):
    """An aim for all samples of a forget set. Positions in the forget set name the samples of a batch."""

    def losses(self, logits: Tensor, positions: Tensor) -> Tensor:
        """Loss of each sample of a batch, of shape (n,), from its logits, of shape (n, classes)."""
        ...

    def settled(self, logits: Tensor) -> bool:
        """Whether no sample needs more steps. ``logits`` are those of the whole forget set, of shape (n, classes)."""
        ...

    def met(self, logits: Tensor) -> bool:
        """Whether the logits of the whole forget set, of shape (n, classes), meet the aim."""
        ...


@dataclass(frozen=True)
class Misclassified:
    """The aim that the model predicts an allowed class, by a margin.

    Attributes
    ----------
    labels : Tensor of shape (n,), int64
        Each sample's own class, as an index.
    allowed : Tensor of shape (n, classes), bool
        The classes that each sample may be predicted as.
    loss : {"margin", "cross-entropy"}
        ``"margin"`` is a hinge. ``"cross-entropy"`` is ascended for a sample's own class if several classes are
        allowed, and descended for the allowed class if there is only one.
    margin : float
        Gap between the largest allowed logit and the largest other one.
    stop_per_sample : bool
        Whether a sample beyond the margin adds nothing to the loss.
    """

    labels: Tensor
    allowed: Tensor
    loss: Literal["margin", "cross-entropy"]
    margin: float
    stop_per_sample: bool

    def losses(self, logits: Tensor, positions: Tensor) -> Tensor:
        """See :class:`Objective`."""
        allowed = self.allowed[positions]
        gaps = logit_gaps(logits, allowed)
        if self.loss == "margin":
            return functional.relu(self.margin - gaps) if self.stop_per_sample else -gaps
        wanted = logits.masked_fill(~allowed, -torch.inf).logsumexp(dim=1) - logits.logsumexp(dim=1)
        towards = -wanted
        away = -functional.cross_entropy(logits, self.labels[positions], reduction="none")
        losses = torch.where(allowed.sum(dim=1) == 1, towards, away)
        return losses * (gaps.detach() < self.margin) if self.stop_per_sample else losses

    def settled(self, logits: Tensor) -> bool:
        """Whether the gap of every sample is at least :data:`SETTLED_SHARE` of the margin."""
        return bool((logit_gaps(logits, self.allowed) >= SETTLED_SHARE * self.margin).all())

    def met(self, logits: Tensor) -> bool:
        """Whether every sample is predicted as an allowed class."""
        return bool(self.allowed.gather(1, logits.argmax(dim=1, keepdim=True)).all())


@dataclass(frozen=True)
class Indistinguishable:
    """The aim that the model is as confident in each sample's own class as it would be in an unseen sample's.

    Attributes
    ----------
    labels : Tensor of shape (n,), int64
        Each sample's own class, as an index.
    targets : Tensor of shape (n,)
        Log-odds that each sample's own class should have.
    limits : Tensor of shape (n,)
        Confidence from which on a sample stands too high, whatever the others do. Infinite where none is known.
    tolerance : float
        Largest mean distance between the confidences and their targets.
    """

    labels: Tensor
    targets: Tensor
    limits: Tensor
    tolerance: float

    def losses(self, logits: Tensor, positions: Tensor) -> Tensor:
        """Distance of each sample from its target; see :class:`Objective`."""
        return (confidence(logits, self.labels[positions]) - self.targets[positions]).abs()

    def settled(self, logits: Tensor) -> bool:
        """The same as :meth:`met`."""
        return self.met(logits)

    def met(self, logits: Tensor) -> bool:
        """Whether the mean distance is within the tolerance, and no sample stands too high.

        The mean signed distance must be within half of the tolerance.
        """
        distances = confidence(logits, self.labels) - self.targets
        # Members start above their targets. If all stayed a little above, they could be told from unseen samples.
        mean, bias = torch.stack([distances.abs().mean(), distances.mean().abs()]).tolist()
        return bool(mean <= self.tolerance and bias <= self.tolerance / 2) and not self.count_above(logits)

    def count_above(self, logits: Tensor) -> int:
        """Number of samples above their limits. ``logits`` are those of the whole forget set."""
        return int((confidence(logits, self.labels) > self.limits).sum())
