"""What is done with a candidate model, and why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from fed_unlearn.evidence import HowKnown


class Verdict(Enum):
    """What is done with a candidate model."""

    ACCEPT = "accept"
    REPAIR = "repair more"
    RETRY = "try again with a stronger setting"
    ESCALATE = "try another method"
    ROLL_BACK = "roll back"
    HOLD = "hold"
    """The verdict rests on one client's figures alone, and they are implausible: a person decides."""


@dataclass(frozen=True)
class Decision:
    """A verdict and its reasons.

    Attributes
    ----------
    verdict : Verdict
    reasons : tuple of str
        What the candidate failed, in words; empty where it failed nothing.
    doubted : tuple of str
        Clients whose figures are implausible, where the verdict is ``HOLD``.
    known : HowKnown or None
        How the forgetting is known, where the verdict is ``ACCEPT``.
    """

    verdict: Verdict
    reasons: tuple[str, ...] = ()
    doubted: tuple[str, ...] = ()
    known: HowKnown | None = None

    @property
    def reason(self) -> str | None:
        """All reasons in one line."""
        return "; ".join(self.reasons) or None
