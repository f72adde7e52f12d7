"""Nearest class mean: is a forgotten class recognised by the mean feature of a few of its samples, without training?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch.nn import functional

from fed_unlearn.audits.base import AUDITS, CentralAudit, Measured, Observation
from fed_unlearn.audits.features.few_samples import SIZES, few_samples, of_size
from fed_unlearn.audits.features.frozen import central_of, frozen
from fed_unlearn.audits.features.shares import balanced_accuracy
from fed_unlearn.requests import ScopeKind


@AUDITS.register("nearest_mean")
@dataclass(frozen=True)
class NearestMean(CentralAudit):
    """Balanced accuracy of the nearest class mean, by cosine, with the mean of D_r as the origin.

    A forgotten class's mean is that of 1, 10 or 50 samples of D_f, those of the other classes are of D_r; it is judged
    on D_ft and D_rt and averaged over draws. A sample that is as near to another class is left to that class.

    Attributes
    ----------
    found, apart : tuple of int
        Samples of D_ft that are nearest to a forgotten class, and of D_rt that are not: for each number of samples, and
        within it for each draw.
    forgotten, retained : int
        Samples of D_ft and of D_rt.
    """

    scopes: ClassVar[tuple[ScopeKind, ...]] = ("class",)

    found: tuple[int, ...] = ()
    apart: tuple[int, ...] = ()
    forgotten: int = 0
    retained: int = 0

    @classmethod
    def count(cls, seen: Observation) -> Self:
        """Judge every draw.

        Raises
        ------
        EmptySetError
            If one of the four parts has no sample.
        InvalidModelError
            If a feature is not a finite number.
        """
        readings = central_of(cls.name, seen).readings
        forget, retain, test_forget, test_retain = (
            frozen(cls.name, readings, part) for part in ("forget", "retain", "test_forget", "test_retain")
        )
        origin = retain.features.mean(0)
        others = torch.stack([retain.features[retain.labels == label].mean(0) for label in retain.labels.unique()])
        sides = [functional.normalize(part.features - origin) for part in (test_forget, test_retain)]
        nearest = [(side @ functional.normalize(others - origin).T).amax(1) for side in sides]
        found, apart = list[int](), list[int]()
        for draw in few_samples(forget.labels, seen.seed):
            means = torch.stack([forget.features[positions].mean(0) for positions in draw])
            rows = functional.normalize(means - origin)
            taken = [(side @ rows.T).amax(1) > other for side, other in zip(sides, nearest, strict=True)]
            found.append(int(taken[0].sum()))
            apart.append(int((~taken[1]).sum()))
        return cls(tuple(found), tuple(apart), len(test_forget), len(test_retain))

    @property
    def figures(self) -> Mapping[str, Measured]:
        """``nearest_mean_1``, ``_10`` and ``_50``; None where D_f has not so many samples of each class."""
        return {
            f"nearest_mean_{size}": balanced_accuracy(
                of_size(self.found, size), self.forgotten, of_size(self.apart, size), self.retained
            )
            for size in SIZES
        }

    @property
    def value(self) -> float | None:
        """The balanced accuracy with 10 samples."""
        return self.figures["nearest_mean_10"].value
