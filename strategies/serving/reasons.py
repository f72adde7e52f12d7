"""What is said of committed requests."""

from __future__ import annotations

import re

from fed_unlearn.requests import ForgetRequest, SampleScope
from fed_unlearn.strategies.outcomes import RequestProgress

NOTHING_TO_DO = "its samples looked unseen before, and no holder's step has changed the model"
"""Reason of a committed sample request for which nothing was done."""

_DONE_BEFORE = re.compile(r"\d+ of its \d+ samples were forgotten already")


def is_own_reason(reason: str) -> bool:
    """Whether a reason of a committed request is one of this module's, which say nothing of any client."""
    return all(part == NOTHING_TO_DO or _DONE_BEFORE.fullmatch(part) for part in reason.split("; "))


def reason_of(request: ForgetRequest, progress: RequestProgress, *, has_changed: bool) -> str | None:
    """What is to be said of a committed request; None for nothing."""
    parts = [] if has_changed else [NOTHING_TO_DO]
    if (done := progress.already_forgotten) and isinstance(request.scope, SampleScope):
        asked = len(request.scope.sample_ids) or request.scope.count
        parts.append(f"{done} of its {asked} samples were forgotten already")
    return "; ".join(parts) or None
