"""What instance-wise unlearning asks of each forget sample, and when a sample has got there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from fed_unlearn.logits import confidence, logit_gaps

# A sample counts as settled at this share of the margin: a hinge that anchors pull at never quite reaches its end.
SETTLED_SHARE = 0.2


class Objective(Protocol):
    """Of all samples of a forget set; those of a batch are named by their positions in it."""

    def losses(self, logits: Tensor, positions: Tensor) -> Tensor:
        """Loss of each sample, shape (n,), given logits of shape (n, classes)."""
        ...

    def settled(self, logits: Tensor) -> bool:
        """Whether no sample needs more, by the logits of the whole forget set, of shape (n, classes)."""
        ...

    def met(self, logits: Tensor) -> bool:
        """Whether those logits are what was asked for."""
        ...


@dataclass(frozen=True)
class Misclassified:
    """Some allowed class is predicted, by a margin.

    Attributes
    ----------
    labels : Tensor of shape (n,), int64
        The samples' own classes.
    allowed : Tensor of shape (n, classes), bool
        Which classes each sample may end as.
    loss : {"margin", "cross-entropy"}
        The margin's hinge, or the cross-entropy: away from the own class where several classes are allowed, towards
        the only one that is.
    margin : float
        Between logits.
    stop_per_sample : bool
        Whether a sample adds nothing to the loss once it is beyond its margin.
    """

    labels: Tensor
    allowed: Tensor
    loss: Literal["margin", "cross-entropy"]
    margin: float
    stop_per_sample: bool

    def losses(self, logits: Tensor, positions: Tensor) -> Tensor:
        """Loss of each sample; see :class:`Objective`."""
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
        """Every sample is beyond a share of the margin; see :class:`Objective`."""
        return bool((logit_gaps(logits, self.allowed) >= SETTLED_SHARE * self.margin).all())

    def met(self, logits: Tensor) -> bool:
        """Every sample is predicted as an allowed class."""
        return bool(self.allowed.gather(1, logits.argmax(dim=1, keepdim=True)).all())


@dataclass(frozen=True)
class Indistinguishable:
    """The model is as sure of each sample's own class as a given confidence says.

    Attributes
    ----------
    labels : Tensor of shape (n,), int64
    targets : Tensor of shape (n,)
        From :func:`~fed_unlearn.methods.parts.confidence.unseen_confidence`.
    tolerance : float
        Samples must be this near to their targets on average.
    """

    labels: Tensor
    targets: Tensor
    tolerance: float

    def losses(self, logits: Tensor, positions: Tensor) -> Tensor:
        """How far each sample is from its target; see :class:`Objective`."""
        return (confidence(logits, self.labels[positions]) - self.targets[positions]).abs()

    def settled(self, logits: Tensor) -> bool:
        """As :meth:`met`."""
        return self.met(logits)

    def met(self, logits: Tensor) -> bool:
        """Within the tolerance on average, and within half of it with distances above and below set off."""
        distances = confidence(logits, self.labels) - self.targets
        # Members come from above: all a little too sure would still tell them from unseen samples.
        mean, bias = torch.stack([distances.abs().mean(), distances.mean().abs()]).tolist()
        return bool(mean <= self.tolerance and bias <= self.tolerance / 2)
