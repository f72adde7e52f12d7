"""The level of each forget sample: how confident a model would be in it that never saw it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import InvalidDataError
from fed_unlearn.logits import confidence, predict_logits
from fed_unlearn.methods.instance_wise.confidence import unseen_confidence
from fed_unlearn.methods.instance_wise.objectives import Indistinguishable
from fed_unlearn.methods.instance_wise.reference import ReferenceTargets
from fed_unlearn.methods.parts.workspace import SampleStanding, Workspace
from fed_unlearn.methods.reset_and_relearn import ResetAndRelearn


@dataclass(frozen=True)
class Levels:
    """The levels of a forget set.

    Attributes
    ----------
    objective : Indistinguishable
        With the targets of all samples.
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
    name: str, work: Workspace, before: Tensor, tolerance: float, reference: ResetAndRelearn | None
) -> Levels:
    """Find the level of each forget sample.

    Parameters
    ----------
    name : str
        Of the method, for error messages.
    work : Workspace
        With unseen samples. Its reference is used if it has one.
    before : Tensor of shape (n, classes)
        The original's logits of the forget samples.
    tolerance : float
        Largest mean distance from the targets.
    reference : ResetAndRelearn or None
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
    labels = work.forget.labels
    members, known = confidence(before, labels), _confidence(work, work.original, work.unseen)
    model = None if reference is None else work.reference or _trained(work, reference)
    by: Literal["reference", "ranks"] = "ranks" if model is None else "reference"
    if model is None:
        targets = unseen_confidence(members, labels, known, work.unseen.labels)
        limits = torch.full_like(targets, torch.inf)
    else:
        found = ReferenceTargets.of(
            _confidence(work, model, work.forget), _confidence(work, model, work.unseen), known, tolerance
        )
        targets, limits = found.targets, found.limits
    # No target may ask for more confidence than the model has: the sample would be learned again.
    objective = Indistinguishable(labels, torch.minimum(targets, members), limits, tolerance)
    return Levels(objective, by, members)


def _trained(work: Workspace, reference: ResetAndRelearn) -> nn.Module | None:
    """The original with its last blocks trained anew on retained samples; None where there are none."""
    if work.retain is None:
        return None
    outcome = reference.unlearn(
        work.original, work.forget, work.retain, excluded_classes=work.excluded_classes, generator=work.generator
    )
    work.passes.add(forward=outcome.forward_passes, backward=outcome.backward_passes)
    return outcome.model


def _confidence(work: Workspace, model: nn.Module, samples: SampleSet) -> Tensor:
    work.passes.add(forward=len(samples))
    return confidence(predict_logits(model, samples).to(samples.labels.device), samples.labels)
