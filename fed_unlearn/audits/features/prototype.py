"""Prototype row: does an output row that is rebuilt from a few features bring a class back, without training?

The attack is that of Ha et al., "Unlearning's Blind Spots" (ICML 2026), with one rule of tuning for every model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.nn import functional

from fed_unlearn.audits.base import AUDITS, CentralAudit, Measured, Observation
from fed_unlearn.audits.features.few_samples import SIZES, few_samples, of_size
from fed_unlearn.audits.features.frozen import Frozen, central_of, drawn, frozen
from fed_unlearn.audits.features.shares import balanced_accuracy, recall
from fed_unlearn.audits.readings import Readings
from fed_unlearn.requests import ScopeKind

STRENGTHS = tuple(2.0 ** (step / 2) for step in range(-4, 11))
"""Lengths of the direction that are tried, in units of how far the other rows lie from their mean, on average."""

MOST_RETAINED = 4000
"""Maximum number of samples of D_r that help to choose the length and the bias."""


@AUDITS.register("prototype")
@dataclass(frozen=True)
class Prototype(CentralAudit):
    """Recall of a forgotten class once its output row is rebuilt from 1, 10 or 50 samples, judged on D_ft and D_rt.

    The recall alone rewards a row that takes everything: read it beside the balanced accuracy, which counts what the
    row takes from the other classes. The figures are averages over draws. The forgotten class's own row and bias are
    never read.

    Attributes
    ----------
    found, apart : tuple of int
        Samples of D_ft that a rebuilt row wins, and of D_rt that none wins: for each number of samples, and within it
        for each draw.
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
        attacker = Attacker.of(readings, retain.at(drawn(len(retain), MOST_RETAINED, seen.seed, cls.name)))
        sides = [(part.features, attacker.best_other(part.features)) for part in (test_forget, test_retain)]
        found, apart = list[int](), list[int]()
        for draw in few_samples(forget.labels, seen.seed):
            rows = [attacker.rebuilt(forget.features[positions]) for positions in draw]
            weight, bias = torch.stack([row for row, _ in rows]), torch.stack([bias for _, bias in rows])
            won = [(features @ weight.T + bias).amax(1) > best_other for features, best_other in sides]
            found.append(int(won[0].sum()))
            apart.append(int((~won[1]).sum()))
        return cls(tuple(found), tuple(apart), len(test_forget), len(test_retain))

    @property
    def figures(self) -> Mapping[str, Measured]:
        """``prototype_recall_1``, ``_10`` and ``_50``, and ``prototype_accuracy_...``, the balanced accuracies.

        None where D_f has not so many samples of each class.
        """
        found, apart = ({size: of_size(counts, size) for size in SIZES} for counts in (self.found, self.apart))
        recalls = {f"prototype_recall_{size}": recall(found[size], self.forgotten) for size in SIZES}
        return recalls | {
            f"prototype_accuracy_{size}": balanced_accuracy(found[size], self.forgotten, apart[size], self.retained)
            for size in SIZES
        }

    @property
    def value(self) -> float | None:
        """The recall with 10 samples."""
        return self.figures["prototype_recall_10"].value


@dataclass(frozen=True)
class Attacker:
    """What whoever rebuilds a row has: the rows of the other classes, and retained samples.

    Attributes
    ----------
    weight, bias : Tensor of shape (others, features) and (others,), float64
        Output rows and biases of the classes that stay.
    retained : Tensor of shape (n, features), float64
        Features of samples of D_r.
    """

    weight: Tensor
    bias: Tensor
    retained: Tensor

    @classmethod
    def of(cls, readings: Readings, retained: Frozen) -> Attacker:
        """The attacker of a model."""
        staying = torch.tensor(readings.data.staying)
        layer = readings.layer
        weight = layer.weight.detach().cpu().double().flatten(1)
        bias = torch.zeros(len(weight)).double() if layer.bias is None else layer.bias.detach().cpu().double()
        return cls(weight[staying], bias[staying], retained.features)

    def best_other(self, features: Tensor) -> Tensor:
        """Largest logit among the classes that stay, of shape (n,)."""
        return (features @ self.weight.T + self.bias).amax(1)

    def rebuilt(self, few: Tensor) -> tuple[Tensor, Tensor]:
        """The row of a class, and its bias.

        The row is the mean of the other rows plus a length times the direction from the mean of D_r to the mean of the
        few samples. For each length, the bias lies halfway between what the median of the few samples needs to be won
        and what the median of D_r needs; a sample is judged by the direction of the others, where there are others. The
        length is that with the best balanced accuracy on the few samples and D_r: no test sample takes part.

        Parameters
        ----------
        few : Tensor of shape (k, features), float64
            Features of samples of the class.

        Returns
        -------
        tuple of two Tensor, of shape (features,) and ()
        """
        common = self.weight.mean(0)
        unit = (self.weight - common).norm(dim=1).mean()
        if unit == 0:  # one class stays, or all rows are alike
            unit = self.weight.norm(dim=1).mean()
        lengths = unit * torch.tensor(STRENGTHS, dtype=torch.float64)
        origin = self.retained.mean(0)
        direction = functional.normalize(few.mean(0) - origin, dim=0)
        without_one = (few.sum(0) - few) / (len(few) - 1) if len(few) > 1 else few
        along = ((few * functional.normalize(without_one - origin)).sum(1), self.retained @ direction)
        needed = [
            (self.best_other(features) - features @ common) - lengths.unsqueeze(1) * scores
            for features, scores in zip((few, self.retained), along, strict=True)
        ]
        biases = (needed[0].median(1).values + needed[1].median(1).values) / 2
        won = [(side < biases.unsqueeze(1)).double().mean(1) for side in needed]
        best = int((won[0] - won[1]).argmax())
        return common + lengths[best] * direction, biases[best]
