"""Instance-wise unlearning (Cha et al., "Learning to Unlearn", AAAI 2024), bounded per sample.

Single samples are taught to be called something else while the model's outputs on all other images stay. The paper
ascends the cross-entropy, which has no bound and takes the model with it; here every sample has a hinge that vanishes
once it is misclassified by a margin. What keeps the rest is to go on after that point: the steps that follow hold the
samples where they are and pull the outputs on anchor images back to those of the original model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from fed_unlearn.data.images import Samples
from fed_unlearn.errors import InvalidModelError, InvalidParameterError
from fed_unlearn.inference import predict_logits
from fed_unlearn.methods import register
from fed_unlearn.methods.anchors import AnchorPool
from fed_unlearn.methods.base import Applied, Method, Scope, Workspace
from fed_unlearn.methods.labels import require_allowed_labels
from fed_unlearn.methods.validation import require, require_choice

# A sample counts as settled at this share of the margin: a hinge that anchors pull at never quite reaches its end.
SETTLED_SHARE = 0.2


@register("instance-wise")
@dataclass(frozen=True, kw_only=True)
class InstanceWise(Method):
    """Misclassify, or relabel, each forget sample and leave everything else as it is.

    Minimises ``sum over forget samples of max(0, margin - gap) + anchor_weight * mean over anchors of
    |f(x) - f0(x)|^2``, where the gap is the largest allowed logit minus the largest other one. Allowed is, for
    ``"misclassify"``, every class but the sample's own and the excluded ones; for ``"relabel"``, its new label.

    Parameters
    ----------
    goal : {"misclassify", "relabel"}, default "misclassify"
    labels : int or sequence of int, optional
        For ``"relabel"``: the new label of all samples, or one a sample in the forget set's order. Drawn at random
        among the allowed classes where none is given.
    margin : float, default 0.1
        The hinge of a sample is zero from this gap between logits on.
    learning_rate, momentum : float
        Of SGD.
    max_gradient_norm : float, default 5.0
        Longer gradients are scaled down to it: the first ones, of samples still recognised, are the longest, and
        their length differs between models by orders of magnitude.
    max_steps : int, default 100
        Bound on all steps.
    consolidation_steps : int, default 30
        Steps at which every sample is settled already, for the anchors to win back what was lost on the way.
    batch_size : int, default 64
        Most forget samples in one step.
    anchor_weight : float, default 0.3
        Weight of the squared change of the logits on anchors; 0 for no anchors.
    anchor_batch_size : int, default 64
        Anchors in one step.
    retained_anchors : int, default 256
        At most so many retained samples are anchors, where there are any.
    blends : int, default 32
        Anchors made of each forget sample by blending it with another image, which keep its change local.
    """

    paper: ClassVar[str] = "Cha et al., Learning to Unlearn, AAAI 2024"
    scopes: ClassVar[tuple[Scope, ...]] = ("sample", "class")
    needs: ClassVar[str] = "forget (retain)"

    goal: Literal["misclassify", "relabel"] = "misclassify"
    labels: int | Sequence[int] | None = None
    margin: float = 0.1
    learning_rate: float = 1e-3
    momentum: float = 0.9
    max_gradient_norm: float = 5.0
    max_steps: int = 100
    consolidation_steps: int = 30
    batch_size: int = 64
    anchor_weight: float = 0.3
    anchor_batch_size: int = 64
    retained_anchors: int = 256
    blends: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("goal", self.name, self.goal, ("misclassify", "relabel"))
        if self.labels is not None:
            if self.goal != "relabel":
                raise InvalidParameterError(f"{self.name}: labels were given; goal {self.goal!r} takes none")
            if isinstance(self.labels, Sequence) and not isinstance(self.labels, str):
                object.__setattr__(self, "labels", tuple(self.labels))
            for label in self.labels if isinstance(self.labels, tuple) else (self.labels,):
                require("labels", self.name, label, int, minimum=0)
        require("margin", self.name, self.margin, float, above=0)
        require("learning_rate", self.name, self.learning_rate, float, above=0)
        require("momentum", self.name, self.momentum, float, minimum=0, below=1)
        require("max_gradient_norm", self.name, self.max_gradient_norm, float, above=0)
        require("max_steps", self.name, self.max_steps, int, minimum=1)
        require("consolidation_steps", self.name, self.consolidation_steps, int, minimum=0)
        require("batch_size", self.name, self.batch_size, int, minimum=1)
        require("anchor_weight", self.name, self.anchor_weight, float, minimum=0)
        require("anchor_batch_size", self.name, self.anchor_batch_size, int, minimum=1)
        require("retained_anchors", self.name, self.retained_anchors, int, minimum=0)
        require("blends", self.name, self.blends, int, minimum=0)

    def stronger(self) -> Self:
        """Twice the steps, until every sample is settled and after: more of them also keep more of the rest."""
        return replace(self, max_steps=2 * self.max_steps, consolidation_steps=2 * self.consolidation_steps)

    def _apply(self, work: Workspace) -> Applied:
        require_allowed_labels(self.name, work.forget.labels, work.excluded_classes, work.class_count)
        samples = work.forget
        allowed = self._allowed(work)
        steps = self._descend(work, samples, allowed)
        logits = predict_logits(work.model, samples)
        work.passes.add(forward=len(samples))
        guard_labels = logits.masked_fill(~allowed, -torch.inf).argmax(dim=1)
        return Applied(
            converged=bool((logits.argmax(dim=1) == guard_labels).all()), steps=steps, guard_labels=guard_labels
        )

    def _allowed(self, work: Workspace) -> Tensor:
        """Which classes each forget sample may end as: bool of shape (n, classes)."""
        labels = work.forget.labels.cpu()
        allowed = torch.ones(len(labels), work.class_count, dtype=torch.bool)
        allowed[:, sorted(work.excluded_classes)] = False
        allowed.scatter_(1, labels.unsqueeze(1), False)
        if self.goal == "misclassify":
            return allowed
        if self.labels is None:
            targets = torch.multinomial(allowed.float(), 1, generator=work.generator).squeeze(1)
        else:
            targets = self._given_targets(allowed)
        return functional.one_hot(targets, work.class_count).bool()

    def _given_targets(self, allowed: Tensor) -> Tensor:
        count, class_count = allowed.shape
        given = self.labels if isinstance(self.labels, tuple) else (self.labels,) * count
        if len(given) != count:
            raise InvalidParameterError(f"{self.name}: {len(given)} labels were given for {count} forget samples")
        for position, label in enumerate(given):
            if not 0 <= label < class_count or not allowed[position, label]:
                choices = allowed[position].nonzero().flatten().tolist()
                raise InvalidParameterError(
                    f"{self.name}: labels[{position}] = {label} was given; allowed for that sample is one of {choices}"
                )
        return torch.tensor(given, dtype=torch.int64)

    def _descend(self, work: Workspace, samples: Samples, allowed: Tensor) -> int:
        """Take the steps; how many were taken."""
        parameters = [parameter for parameter in work.model.parameters() if parameter.requires_grad]
        if not parameters:
            raise InvalidModelError(f"{self.name}: the model has no parameter that may be trained")
        optimizer = torch.optim.SGD(parameters, lr=self.learning_rate, momentum=self.momentum)
        gaps = logit_gaps(predict_logits(work.model, samples), allowed)
        work.passes.add(forward=len(samples))
        settled_at = SETTLED_SHARE * self.margin
        if bool((gaps >= settled_at).all()):
            return 0
        anchors = AnchorPool.build(work, self.retained_anchors, self.blends) if self.anchor_weight else None
        settled_steps, batches = 0, list[Tensor]()
        for step in range(1, self.max_steps + 1):
            if not batches:
                batches = list(torch.randperm(len(samples), generator=work.generator).split(self.batch_size))
            indices = batches.pop()
            loss, gaps[indices] = self._loss(work, samples.batch(indices)[0], allowed[indices], anchors)
            if bool((gaps >= settled_at).all()):
                settled_steps += 1
                if settled_steps > self.consolidation_steps:
                    return step - 1
            self._check_finite(loss.detach(), step)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(parameters, self.max_gradient_norm)
            optimizer.step()
            work.passes.add(backward=len(indices) + (self.anchor_batch_size if anchors else 0))
        return self.max_steps

    def _loss(
        self, work: Workspace, images: Tensor, allowed: Tensor, anchors: AnchorPool | None
    ) -> tuple[Tensor, Tensor]:
        """The loss of one step, and the gaps of its forget samples on the CPU."""
        gaps = logit_gaps(work.model(images), allowed.to(images.device))
        loss = functional.relu(self.margin - gaps).sum()
        work.passes.add(forward=len(images))
        if anchors is not None:
            anchor_images, before = anchors.draw(self.anchor_batch_size, work.generator)
            change = work.model(anchor_images) - before
            loss = loss + self.anchor_weight * change.square().sum(dim=1).mean()
            work.passes.add(forward=len(anchor_images))
        return loss, gaps.detach().cpu()


def logit_gaps(logits: Tensor, allowed: Tensor) -> Tensor:
    """Largest allowed logit minus the largest other one.

    Parameters
    ----------
    logits : Tensor of shape (n, classes)
    allowed : Tensor of shape (n, classes), bool
        With an allowed and another class in every row.

    Returns
    -------
    Tensor of shape (n,)
        Above 0 where the predicted class is an allowed one.
    """
    best = logits.masked_fill(~allowed, -torch.inf).amax(dim=1)
    return best - logits.masked_fill(allowed, -torch.inf).amax(dim=1)
