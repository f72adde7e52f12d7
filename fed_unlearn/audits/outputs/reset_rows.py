"""How well a class that stays would still be ranked if its output row were reset: a reference without an oracle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.nn import functional

from fed_unlearn.audits.base import AUDITS, Measured, Observation, RequestAudit
from fed_unlearn.audits.membership import membership_auc
from fed_unlearn.audits.outputs.score_histograms import recall_where_few_are_called
from fed_unlearn.audits.predicted import FEWEST, share_prediction
from fed_unlearn.audits.reset_names import reset_name
from fed_unlearn.audits.sides import Side
from fed_unlearn.requests import ScopeKind

BIN_COUNT = 128
EDGE = 5.12
"""Bins are uniform in the inverse hyperbolic sine of the score, from minus this to 0: scores from -84."""

MOST_CLASSES = 20
"""Maximum number of classes that are counted. If more stay, evenly spaced ones are taken."""

FEWEST_SAMPLES = 5
"""Minimum number of samples of a class; with fewer its figures are not used."""


def reset_scores(scores: Tensor, staying: Sequence[int]) -> Tensor:
    """Scores of classes, each with its output row set to the mean of the other rows. No model is changed for it.

    Parameters
    ----------
    scores : Tensor of shape (n, classes)
        Scores from :func:`fed_unlearn.audits.scores.class_scores`.
    staying : sequence of int
        Classes that stay, at least two. The rows of other classes take no part.

    Returns
    -------
    Tensor of shape (n, len(staying)), float64
        Mean of the logits of the other classes that stay, minus their log-sum-exp. The logits are those of
        probabilities, each without the class's own bias, up to one constant a sample, which cancels out. That is exact
        where the layer has no biases; else it is wrong by about as much as these scatter.
    """
    logits = functional.logsigmoid(scores[:, list(staying)].double())
    others = len(staying) - 1
    kept = ~torch.eye(len(staying), dtype=torch.bool)
    columns = [logits[:, kept[index]] for index in range(len(staying))]
    return torch.stack([column.sum(1) / others - column.logsumexp(1) for column in columns], dim=1)


@AUDITS.register("reset_rows")
@dataclass(frozen=True)
class ResetRows(RequestAudit):
    """Histograms of the classes that stay, ``BIN_COUNT`` counts for each, one class after another.

    Under a reset row the output layer knows nothing of a class, as a retrain oracle's knows nothing of the forgotten
    one. Figures: mean and 95 % prediction interval over the classes that stay, of ``logit_auc`` and ``recall_at_5`` of
    each under its own reset row. A retrained model's figure of the forgotten class is expected inside. The features
    have seen the classes that stay, and not the forgotten one: on easy data the reference is too high.

    Attributes
    ----------
    own, rest : tuple of int
        Histograms, for each class, of the scores of its own samples and of all other samples of classes that stay.
    """

    scopes: ClassVar[tuple[ScopeKind, ...]] = ("class",)
    sides: ClassVar[tuple[Side, ...]] = (Side("held_out_retain", "own", ("rest",)),)
    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {
        reset_name("logit_auc"): (0.0, 1.0),
        reset_name("recall_at_5"): (0.0, 1.0),
    }

    own: tuple[int, ...] = ()
    rest: tuple[int, ...] = ()

    @classmethod
    def count(cls, seen: Observation) -> Self:
        """The histograms of one holder; of test samples where models and data are in one place."""
        judged = seen.held_out_retain or (seen.test_retain if seen.central is not None else None)
        if judged is None or not seen.classes or len(seen.staying) < FEWEST:
            return cls()
        chosen = chosen_classes(seen.staying)
        scores = reset_scores(judged.class_scores, seen.staying)
        is_finite = scores.isfinite().all(1)
        bins, labels = _bins(scores[is_finite]), judged.labels[is_finite]
        own, rest = list[int](), list[int]()
        for label in chosen:
            column, is_own = bins[:, seen.staying.index(label)], labels == label
            own += torch.bincount(column[is_own], minlength=BIN_COUNT).tolist()
            rest += torch.bincount(column[~is_own], minlength=BIN_COUNT).tolist()
        return cls(tuple(own), tuple(rest))

    @property
    def value(self) -> float | None:
        """The mean of ``recall_at_5``."""
        return self.figures[reset_name("recall_at_5")].value

    @property
    def figures(self) -> Mapping[str, Measured]:
        """Means over classes, with 95 % prediction intervals; None of fewer than three classes."""
        pairs = [pair for pair in self._pairs() if sum(pair[0]) >= FEWEST_SAMPLES and any(pair[1])]
        if len(pairs) < FEWEST:
            return {name: Measured(None) for name in self.ranges}
        counts = [sum(own) for own, _ in pairs]
        compared = [sum(own) * sum(rest) for own, rest in pairs]
        aucs = [membership_auc(own, rest) for own, rest in pairs]
        recalls = [recall_where_few_are_called(own, rest).value or 0.0 for own, rest in pairs]
        return {
            reset_name("logit_auc"): share_prediction(aucs, compared),
            reset_name("recall_at_5"): share_prediction(recalls, counts),
        }

    def fits(self, class_count: int) -> bool:
        """Whether there are whole histograms of at most so many classes, each of the same samples in all.

        All samples are of the classes that are counted, unless these are the most that ever are.
        """
        classes, remainder = divmod(len(self.own), BIN_COUNT)
        if remainder or len(self.rest) != len(self.own) or classes > min(class_count, MOST_CLASSES):
            return False
        if not self.own:
            return True
        every, own = {sum(one) + sum(other) for one, other in self._pairs()}, sum(self.own)
        return classes > 1 and len(every) == 1 and (every == {own} or (classes == MOST_CLASSES and max(every) > own))

    def _pairs(self) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        starts = range(0, len(self.own), BIN_COUNT)
        return [(self.own[start : start + BIN_COUNT], self.rest[start : start + BIN_COUNT]) for start in starts]


def chosen_classes(staying: Sequence[int]) -> tuple[int, ...]:
    """At most ``MOST_CLASSES`` of the classes that stay, spread evenly."""
    count = min(len(staying), MOST_CLASSES)
    return tuple(staying[index * len(staying) // count] for index in range(count))


def _bins(scores: Tensor) -> Tensor:
    scaled = torch.asinh(scores).clamp(-EDGE, 0)
    return ((scaled + EDGE) / EDGE * BIN_COUNT).long().clamp(0, BIN_COUNT - 1)
