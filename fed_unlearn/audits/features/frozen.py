"""The frozen features that audits of one class request read, checked, and cut to a bounded number of samples."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fed_unlearn.audits.observation import Observation
from fed_unlearn.audits.readings import Central, PartName, Readings
from fed_unlearn.errors import EmptySetError, InvalidModelError
from fed_unlearn.seeding import seeded_generator


@dataclass(frozen=True)
class Frozen:
    """Inputs of the output layer for some samples.

    Attributes
    ----------
    features : Tensor of shape (n, features), float64
    labels : Tensor of shape (n,), int64
    """

    features: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def at(self, positions: Tensor) -> Frozen:
        """The samples at some positions, int64 of shape (m,)."""
        return Frozen(self.features[positions], self.labels[positions])


def central_of(audit: str, seen: Observation) -> Central:
    """What can be read in one place.

    Raises
    ------
    EmptySetError
        If the model and the samples are not in one place.
    """
    if seen.central is None:
        raise EmptySetError(f"{audit}: the samples of a request are not in one place; expected an observation of all")
    return seen.central


def frozen(audit: str, readings: Readings, part: PartName) -> Frozen:
    """Features of one part of the data.

    Parameters
    ----------
    audit : str
        Name of the audit, for error messages.
    readings : Readings
    part : str
        ``"forget"``, ``"retain"``, ``"test_forget"`` or ``"test_retain"``.

    Raises
    ------
    EmptySetError
        If the part has no sample.
    InvalidModelError
        If a feature is not a finite number.
    """
    answers = readings.answers(part)
    if not len(answers.labels):
        raise EmptySetError(f"{audit}: part {part!r} has no sample; at least one was expected")
    if not torch.isfinite(answers.features).all():
        raise InvalidModelError(
            f"{audit}: {type(readings.model).__name__}: features before the output layer are not finite numbers"
        )
    return Frozen(answers.features.double(), answers.labels)


def drawn(count: int, most: int, *purpose: str | int) -> Tensor:
    """Positions of at most ``most`` of ``count`` samples, drawn by the seed of a purpose, in rising order."""
    if count <= most:
        return torch.arange(count)
    return torch.randperm(count, generator=seeded_generator(*purpose))[:most].sort().values
