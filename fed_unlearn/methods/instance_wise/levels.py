"""The level of each forget sample: how confident a model would be in it that never saw it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import InvalidDataError, UnlearningDivergedError
from fed_unlearn.logits import confidence, predict_logits
from fed_unlearn.methods.instance_wise.confidence import unseen_confidence
from fed_unlearn.methods.instance_wise.objectives import Indistinguishable
from fed_unlearn.methods.instance_wise.reference import ReferenceTargets
from fed_unlearn.methods.instance_wise.reference_training import ReferenceTraining
from fed_unlearn.methods.parts.workspace import SampleStanding, Workspace

LEAST_OF_MODEL = 0.8
"""A reference is used where its accuracy on samples that nobody trained on is at least this share of the model's."""

logger = logging.getLogger("fed_unlearn.methods")


@dataclass(frozen=True)
class Levels:
    """The levels of a forget set.

    Attributes
    ----------
    objective : Indistinguishable
        The aim, with the targets of all samples.
    by : {"reference", "ranks"}
        What the targets are known by.
    before : Tensor of shape (n,)
        The samples' log-odds in the given model.
    """

    objective: Indistinguishable
    by: Literal["reference", "ranks"]
    before: Tensor

    def standing(self, logits: Tensor) -> SampleStanding:
        """Where the samples stand whose logits, of shape (n, classes), these are."""
        limits, after = self.objective.limits, confidence(logits, self.objective.labels)
        return SampleStanding(self.by, limits.cpu(), self.before.cpu(), after.cpu())


def find_levels(
    name: str, work: Workspace, before: Tensor, tolerance: float, reference: ReferenceTraining | None
) -> Levels:
    """Find the level of each forget sample.

    Parameters
    ----------
    name : str
        Name of the method, for error messages.
    work : Workspace
        Workspace with unseen samples. Its reference is used if it has one.
    before : Tensor of shape (n, classes)
        The original's logits of the forget samples.
    tolerance : float
        Largest mean distance from the targets.
    reference : ReferenceTraining or None
        How a reference is trained where none was given and there are retained samples. None means that targets come
        from the samples' order beside unseen ones.

    Raises
    ------
    InvalidDataError
        If there are no unseen samples.
    """
    if work.unseen is None:
        raise InvalidDataError(
            f"{name}: no unseen samples were given; goal 'indistinguishable' needs some that the model was never"
            " trained on, of the classes in the forget set"
        )
    labels, of_unseen = work.forget.labels, _logits(work, work.original, work.unseen)
    members, known = confidence(before, labels), confidence(of_unseen, work.unseen.labels)
    told = None
    if reference is not None:
        told = _given(work, work.unseen) or _trained(name, work, work.unseen, reference, of_unseen)
    by: Literal["reference", "ranks"] = "ranks" if told is None else "reference"
    if told is None:
        # No target asks for more confidence than the model has: the sample would be learned again.
        targets = torch.minimum(unseen_confidence(members, labels, known, work.unseen.labels), members)
        limits = torch.full_like(targets, torch.inf)
    else:
        model, unseen = told
        found = ReferenceTargets.of(
            confidence(_logits(work, model, work.forget), labels),
            confidence(unseen, work.unseen.labels),
            known,
            tolerance,
        )
        # A sample that the model is less sure of than the reference rises: one that stays below stands out as well.
        targets, limits = found.targets, found.limits
    objective = Indistinguishable(labels, targets, limits, tolerance)
    return Levels(objective, by, members)


def _given(work: Workspace, unseen: SampleSet) -> tuple[nn.Module, Tensor] | None:
    """The reference that was given, and its logits of the unseen samples."""
    return None if work.reference is None else (work.reference, _logits(work, work.reference, unseen))


def _trained(
    name: str, work: Workspace, unseen: SampleSet, reference: ReferenceTraining, of_unseen: Tensor
) -> tuple[nn.Module, Tensor] | None:
    """A reference and its logits of the unseen samples; None where none can be trained that is good enough."""
    try:
        model = reference.trained(work)
    except UnlearningDivergedError as error:
        logger.warning("%s: %s; samples go by ranks", name, error)
        return None
    if model is None:
        return None
    logits = _logits(work, model, unseen)
    right, before = (_accuracy(each, unseen.labels) for each in (logits, of_unseen))
    if right < LEAST_OF_MODEL * before:
        logger.warning(
            "%s: the reference that was trained is right of %.3f of the unseen samples, and the model of %.3f:"
            " samples go by ranks; give a reference, or set reference_blocks or reference_epochs",
            name,
            right,
            before,
        )
        return None
    return model, logits


def _accuracy(logits: Tensor, labels: Tensor) -> float:
    return float((logits.argmax(dim=1) == labels).double().mean())


def _logits(work: Workspace, model: nn.Module, samples: SampleSet) -> Tensor:
    work.passes.add(forward=len(samples))
    return predict_logits(model, samples).to(samples.labels.device)
