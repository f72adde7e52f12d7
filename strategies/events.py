"""What a strategy tells whoever watches it: plain facts, one after another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

EventKind = Literal[
    "training-started",
    "training-round",
    "training-finished",
    "training-refused",
    "request-started",
    "request-step",
    "request-finished",
    "request-waits",
    "audit",
]


@dataclass(frozen=True)
class Event:
    """Something that happened in a run.

    Attributes
    ----------
    kind : str
        Which of the known kinds.
    text : str
        The same in words, for a log.
    request_id : str or None
        The request it belongs to.
    step, steps : int
        How far along, of how many; 0 of 0 where that is not known.
    """

    kind: EventKind
    text: str
    request_id: str | None = None
    step: int = 0
    steps: int = 0


Observer = Callable[[Event], None]


def ignore(event: Event) -> None:
    """The observer of a run that nobody watches."""
