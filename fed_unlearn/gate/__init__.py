"""The decision after a request, what it looks at, and how it is known that the request is forgotten."""

from __future__ import annotations

from fed_unlearn.evidence import Difference, Evidence, HowKnown
from fed_unlearn.gate.bounds import Bound
from fed_unlearn.gate.checks import GateCheck
from fed_unlearn.gate.decision import Decision, Verdict
from fed_unlearn.gate.gate import Gate
from fed_unlearn.gate.thresholds import Thresholds

__all__ = ["Bound", "Decision", "Difference", "Evidence", "Gate", "GateCheck", "HowKnown", "Thresholds", "Verdict"]
