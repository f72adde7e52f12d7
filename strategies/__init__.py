"""What runs in a Flower ServerApp: strategies that make a federation forget."""

from fed_unlearn.audits.validation import ServerValidation
from fed_unlearn.gate import Bound, Gate, Thresholds
from fed_unlearn.plan import ServeSettings
from fed_unlearn.strategies.context import Event, Observer
from fed_unlearn.strategies.continual import ContinualUnlearning
from fed_unlearn.strategies.inner.frozen_head import FrozenHead
from fed_unlearn.strategies.outcomes import RelapseRow, RequestOutcome, UnlearningResult
from fed_unlearn.strategies.plan import (
    History,
    HolderTurn,
    Holds,
    OwnerLimits,
    Repair,
    RequestBound,
    Retry,
    UnlearningPlan,
)
from fed_unlearn.strategies.timeline import Forget, Train

__all__ = [
    "Bound",
    "ContinualUnlearning",
    "Event",
    "Forget",
    "FrozenHead",
    "Gate",
    "History",
    "HolderTurn",
    "Holds",
    "Observer",
    "OwnerLimits",
    "RelapseRow",
    "Repair",
    "RequestBound",
    "RequestOutcome",
    "Retry",
    "ServeSettings",
    "ServerValidation",
    "Thresholds",
    "Train",
    "UnlearningPlan",
    "UnlearningResult",
]
