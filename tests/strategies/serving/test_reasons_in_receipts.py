"""Every reason of the end of a request that the code can write has its word in a receipt."""

from __future__ import annotations

from pathlib import Path

import pytest
from written_reasons import VALUE, written_reasons

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


NEVER_AN_END = {
    # parts of texts, and what is wrong with settings
    ", the end of the 95 % prediction interval @",
    "the last accepted model",
    "@gate: @.figures[@]: @ @",
    "@gate: @.figures[@]: beside = 'oracle' was given; @",
    # the request waits or is held
    "@; clients @@@@ may",
    "@; approve or withdraw it",
    "it asks for 0.7 of @ and more than 0.7 needs approval",
    "no client is reachable",
    "no client @ has been seen yet; it is served when there is one",
    "no client @ has been seen yet; it is served when there is one, withdraw it where the name is wrong",
    "no client @ has been seen yet; it is served when there is one; clients @@@ may",
    # the log says it, and the attempt goes on
    "its accuracy on validation samples is 0.7, and the served model's 0.7",
    # a node is told it, and the request is in no ledger, or goes on
    "an attempt was taken back; the operator sees why",
    "it asks for so much that it needs approval by the operator",
    "its figures are doubted, and it needs approval by the operator",
    "@ requests of this client's owner are open, and @ are allowed; queue it anew when one has ended",
    "@@ requests of this client's owner came within 24 hours, and @ are allowed; queue it anew tomorrow",
    "it names @ samples, and the client said that it holds @ such samples",
}
"""Texts in the same files with which no request ends, ``@`` in place of each value."""


def wordless(reasons: dict[str, str]) -> dict[str, str]:
    """Reasons for which there is no word, whether their values are numbers or names."""
    return {
        text.replace(VALUE, "@"): place
        for text, place in reasons.items()
        if all(words_of(text.replace(VALUE, value)) == ("other",) for value in ("7", "ward"))
    }


def test_every_reason_that_the_code_can_write_has_a_word() -> None:
    """A text that was changed, or a new one, is found here: give it a word in words.py, or say that none ends by it."""
    found = written_reasons()
    without = wordless(found)
    assert {text: place for text, place in without.items() if text not in NEVER_AN_END} == {}
    assert set(without) >= NEVER_AN_END, "what is gone, or has a word now, must not stand here"
    assert len(found) > 50


WRITING = """
WHY = "the moon is full"

class NewFailure(MethodFailedError):
    pass

def begin(name):
    raise NewFailure(f"{name}: the tide is out")

def failures(figure) -> tuple[str, ...]:
    said = f"{figure} went astray" + ("" if figure else ", alone")
    found = [f"{said} by {figure:.3f}"]
    found.append("a star fell")
    return (*found, WHY)

def explained(decisions) -> dict[str, Decision]:
    told = f"nobody came: {decisions}"
    return {name: replace(one, reasons=(*one.reasons, told)) for name, one in decisions.items()}

def setting(value) -> int:
    raise ValueError("settings are no reasons")
"""


def test_reasons_are_found_however_they_are_written(tmp_path: Path) -> None:
    file = tmp_path / "strategies" / "serving" / "new.py"
    file.parent.mkdir(parents=True)
    file.write_text(WRITING)
    assert set(wordless(written_reasons(tmp_path))) == {
        "@: the tide is out",
        "@ went astray by 0.7",
        "@ went astray, alone by 0.7",
        "a star fell",
        "the moon is full",
        "nobody came: @",
    }
