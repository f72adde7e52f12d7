"""What is said of committed requests."""

from __future__ import annotations

import re

from fed_unlearn.output_rows import ROWS_AS_TRAINED
from fed_unlearn.requests import ForgetRequest, SampleScope
from fed_unlearn.strategies.outcomes import RequestProgress

NOTHING_TO_DO = "its samples looked unseen before, and no holder's step has changed the model"
"""Reason of a committed sample request for which nothing was done."""
STOOD_RIGHT = "its samples stood before as in a reference without them, and no holder's step has changed the model"
"""The same where a model that never saw the samples says so."""

_DONE_BEFORE = re.compile(r"\d+ of its \d+ samples were forgotten already")


def is_own_reason(reason: str) -> bool:
    """Whether a reason of a committed request is one of this module's, which say nothing of any client."""
    own = (NOTHING_TO_DO, STOOD_RIGHT, ROWS_AS_TRAINED)
    return all(part in own or _DONE_BEFORE.fullmatch(part) for part in reason.split("; "))


def reason_of(request: ForgetRequest, progress: RequestProgress, *, has_changed: bool) -> str | None:
    """What is to be said of a committed request; None for nothing."""
    by_reference = progress.before is not None and progress.before.extra.get("above_reference") is not None
    parts = [] if has_changed else [STOOD_RIGHT if by_reference else NOTHING_TO_DO]
    if (done := progress.already_forgotten) and isinstance(request.scope, SampleScope):
        asked = len(request.scope.sample_ids) or request.scope.count
        parts.append(f"{done} of its {asked} samples were forgotten already")
    if progress.keeps_rows:
        parts.append(ROWS_AS_TRAINED)
    return "; ".join(parts) or None
