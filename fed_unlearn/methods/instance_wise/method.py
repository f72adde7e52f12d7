"""Instance-wise unlearning as a method: its hyper-parameters, and the objective and anchors that follow from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.holder import UNGUARDED
from fed_unlearn.logits import predict_logits
from fed_unlearn.methods.base import Applied, Method, Scope, Workspace
from fed_unlearn.methods.instance_wise.anchors import AnchorPool, AnchorSettings
from fed_unlearn.methods.instance_wise.keeping import Anchored, HeldParameters, Joint, Unkept
from fed_unlearn.methods.instance_wise.levels import Levels, find_levels
from fed_unlearn.methods.instance_wise.objectives import Misclassified, Objective
from fed_unlearn.methods.instance_wise.reference_training import ReferenceTraining
from fed_unlearn.methods.instance_wise.steps import InstanceSteps, StepSettings, forget_logits
from fed_unlearn.methods.parts.batches import cycle, trained_parameters
from fed_unlearn.methods.parts.labels import forbidden_classes, given_labels, random_allowed
from fed_unlearn.methods.parts.sample_gradients import synaptic_importance
from fed_unlearn.methods.parts.validation import BelowOne, require
from fed_unlearn.methods.registry import register
from fed_unlearn.settings import AboveZero, FromOne, FromZero, NotNegative


@register("instance-wise")
@dataclass(frozen=True, kw_only=True)
class InstanceWise(Method):
    """Misclassify or relabel each forget sample, or make it look unseen, and keep everything else as it is.

    With retained samples it minimises ``joint_weight * mean over forget samples of their loss + CE(retained samples)``.
    With anchors it minimises ``sum over forget samples of their loss + anchor_weight * mean over anchors of
    |f(x) - f0(x)|^2``. A sample's loss is ``max(0, margin - gap)``, where the gap is its largest allowed logit minus
    its largest other one. For ``"misclassify"``, every class but the sample's own and the excluded ones is allowed; for
    ``"relabel"``, only its new label. For ``"indistinguishable"``, the loss is the distance between the log-odds of the
    sample's own class and those that a model would have that never saw it.

    Parameters
    ----------
    goal : {"misclassify", "relabel", "indistinguishable"}, default "misclassify"
        The aim for each forget sample. ``"indistinguishable"`` needs unseen samples of the same classes.
    labels : int or sequence of int, optional
        New label of all samples, or one for each in the order of the forget set, for ``"relabel"``. Drawn at random
        among the allowed classes if none is given.
    loss : {"margin", "cross-entropy"}, default "margin"
        The loss of a forget sample. The paper uses the cross-entropy: ascended to misclassify, descended to relabel.
    stop_per_sample : bool, default True
        Whether a sample beyond its margin adds nothing to the loss. The paper keeps all samples in the loss until the
        last one is misclassified.
    margin : float, default 0.3
        Gap between logits from which the hinge loss of a sample is zero.
    targets : {"reference", "ranks"}, default "reference"
        What the log-odds of each sample should be, for ``"indistinguishable"``. ``"reference"`` reads the sample's
        place among unseen samples in a model that never saw it, and takes what the model that forgets gives to an
        unseen sample at that place. A sample that is harder than nine in ten unseen ones gets the reference's own
        log-odds. Samples that the model is less sure of than that rise to it. The reference is given, or trained on
        retained samples. ``"ranks"`` keeps the order of the samples and spreads them evenly among unseen ones; samples
        that were memorised although they are hard stay as they are, and none rises. It is used too where there are
        neither a reference nor retained samples.
    reference_blocks : int or None, default None
        Number of last blocks beside the head that a reference has anew. None means that the whole model is drawn anew,
        but for what it has frozen. What stays keeps what it knows of the samples, so give a number only for a model
        whose first blocks never saw them, such as a pretrained one.
    reference_epochs : int, default 8
        Passes over the retained samples to train a reference. It should be about as good as the model.
    lasting : bool, default False
        Whether a ``"misclassify"`` or ``"relabel"`` request is served again after each training that has brought its
        samples back, as long as they may be read, and guarded in the repair of others until then. It changes nothing of
        one call of the method.
    tolerance : float, default 0.5
        Largest mean distance between the samples' log-odds and their targets, for ``"indistinguishable"``.
    learning_rate : float, default 0.001
        Learning rate of SGD, without joint training.
    momentum : float, default 0.9
        Momentum of SGD.
    max_gradient_norm : float, default 5.0
        Longer gradients are scaled down to this norm. The first gradients are the longest, and their length differs
        between models by orders of magnitude.
    trained_layers : int, default 0
        Number of last convolutions and linear layers that are trained. 0 means all.
    max_steps : int, default 500
        Maximum number of steps, consolidation included.
    consolidation_steps : int, default 160
        Number of steps after every sample is settled. They win back what was lost before, with a falling learning rate.
    batch_size : int, default 64
        Maximum number of forget samples in one step.
    retained : {"joint", "anchors"}, default "joint"
        The use of retained samples, if there are any. ``"joint"`` trains on some of them in every step under their own
        labels, and BatchNorm statistics follow; anchors are then used only with ``adversarial``. ``"anchors"`` makes
        some of them anchors. It suits a client whose samples are few and unlike those of others.
    joint_learning_rate : float, default 0.01
        Learning rate of SGD in joint training.
    joint_gradient_norm : float, default 1.0
        Longer gradients of joint training are scaled down to this norm.
    joint_weight : float, default 0.1
        Weight of the forget samples' mean loss in joint training.
    joint_batch_size : int, default 128
        Retained samples in one step of joint training.
    anchor_weight : float, default 0.3
        Weight of the squared change of the logits on anchors. 0 means no anchors.
    anchor_batch_size : int, default 64
        Anchors in one step.
    retained_anchors : int, default 1024
        Maximum number of retained samples among the anchors.
    blends : int, default 32
        Number of anchors made from each forget sample by blending it with other images. They keep the model's outputs
        near the sample.
    adversarial : bool, default False
        Whether adversarial examples of the forget samples are anchors too (the paper's section 4.2). The paper trains
        on the class that they were searched for. Here they keep the original's logits, which contain that class.
    adversarial_examples : int, default 20
        Number of adversarial examples of each forget sample.
    adversarial_steps : int, default 100
        Number of steps in which an adversarial example is searched.
    adversarial_bound : float, default 4.0
        L2 norm of the whole change of an image, pixels in [0, 1].
    adversarial_step_size : float, default 0.1
        L2 norm of the change in one step.
    importance : bool, default False
        Whether parameters that are unimportant to the forget samples are held at their values (the paper's
        section 4.3).
    importance_weight : float, default 1.0
        The paper's lambda, in ``weight / 2 * sum (1 - importance) * (parameter - original)^2``.
    """

    paper: ClassVar[str] = "Cha et al., Learning to Unlearn, AAAI 2024"
    scopes: ClassVar[tuple[Scope, ...]] = ("sample", "class")
    needs: ClassVar[str] = "forget (retain, unseen)"
    inputs: ClassVar[str] = "any (images with adversarial)"

    goal: Literal["misclassify", "relabel", "indistinguishable"] = "misclassify"
    labels: int | Sequence[int] | None = None
    loss: Literal["margin", "cross-entropy"] = "margin"
    stop_per_sample: bool = True
    margin: AboveZero = 0.3
    targets: Literal["reference", "ranks"] = "reference"
    reference_blocks: FromZero | None = None
    reference_epochs: FromOne = 8
    lasting: bool = False
    tolerance: AboveZero = 0.5
    learning_rate: AboveZero = 1e-3
    momentum: BelowOne = 0.9
    max_gradient_norm: AboveZero = 5.0
    trained_layers: FromZero = 0
    max_steps: FromOne = 500
    consolidation_steps: FromZero = 160
    batch_size: FromOne = 64
    retained: Literal["joint", "anchors"] = "joint"
    joint_learning_rate: AboveZero = 1e-2
    joint_gradient_norm: AboveZero = 1.0
    joint_weight: AboveZero = 0.1
    joint_batch_size: FromOne = 128
    anchor_weight: NotNegative = 0.3
    anchor_batch_size: FromOne = 64
    retained_anchors: FromZero = 1024
    blends: FromZero = 32
    adversarial: bool = False
    adversarial_examples: FromOne = 20
    adversarial_bound: AboveZero = 4.0
    adversarial_step_size: AboveZero = 0.1
    adversarial_steps: FromOne = 100
    importance: bool = False
    importance_weight: NotNegative = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lasting and self.goal == "indistinguishable":
            raise InvalidParameterError(
                f"{self.name}: lasting = True was given; goal 'indistinguishable' teaches no label that could last"
            )
        if self.labels is not None:
            if self.goal != "relabel":
                raise InvalidParameterError(f"{self.name}: labels were given; goal {self.goal!r} takes none")
            labels = self.labels.tolist() if hasattr(self.labels, "tolist") else self.labels
            if isinstance(labels, Sequence) and not isinstance(labels, str):
                labels = tuple(labels)
            object.__setattr__(self, "labels", labels)
            for label in labels if isinstance(labels, tuple) else (labels,):
                require("labels", self.name, label, int, minimum=0)

    @property
    def attacks_inputs(self) -> bool:
        """True with adversarial examples."""
        return self.adversarial

    @property
    def reads_unseen(self) -> bool:
        """True for the goal ``"indistinguishable"``."""
        return self.goal == "indistinguishable"

    @property
    def reads_reference(self) -> bool:
        """True for the goal ``"indistinguishable"`` with targets of a reference."""
        return self.reads_unseen and self.targets == "reference"

    def stronger(self) -> Self:
        """Twice the steps before and after every sample is settled. More consolidation also keeps more of the rest."""
        return replace(self, max_steps=2 * self.max_steps, consolidation_steps=2 * self.consolidation_steps)

    def _apply(self, work: Workspace) -> Applied:
        before = predict_logits(work.original, work.forget).to(work.forget.labels.device)
        work.passes.add(forward=len(work.forget))
        levels = self._levels(work, before) if self.goal == "indistinguishable" else None
        objective = self._misclassified(work) if levels is None else levels.objective
        with trained_parameters(self.name, work.model, self.trained_layers, work.forget) as parameters:
            settled = objective.settled(before)
            steps = 0 if settled else self._steps(work, objective, parameters).take(parameters, before)
        logits = forget_logits(work, steps)
        guard_labels = self._guard_labels(work, objective, logits)
        standing = None if levels is None else levels.standing(logits)
        return Applied(objective.met(logits), steps, guard_labels.cpu(), standing)

    def _levels(self, work: Workspace, before: Tensor) -> Levels:
        reference = None
        if self.targets == "reference":
            reference = ReferenceTraining(
                blocks=self.reference_blocks, epochs=self.reference_epochs, precision=self.precision
            )
        return find_levels(self.name, work, before, self.tolerance, reference)

    def _misclassified(self, work: Workspace) -> Misclassified:
        return Misclassified(work.forget.labels, self._allowed(work), self.loss, self.margin, self.stop_per_sample)

    def _allowed(self, work: Workspace) -> Tensor:
        """The classes that each forget sample may be predicted as: bool of shape (n, classes)."""
        labels = work.forget.labels
        allowed = ~forbidden_classes(labels, work.excluded_classes, work.class_count)
        if self.goal == "misclassify":
            return allowed
        if self.labels is None:
            targets = random_allowed(labels, work.excluded_classes, work.class_count, work.generator)
        else:
            targets = given_labels(self.name, self.labels, allowed.cpu()).to(labels.device)
        return functional.one_hot(targets, work.class_count).bool()

    def _steps(self, work: Workspace, objective: Objective, parameters: list[nn.Parameter]) -> InstanceSteps:
        joint = self.retained == "joint" and work.retain is not None
        anchored = self._anchored(work) if self.adversarial or not joint else None
        held = None
        if self.importance:
            importance = synaptic_importance(work.model, work.forget, work.passes)
            held = HeldParameters.by(importance, work.model, parameters, self.importance_weight)
        settings = StepSettings(
            learning_rate=self.joint_learning_rate if joint else self.learning_rate,
            momentum=self.momentum,
            max_gradient_norm=self.joint_gradient_norm if joint else self.max_gradient_norm,
            batch_size=self.batch_size,
            max_steps=self.max_steps,
            consolidation_steps=self.consolidation_steps,
        )
        return InstanceSteps(
            method=self.name,
            work=work,
            objective=objective,
            keeping=self._joint(work, anchored) if joint else anchored or Unkept(),
            held=held,
            settings=settings,
        )

    def _joint(self, work: Workspace, anchored: Anchored | None) -> Joint:
        return Joint(cycle(work.retained, self.joint_batch_size, work.generator), self.joint_weight, anchored)

    def _anchored(self, work: Workspace) -> Anchored | None:
        settings = AnchorSettings(
            retained=self.retained_anchors,
            blends=self.blends,
            adversarial=self.adversarial_examples if self.adversarial else 0,
            adversarial_bound=self.adversarial_bound,
            adversarial_step_size=self.adversarial_step_size,
            adversarial_steps=self.adversarial_steps,
        )
        pool = AnchorPool.build(work, settings) if self.anchor_weight else None
        return None if pool is None else Anchored(pool, self.anchor_weight, self.anchor_batch_size)

    def _guard_labels(self, work: Workspace, objective: Objective, logits: Tensor) -> Tensor:
        if isinstance(objective, Misclassified):
            return logits.masked_fill(~objective.allowed, -torch.inf).argmax(dim=1)
        # A sample that looks unseen is often still predicted as its own class. No label guards that, and later
        # training on other samples may change it.
        return torch.full_like(work.forget.labels, UNGUARDED)
