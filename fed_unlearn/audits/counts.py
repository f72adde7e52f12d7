"""What one holder counts of one model, as plain data that can be added."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from fed_unlearn.audits.accuracy import ClassCounts

Part = Literal["retain", "validation", "test"]
ALL_PARTS: tuple[Part, ...] = ("retain", "validation", "test")


class RequestCounts(BaseModel):
    """One client's share of what is measured of one request.

    ``member_histogram``, ``outsider_histogram`` and ``unseen_histogram`` are of the confidence in forget samples, in
    test samples, and in the validation samples that no method reads, of the same classes. ``class_totals`` counts the
    samples by class where a whole client is forgotten.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    correct: int = 0
    total: int = 0
    member_histogram: list[int] = []
    outsider_histogram: list[int] = []
    unseen_histogram: list[int] = []
    class_totals: list[int] = []

    def __add__(self, other: RequestCounts) -> RequestCounts:
        summed = {
            name: _add_lists(getattr(self, name), getattr(other, name))
            for name in ("member_histogram", "outsider_histogram", "unseen_histogram", "class_totals")
        }
        return RequestCounts(correct=self.correct + other.correct, total=self.total + other.total, **summed)


class ClientCounts(BaseModel):
    """What one client counted of one model, or the sum of several clients' counts.

    Attributes
    ----------
    parts : dict of part to ClassCounts
        By ``"retain"``, ``"validation"`` and ``"test"``.
    targets : dict of str to RequestCounts
        By request.
    forward_passes : int
        Samples that were pushed through the model.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    parts: dict[Part, ClassCounts]
    targets: dict[str, RequestCounts]
    forward_passes: int

    def __add__(self, other: ClientCounts) -> ClientCounts:
        parts, targets = dict(self.parts), dict(self.targets)
        for part, counts in other.parts.items():
            parts[part] = parts[part] + counts if part in parts else counts
        for request_id, counted in other.targets.items():
            targets[request_id] = targets[request_id] + counted if request_id in targets else counted
        return ClientCounts(parts=parts, targets=targets, forward_passes=self.forward_passes + other.forward_passes)


def _add_lists(first: Sequence[int], second: Sequence[int]) -> list[int]:
    if not first or not second:
        return list(first or second)
    return [left + right for left, right in zip(first, second, strict=True)]
