"""How often a planted trigger still makes a model call samples of other classes the trigger's class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from fed_unlearn.audits.base import AUDITS, Measured, Observation, RequestAudit
from fed_unlearn.audits.intervals import wilson_interval
from fed_unlearn.audits.sides import Side
from fed_unlearn.requests import ScopeKind


@AUDITS.register("backdoor_success")
@dataclass(frozen=True)
class BackdoorSuccess(RequestAudit):
    """Number of test samples with the trigger shown on them, and how many of them are called the trigger's class.

    A client planted the trigger (:class:`fed_unlearn.data.trigger.Trigger`) in its training samples, so that nobody
    else's samples teach it (Gu, Dolan-Gavitt and Garg, 2017; Wu, Zhu and Mitra, 2022, for forgotten clients). The share
    is that of samples of other classes and nothing is taken off it: of a model that never saw the trigger it is not 0.
    The aim is the oracle's share. Without a trigger there is no figure.

    Attributes
    ----------
    called, total : int
    """

    scopes: ClassVar[tuple[ScopeKind, ...]] = ("client",)
    cost: ClassVar[str] = "test samples once more where a trigger is planted, with the trigger shown on them"
    sides: ClassVar[tuple[Side, ...]] = (Side("test_retain", "total", ("called",)),)

    called: int = 0
    total: int = 0

    @classmethod
    def count(cls, seen: Observation) -> Self:
        """Count the samples of one holder; their labels are the trigger's class."""
        shown = seen.triggered
        if shown is None or not len(shown):
            return cls()
        return cls(int((shown.logits.argmax(1).to(shown.labels.device) == shown.labels).sum()), len(shown))

    @property
    def value(self) -> float | None:
        """The share; None without a trigger."""
        return self.called / self.total if self.total else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Its 95 % interval (Wilson)."""
        return wilson_interval(self.called, self.total) if self.total else None

    @property
    def figures(self) -> Mapping[str, Measured]:
        """The share by name; nothing without a trigger."""
        return {self.name: Measured(self.value, self.interval)} if self.total else {}

    @property
    def gate_figures(self) -> Mapping[str, Measured]:
        """Nothing: the samples are test samples."""
        return {}

    def fits(self, class_count: int) -> bool:
        """Whether no more samples are called the class than there are."""
        return self.called <= self.total
