"""What the results of a run are made of: a strategy that runs, or nothing but its ledger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from fed_unlearn.ledger import Ledger
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies.clients.messages.exchange import DeviceUse
from fed_unlearn.strategies.state import Experience
from fed_unlearn.strategies.trained_experiences import trained_experiences

_NOT_CHOSEN = "not chosen yet"


class RecordedState(Protocol):
    """What a recorder reads of a run's state."""

    def experiences(self) -> list[Experience]:
        """Every training experience that has come to its end."""

    def trained(self) -> list[Experience]:
        """Those, and the rounds that are done of the open one."""


class RecordedPlan(Protocol):
    """What a recorder reads of a run's plan."""

    def method_of(self, request: ForgetRequest) -> str:
        """The method that is tried first for a request."""


class Recorded(Protocol):
    """What a recorder reads: a strategy, or a ledger that another process works on."""

    @property
    def ledger(self) -> Ledger:
        """The ledger of the run."""

    @property
    def state(self) -> RecordedState:
        """Its training."""

    @property
    def plan(self) -> RecordedPlan:
        """How it serves requests."""

    @property
    def device_use(self) -> Mapping[DeviceUse, int]:
        """Messages by device."""


@dataclass(frozen=True)
class LedgerState:
    """The training that a ledger tells of."""

    ledger: Ledger

    def experiences(self) -> list[Experience]:
        """Every training experience that has come to its end."""
        return trained_experiences(self.ledger, with_open=False)

    def trained(self) -> list[Experience]:
        """Those, and the rounds that are done of the open one."""
        return trained_experiences(self.ledger)


class UnknownPlan:
    """The plan of a server of which nothing but its ledger is known."""

    def method_of(self, request: ForgetRequest) -> str:
        """The method that the request itself names, if any."""
        return request.method or _NOT_CHOSEN


@dataclass(frozen=True)
class LedgerRead:
    """A ledger that another process may be at work on, as a recorder reads it.

    Attributes
    ----------
    ledger : Ledger
    plan : UnknownPlan
    device_use : mapping of DeviceUse to int
        Empty: a ledger does not count messages by device.
    """

    ledger: Ledger
    plan: UnknownPlan = field(default_factory=UnknownPlan)
    device_use: Mapping[DeviceUse, int] = field(default_factory=dict)

    @property
    def state(self) -> LedgerState:
        """Its training."""
        return LedgerState(self.ledger)
