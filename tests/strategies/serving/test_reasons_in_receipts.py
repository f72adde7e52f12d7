"""What is said of committed requests has its word in a receipt."""

from __future__ import annotations

import pytest

from fed_unlearn.audits.base import Figures
from fed_unlearn.receipts.words import words_of
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies.outcomes import RequestProgress
from fed_unlearn.strategies.serving.reasons import reason_of

REQUEST = ForgetRequest.for_samples("ward-9", ["a", "b", "c"])
FIGURES = Figures(
    forget_accuracy=1.0, retain_accuracy=1.0, test_forget_accuracy=None, test_retain_accuracy=1.0, membership_auc=0.5
)


@pytest.mark.parametrize(
    ("progress", "has_changed", "words"),
    [
        (RequestProgress(), True, set()),
        (RequestProgress(), False, {"nothing-to-change"}),
        (
            RequestProgress(before=Figures(**{**vars(FIGURES), "extra": {"above_reference": 0.0}})),
            False,
            {"nothing-to-change"},
        ),
        (RequestProgress(already_forgotten=2), True, {"partly-forgotten-before"}),
        (RequestProgress(keeps_rows=True), True, {"rows-kept"}),
        (RequestProgress(keeps_rows=True, already_forgotten=1), True, {"rows-kept", "partly-forgotten-before"}),
    ],
)
def test_reasons_of_committed_requests(progress: RequestProgress, has_changed: bool, words: set[str]) -> None:
    assert set(words_of(reason_of(REQUEST, progress, has_changed=has_changed))) == words
