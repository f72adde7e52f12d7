"""Ledgers with requests that ended in every way, for receipts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fed_unlearn.ledger import Ledger
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.requests import ForgetRequest

CLIENTS = ("st-vincent", "charite", "ward-9")
SAMPLES = ("scan-17-of-mary", "scan-18-of-mary")
LABELS = ("angela", "bertrand", "cynthia", "dorothy")
PERSONAL = (*CLIENTS, *SAMPLES, *LABELS)
"""What no receipt may hold."""

MODELS = ("0" * 63 + "1", "0" * 63 + "2", "0" * 63 + "3")
LAST_ONE = "client charite is the last one that is left"


def figures(forget: float, **others: object) -> dict[str, object]:
    """Figures of a model, as an outcome has them."""
    return {
        "forget_accuracy": forget,
        "retain_accuracy": 0.98,
        "test_forget_accuracy": None,
        "test_retain_accuracy": 0.1 + 0.2,
        "membership_auc": 1 / 3,
        "client_confidence": 1.5,
        "extra": {"recall_at_5": 0.25, "logit_auc": None, "of_ward-9": 1.0, "of_charite": 0.5},
        "intervals": {"forget_accuracy": [0.0, 0.015625], "recall_at_5": [0.125, 0.5]},
        "samples": {"forget_accuracy": 12},
        "curves": {"membership_auc": [[0.0, 0.0], [1.0, 1.0]]},
        **others,
    }


def outcome(**others: object) -> dict[str, object]:
    """An outcome of a request, as the strategy writes it."""
    return {
        "method": "boundary-shrink",
        "status": "committed",
        "attempts": 1,
        "reason": None,
        "before": figures(1.0),
        "unlearned": None,
        "after": figures(0.0),
        "witnesses": 3,
        "evidence": "measured",
        **others,
    }


def commit(ledger: Ledger, ids: list[str], model: str, attempt: int = 1, **others: object) -> None:
    """Take requests from where they are to their commit."""
    ledger.advance_all(ids, Status.UNLEARNING, attempt=attempt, method="boundary-shrink")
    ledger.advance_all(ids, Status.AUDITING, attempt=attempt)
    facts = {"digest": model, "forget_accuracy": 0.0, "recall_at_5": 0.25, "evidence": "measured"}
    ledger.advance_all(ids, Status.COMMITTING, attempt=attempt, facts=facts)
    ledger.commit({name: outcome(**others) for name in ids}, model, attempts=dict.fromkeys(ids, attempt))


def write(path: Path) -> Path:
    """Write a ledger: r1 and r2 committed together, r3 failed, r4 rejected, r5 withdrawn, r6 pending; return its file."""
    with opened(path) as ledger:
        ledger.meet(CLIENTS)
        ledger.name_classes(LABELS)
        ledger.accept_model(MODELS[0], "initial")
        ledger.receive(ForgetRequest.for_class(3, 1))
        ledger.receive(ForgetRequest.for_class(0))
        commit(ledger, ["r1", "r2"], MODELS[1])
        ledger.receive(ForgetRequest.for_samples("st-vincent", SAMPLES))
        ledger.advance("r3", Status.UNLEARNING, attempt=1, method="instance-wise")
        ledger.advance("r3", Status.ROLLED_BACK, attempt=1, reason="st-vincent answered nothing")
        failed = "forget accuracy 0.500 is over 0.000; st-vincent answered nothing"
        ledger.finish(
            "r3",
            Status.FAILED,
            attempt=1,
            reason=failed,
            outcome=outcome(reason=failed, evidence=None, goal="misclassify"),
        )
        ledger.receive(ForgetRequest.for_client("charite", method="charite"))
        ledger.finish(
            "r4", Status.REJECTED, attempt=0, reason=LAST_ONE, outcome={"reason": LAST_ONE, "method": "charite"}
        )
        ledger.receive(ForgetRequest.for_client("ward-9"))
        ledger.withdraw("r5")
        ledger.receive(ForgetRequest.for_class(2))
    return path


def relapse(path: Path, request_id: str = "r1") -> None:
    """Let a committed request relapse, and be committed again with other figures."""
    with opened(path) as ledger:
        ledger.note("relapsed", {}, request_id=request_id)
        ledger.advance(request_id, Status.REOPENED, attempt=1, reason="charite has it again")
        commit(ledger, [request_id], MODELS[2], attempt=2, after=figures(0.0625))


@contextmanager
def opened(path: Path) -> Iterator[Ledger]:
    """A ledger that is closed again."""
    ledger = Ledger(path)
    try:
        yield ledger
    finally:
        ledger.close()
