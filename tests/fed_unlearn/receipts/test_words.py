"""Reasons of the gate become closed words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fed_unlearn.audits.measured import Measured
from fed_unlearn.evidence import Difference, Evidence
from fed_unlearn.gate import Bound, Gate, Thresholds
from fed_unlearn.output_rows import ROWS_AS_TRAINED
from fed_unlearn.receipts.words import SENTENCES, words_of
from fed_unlearn.requests import ScopeKind

GATE = Gate()
GOOD = Evidence(
    forget_accuracy=0.0,
    retain_accuracy=0.9,
    accepted_retain_accuracy=0.9,
    first_retain_accuracy=0.9,
    finite=True,
    repair_rounds=GATE.max_repair_rounds,
    attempt=GATE.max_attempts,
    figures={"logit_auc": Measured(0.5), "recall_at_5": Measured(0.0)},
)
BEFORE = replace(GOOD, forget_accuracy=1.0)
BOUNDED = Thresholds(
    max_forget_accuracy=0.05, max_retain_drop=0.02, max_total_retain_drop=0.05,
    figures={"logit_auc": Bound(minimum=0.4, maximum=0.6)},
)  # fmt: skip


def reason_of(gate: Gate, scope: ScopeKind, evidence: Evidence, **options: object) -> str | None:
    return gate.decide(scope, evidence, before=BEFORE, **options).reason  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (reason_of(GATE, "class", replace(GOOD, forget_accuracy=0.5)), {"still-known"}),
        (reason_of(GATE, "sample", replace(GOOD, forget_accuracy=0.5)), {"still-known"}),
        (
            reason_of(
                GATE, "sample", replace(GOOD, membership_interval=(0.6, 0.7)), goal="indistinguishable"
            ),
            {"still-known"},
        ),
        (
            reason_of(
                GATE, "client", replace(GOOD, confidence=Difference(value=5.0, error=0.1), staying_confidence=1.0)
            ),
            {"still-known"},
        ),
        (reason_of(GATE, "class", replace(GOOD, retain_accuracy=0.5)), {"too-much-lost"}),
        (
            reason_of(GATE, "class", replace(GOOD, retain_accuracy=0.5, forget_accuracy=0.25)),
            {"still-known", "too-much-lost"},
        ),
        (
            reason_of(replace(GATE, class_thresholds=BOUNDED), "class", replace(GOOD, figures={"logit_auc": Measured(0.9)})),
            {"bound-missed"},
        ),
        (
            reason_of(
                replace(GATE, class_thresholds=BOUNDED),
                "class",
                replace(GOOD, figures={"logit_auc": Measured(0.1, (0.05, 0.2))}),
            ),
            {"bound-missed"},
        ),
        (reason_of(replace(GATE, class_thresholds=BOUNDED), "class", replace(GOOD, figures={})), {"evidence-missing"}),
        (reason_of(GATE, "class", replace(GOOD, changed=False)), {"model-unchanged"}),
        (reason_of(GATE, "class", replace(GOOD, forget_accuracy=None, forget_samples=0)), {"evidence-missing"}),
        (
            GATE.decide(
                "class", GOOD, before=replace(GOOD, figures=GOOD.figures), is_retrained=True, require_measured=True
            ).reason,
            {"evidence-missing"},
        ),
        (reason_of(GATE, "class", replace(GOOD, finite=False)), {"model-broken"}),
        ("it would undo request r1: forget accuracy 0.500 is over 0.050", {"earlier-undone"}),
        (
            "forget accuracy 0.500 is over 0.050; it would undo request r1: forget accuracy 0.500 is over 0.050",
            {"still-known", "earlier-undone"},
        ),
        (
            "it would undo request r1: forget accuracy 0.500 is over 0.050; no client could repair the model: 1: broken",
            {"client-missing", "earlier-undone"},
        ),
        ("federaser: no history is kept, so there is no training to replay", {"method-unfit"}),
        ("retrain: step 3: no client that stays trained; their logs say why", {"client-missing"}),
        ("no reachable client holds a sample of class 3", {"not-possible"}),
        (ROWS_AS_TRAINED, {"rows-kept"}),
        ("client st-vincent is not reachable", {"client-missing"}),
        ("clients 1, 2 did not confirm their tombstones", {"client-missing"}),
        ("class 'angela' (index 0) is forgotten already", {"forgotten-before"}),
        ("class 12 is not a class of the data (0..9)", {"not-possible"}),
        ("it would leave fewer than 2 of 3 classes", {"not-possible"}),
        ("client st-vincent is the last one that is left", {"not-possible"}),
        ("a reason that st-vincent wrote", {"other"}),
        ("", set()),
        (None, set()),
    ],
    ids=lambda value: "+".join(sorted(value)) if isinstance(value, set) else str(value)[:50],
)  # fmt: skip
def test_a_reason_has_its_words(reason: str | None, words: set[str]) -> None:
    assert set(words_of(reason)) == words


@pytest.mark.parametrize("reason", ["client 1: its array '1.weight' is not finite", "fedosd: client a-b: OSError"])
def test_a_clients_own_text_says_that_its_answer_was_not_usable_where_the_request_failed(reason: str) -> None:
    assert words_of(reason, "failed") == ("client-missing",)
    assert words_of(reason, "rejected") == words_of(reason) == ("other",)


def test_every_word_has_a_sentence_without_a_name_in_it() -> None:
    assert all(sentence.endswith(".") and len(sentence) < 120 for sentence in SENTENCES.values())
