"""What results say of a request's life, from the ledger's events."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from fed_unlearn.ledger import Ledger
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.simulations.run.ledger_facts import LedgerFacts, lives_of, owed_by_request

FIRST, SECOND, THIRD = "a" * 64, "b" * 64, "c" * 64


def tried(ledger: Ledger, name: str, number: int) -> None:
    ledger.advance(name, Status.UNLEARNING, attempt=number, method="relabel")
    ledger.advance(name, Status.AUDITING, attempt=number)


def committed(ledger: Ledger, name: str, number: int, digest: str) -> None:
    tried(ledger, name, number)
    ledger.advance(name, Status.COMMITTING, attempt=number, facts={"digest": digest})
    ledger.commit({name: {}}, digest, attempts={name: number})


def test_models_before_and_after_are_those_that_served(tmp_path: Path) -> None:
    with closing(Ledger(tmp_path / "ledger.db")) as ledger:
        ledger.accept_model(FIRST, "initial")
        for label, name in enumerate(("kept", "vain", "refused", "waits")):
            ledger.receive(ForgetRequest.for_class(label, id=name))
        tried(ledger, "kept", 1)
        ledger.advance("kept", Status.ROLLED_BACK, attempt=1)
        committed(ledger, "kept", 2, SECOND)
        tried(ledger, "vain", 1)
        ledger.advance("vain", Status.ROLLED_BACK, attempt=1)
        ledger.finish("vain", Status.FAILED, attempt=1, reason="too much is left", outcome={})
        ledger.finish("refused", Status.REJECTED, attempt=0, reason="unknown", outcome={})
        lives, times = lives_of(ledger.events()), {event.sequence: event.time for event in ledger.events()}
        assert (lives["kept"].model_before, lives["kept"].model_after) == (FIRST, SECOND)
        assert (lives["vain"].model_before, lives["vain"].model_after) == (SECOND, SECOND)
        assert (lives["refused"].model_before, lives["refused"].model_after) == (None, None)
        assert lives["refused"].ended == max(times.values())
        assert (lives["waits"].ended, lives["waits"].model_before) == (None, None)
        assert lives["waits"].submitted == ledger.entry("waits").received or lives["waits"].submitted in times.values()
        assert (LedgerFacts.of(ledger).events, LedgerFacts.of(ledger).head) == ledger.head()
        assert LedgerFacts.of(ledger).identity == ledger.identity


def test_a_request_that_is_opened_again_shows_its_last_end(tmp_path: Path) -> None:
    with closing(Ledger(tmp_path / "ledger.db")) as ledger:
        ledger.accept_model(FIRST, "initial")
        ledger.receive(ForgetRequest.for_class(3, id="r"))
        committed(ledger, "r", 1, SECOND)
        ledger.advance("r", Status.REOPENED, attempt=1)
        ledger.advance("r", Status.UNLEARNING, attempt=2)
        first = lives_of(ledger.events())["r"]
        assert (first.model_before, first.model_after) == (FIRST, SECOND)
        ledger.advance("r", Status.AUDITING, attempt=2)
        ledger.advance("r", Status.COMMITTING, attempt=2, facts={"digest": THIRD})
        ledger.commit({"r": {}}, THIRD, attempts={"r": 2})
        last = lives_of(ledger.events())["r"]
        assert (last.model_before, last.model_after, last.submitted) == (SECOND, THIRD, first.submitted)
        assert first.ended is not None and last.ended is not None and last.ended > first.ended


def test_clients_that_have_left_owe_nothing(tmp_path: Path) -> None:
    with closing(Ledger(tmp_path / "ledger.db")) as ledger:
        ledger.receive(ForgetRequest.for_class(3, id="r"))
        ledger.receive(ForgetRequest.for_class(4, id="s"))
        ledger.owe("r", ["b", "a", "gone"])
        ledger.depart("gone")
        assert owed_by_request(ledger) == {"r": ("a", "b"), "s": ()}
