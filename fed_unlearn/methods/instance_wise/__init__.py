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

from fed_unlearn.errors import InvalidDataError, InvalidParameterError, UnlearningDivergedError
from fed_unlearn.guard import UNGUARDED
from fed_unlearn.logits import confidence, predict_logits
from fed_unlearn.methods.base import Applied, Method, Scope, Workspace
from fed_unlearn.methods.instance_wise.anchors import AnchorPool, AnchorSettings
from fed_unlearn.methods.instance_wise.objectives import Indistinguishable, Misclassified, Objective
from fed_unlearn.methods.parts.batches import cycle
from fed_unlearn.methods.parts.confidence import unseen_confidence
from fed_unlearn.methods.parts.keeping import Anchored, Joint, Keeping, Unkept
from fed_unlearn.methods.parts.labels import (
    forbidden_classes,
    given_labels,
    random_allowed,
)
from fed_unlearn.methods.parts.sample_gradients import HeldParameters, synaptic_importance
from fed_unlearn.methods.parts.trained import trained_parameters
from fed_unlearn.methods.parts.validation import require, require_choice
from fed_unlearn.methods.registry import register

CHECK_INTERVAL = 2  # steps between two looks at the samples, each of which waits for the device
SLOWEST = 0.1  # share of the learning rate that is left when consolidation ends: a sample may still have to be moved


@register("instance-wise")
@dataclass(frozen=True, kw_only=True)
class InstanceWise(Method):
    """Misclassify or relabel each forget sample, or make it look unseen, and leave everything else as it is.

    Minimises ``sum over forget samples of their loss + anchor_weight * mean over anchors of |f(x) - f0(x)|^2``, or,
    with retained samples, ``joint_weight * mean over forget samples of their loss + CE(retained samples)``. With
    the gap between the largest allowed logit and the largest other one, a sample's loss is ``max(0, margin - gap)``.
    Allowed is, for ``"misclassify"``, every class but the sample's own and the excluded ones; for ``"relabel"``, its
    new label. For ``"indistinguishable"`` the loss is the distance between the log-odds of the sample's own class and
    those that an unseen sample as difficult would have.

    Parameters
    ----------
    goal : {"misclassify", "relabel", "indistinguishable"}, default "misclassify"
        ``"indistinguishable"`` needs unseen samples of the same classes.
    labels : int or sequence of int, optional
        For ``"relabel"``: the new label of all samples, or one a sample in the forget set's order. Drawn at random
        among the allowed classes where none is given.
    loss : {"margin", "cross-entropy"}, default "margin"
        The paper's is the cross-entropy: ascended to misclassify, descended towards a new label.
    stop_per_sample : bool, default True
        A sample beyond its margin adds nothing to the loss. The paper's procedure has no such bound: it goes on with
        all samples until the last of them is misclassified.
    margin : float, default 0.3
        The hinge of a sample is zero from this gap between logits on.
    tolerance : float, default 0.5
        For ``"indistinguishable"``: log-odds this near to the samples' targets, on average, are near enough.
    learning_rate : float, default 0.001
        Of SGD, where there is no joint training.
    momentum : float, default 0.9
        Of SGD.
    max_gradient_norm : float, default 5.0
        Longer gradients are scaled down to it: the first ones, of samples still recognised, are the longest, and
        their length differs between models by orders of magnitude.
    trained_layers : int, default 0
        So many of the last convolutions and linear layers are trained; 0 for all.
    max_steps : int, default 500
        Bound on all steps.
    consolidation_steps : int, default 160
        Steps at which every sample is settled already, to win back what was lost on the way; the learning rate falls
        meanwhile.
    batch_size : int, default 64
        Most forget samples in one step.
    retained : {"joint", "anchors"}, default "joint"
        What retained samples are for, where there are any. ``"joint"``: every step trains on some under their own
        labels, and BatchNorm statistics follow; there are anchors only where ``adversarial`` is set. ``"anchors"``: a
        few are among the anchors; fit for a client whose samples are few, and unlike those of others.
    joint_learning_rate : float, default 0.01
        Of SGD in joint training.
    joint_gradient_norm : float, default 1.0
        Longer gradients of joint training are scaled down to it.
    joint_weight : float, default 0.1
        Weight of the forget samples' mean loss in joint training.
    joint_batch_size : int, default 128
        Retained samples in one step of joint training.
    anchor_weight : float, default 0.3
        Weight of the squared change of the logits on anchors; 0 for no anchors.
    anchor_batch_size : int, default 64
        Anchors in one step.
    retained_anchors : int, default 1024
        At most so many retained samples are anchors, where there are any.
    blends : int, default 32
        Anchors made of each forget sample by blending it with another image, which keep its change local.
    adversarial : bool, default False
        Adversarial examples of the forget samples are anchors too (the paper's section 4.2). The paper trains on the
        class that they were made for; here they keep the original's logits, which say that and more.
    adversarial_examples : int, default 20
        Of each forget sample.
    adversarial_steps : int, default 100
        In which each of them is searched.
    adversarial_bound : float, default 4.0
        L2 norm of the whole change of an image, pixels in [0, 1].
    adversarial_step_size : float, default 0.1
        L2 norm of the change in one step.
    importance : bool, default False
        Parameters that matter little to the forget samples are held at their values (the paper's section 4.3).
    importance_weight : float, default 1.0
        The paper's lambda, of ``weight / 2 * sum (1 - importance) * (parameter - original)^2``.
    """

    paper: ClassVar[str] = "Cha et al., Learning to Unlearn, AAAI 2024"
    scopes: ClassVar[tuple[Scope, ...]] = ("sample", "class")
    needs: ClassVar[str] = "forget (retain, unseen)"

    goal: Literal["misclassify", "relabel", "indistinguishable"] = "misclassify"
    labels: int | Sequence[int] | None = None
    loss: Literal["margin", "cross-entropy"] = "margin"
    stop_per_sample: bool = True
    margin: float = 0.3
    tolerance: float = 0.5
    learning_rate: float = 1e-3
    momentum: float = 0.9
    max_gradient_norm: float = 5.0
    trained_layers: int = 0
    max_steps: int = 500
    consolidation_steps: int = 160
    batch_size: int = 64
    retained: Literal["joint", "anchors"] = "joint"
    joint_learning_rate: float = 1e-2
    joint_gradient_norm: float = 1.0
    joint_weight: float = 0.1
    joint_batch_size: int = 128
    anchor_weight: float = 0.3
    anchor_batch_size: int = 64
    retained_anchors: int = 1024
    blends: int = 32
    adversarial: bool = False
    adversarial_examples: int = 20
    adversarial_bound: float = 4.0
    adversarial_step_size: float = 0.1
    adversarial_steps: int = 100
    importance: bool = False
    importance_weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("goal", self.name, self.goal, ("misclassify", "relabel", "indistinguishable"))
        require_choice("retained", self.name, self.retained, ("joint", "anchors"))
        require_choice("loss", self.name, self.loss, ("margin", "cross-entropy"))
        if self.labels is not None:
            if self.goal != "relabel":
                raise InvalidParameterError(f"{self.name}: labels were given; goal {self.goal!r} takes none")
            labels = self.labels.tolist() if hasattr(self.labels, "tolist") else self.labels
            if isinstance(labels, Sequence) and not isinstance(labels, str):
                labels = tuple(labels)
            object.__setattr__(self, "labels", labels)
            for label in labels if isinstance(labels, tuple) else (labels,):
                require("labels", self.name, label, int, minimum=0)
        for name in ("stop_per_sample", "adversarial", "importance"):
            require(name, self.name, getattr(self, name), bool)
        for name in ("margin", "tolerance", "learning_rate", "max_gradient_norm"):
            require(name, self.name, getattr(self, name), float, above=0)
        for name in ("joint_learning_rate", "joint_gradient_norm", "joint_weight"):
            require(name, self.name, getattr(self, name), float, above=0)
        for name in ("adversarial_bound", "adversarial_step_size"):
            require(name, self.name, getattr(self, name), float, above=0)
        for name in ("anchor_weight", "importance_weight"):
            require(name, self.name, getattr(self, name), float, minimum=0)
        for name in ("max_steps", "batch_size", "joint_batch_size", "anchor_batch_size"):
            require(name, self.name, getattr(self, name), int, minimum=1)
        for name in ("adversarial_examples", "adversarial_steps"):
            require(name, self.name, getattr(self, name), int, minimum=1)
        for name in ("trained_layers", "consolidation_steps", "retained_anchors", "blends"):
            require(name, self.name, getattr(self, name), int, minimum=0)
        require("momentum", self.name, self.momentum, float, minimum=0, below=1)

    @property
    def reads_unseen(self) -> bool:
        """For ``"indistinguishable"``."""
        return self.goal == "indistinguishable"

    def stronger(self) -> Self:
        """Twice the steps, until every sample is settled and after: more of them also keep more of the rest."""
        return replace(self, max_steps=2 * self.max_steps, consolidation_steps=2 * self.consolidation_steps)

    def _apply(self, work: Workspace) -> Applied:
        device = work.forget.labels.device
        before = predict_logits(work.original, work.forget).to(device)
        work.passes.add(forward=len(work.forget))
        objective = self._objective(work, before)
        with trained_parameters(self.name, work.model, self.trained_layers) as parameters:
            steps = 0 if objective.settled(before) else self._descend(work, objective, before, parameters)
        logits = self._logits(work, steps)
        guard_labels = self._guard_labels(work, objective, logits)
        return Applied(converged=objective.met(logits), steps=steps, guard_labels=guard_labels.cpu())

    def _logits(self, work: Workspace, step: int) -> Tensor:
        """Of the forget set, after a step."""
        work.passes.add(forward=len(work.forget))
        logits = predict_logits(work.model, work.forget)
        if not bool(torch.isfinite(logits).all()):
            raise UnlearningDivergedError(
                f"the outputs are not finite at step {step}; the given model is unchanged: try a smaller learning rate"
            )
        return logits.to(work.forget.labels.device)

    def _objective(self, work: Workspace, before: Tensor) -> Objective:
        labels = work.forget.labels
        if self.goal == "indistinguishable":
            if work.unseen is None:
                raise InvalidDataError(
                    f"{self.name}: no unseen samples were given; goal 'indistinguishable' needs some that the model was"
                    " never trained on, of the classes in the forget set"
                )
            logits = predict_logits(work.original, work.unseen).to(labels.device)
            work.passes.add(forward=len(work.unseen))
            known = confidence(logits, work.unseen.labels)
            members = confidence(before, labels)
            targets = unseen_confidence(members, labels, known, work.unseen.labels)
            # A few unseen samples tell roughly how sure a model would be, and never that it should be surer than it is.
            targets = torch.minimum(targets, members)
            return Indistinguishable(labels, targets, self.tolerance)
        return Misclassified(labels, self._allowed(work), self.loss, self.margin, self.stop_per_sample)

    def _allowed(self, work: Workspace) -> Tensor:
        """Which classes each forget sample may end as: bool of shape (n, classes)."""
        labels = work.forget.labels
        allowed = ~forbidden_classes(labels, work.excluded_classes, work.class_count)
        if self.goal == "misclassify":
            return allowed
        if self.labels is None:
            targets = random_allowed(labels, work.excluded_classes, work.class_count, work.generator)
        else:
            targets = given_labels(self.name, self.labels, allowed.cpu()).to(labels.device)
        return functional.one_hot(targets, work.class_count).bool()

    def _descend(self, work: Workspace, objective: Objective, before: Tensor, parameters: list[nn.Parameter]) -> int:
        """Take the steps, from a model that gives the logits ``before``; how many were taken."""
        joint = self.retained == "joint" and work.retain is not None
        anchored = self._anchored(work) if self.adversarial or not joint else None
        keeping = self._joint(work, anchored) if joint else anchored or Unkept()
        rate, bound = self.learning_rate, self.max_gradient_norm
        if joint:
            rate, bound = self.joint_learning_rate, self.joint_gradient_norm
        optimizer = torch.optim.SGD(parameters, lr=rate, momentum=self.momentum)
        held = None
        if self.importance:
            held = HeldParameters.by(synaptic_importance(work.model, work.forget, work.passes), work.model, parameters)
        latest, settled_steps, losses = before.clone(), 0, list[Tensor]()
        trained, looked_at = 0, -len(work.forget)
        forget_batches = cycle(work.forget, self.batch_size, work.generator)
        for step in range(1, self.max_steps + 1):
            positions, images, _ = next(forget_batches)
            logits, kept = keeping.forward(work, images)
            loss = keeping.weighed(objective.losses(logits, positions)) + kept
            latest[positions] = logits.detach().float()
            if held is not None:
                loss = loss + self.importance_weight / 2 * held.penalty()
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(parameters, bound)
            optimizer.step()
            losses.append(loss.detach())
            trained += len(positions)
            if step % CHECK_INTERVAL and step < self.max_steps:
                continue
            self._check_losses(losses, step)
            losses.clear()
            if objective.settled(latest):
                settled_steps += CHECK_INTERVAL
                for group in optimizer.param_groups:
                    group["lr"] = rate * max(SLOWEST, 1 - settled_steps / (self.consolidation_steps + CHECK_INTERVAL))
                # The last step may have moved a sample back again. All are read at most once for every time that as
                # many were trained on.
                if settled_steps > self.consolidation_steps and trained - looked_at >= len(work.forget):
                    looked_at = trained
                    if objective.met(self._logits(work, step)):
                        return step
        return self.max_steps

    def _joint(self, work: Workspace, anchored: Anchored | None) -> Keeping:
        return Joint(cycle(work.retained, self.joint_batch_size, work.generator), self.joint_weight, anchored)

    def _anchored(self, work: Workspace) -> Anchored | None:
        pool = AnchorPool.build(work, self._anchor_settings()) if self.anchor_weight else None
        return None if pool is None else Anchored(pool, self.anchor_weight, self.anchor_batch_size)

    def _anchor_settings(self) -> AnchorSettings:
        return AnchorSettings(
            retained=self.retained_anchors,
            blends=self.blends,
            adversarial=self.adversarial_examples if self.adversarial else 0,
            adversarial_bound=self.adversarial_bound,
            adversarial_step_size=self.adversarial_step_size,
            adversarial_steps=self.adversarial_steps,
        )

    def _guard_labels(self, work: Workspace, objective: Objective, logits: Tensor) -> Tensor:
        if isinstance(objective, Misclassified):
            return logits.masked_fill(~objective.allowed, -torch.inf).argmax(dim=1)
        # A sample that looks unseen is as often called by its own class as unseen ones are: no label guards that, and
        # what training on others makes of it is what it should become.
        return torch.full_like(work.forget.labels, UNGUARDED)
