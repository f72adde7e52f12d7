"""An order to stop is for the server that works on the ledger when it is given, and for no other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fed_unlearn.ledger import Ledger
from fed_unlearn.locks import ledger_lock
from fed_unlearn.strategies.staying.stopping import StopOrder, is_stop_ordered, order_stop


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(tmp_path / "ledger.db")
    yield opened
    opened.close()


def ordered_from_outside(ledger: Ledger) -> None:
    outside = Ledger(ledger.path, create=False)
    order_stop(outside)
    outside.close()


def test_an_order_that_comes_right_after_the_lock_is_obeyed(ledger: Ledger) -> None:
    with ledger_lock(ledger.path):
        ordered_from_outside(ledger)
        stop = StopOrder(ledger)
        with stop.from_signals():
            assert stop.is_given()
            assert stop.reason == "it was ordered in the ledger"
    assert not is_stop_ordered(ledger)


def test_an_order_while_it_serves_is_obeyed(ledger: Ledger) -> None:
    stop = StopOrder(ledger)
    with ledger_lock(ledger.path), stop.from_signals():
        assert not stop.is_given()
        ordered_from_outside(ledger)
        assert stop.is_given()


def test_an_order_to_an_earlier_server_of_the_same_process_id_is_taken_out(ledger: Ledger) -> None:
    with ledger_lock(ledger.path):
        ordered_from_outside(ledger)
    stop = StopOrder(ledger)
    with ledger_lock(ledger.path), stop.from_signals():
        assert (ledger.path.with_name("ledger.db.lock")).read_text() == str(os.getpid())
        assert not is_stop_ordered(ledger)
        assert not stop.is_given()


@pytest.mark.parametrize("old", [True, None])
def test_an_order_to_nobody_is_taken_out(ledger: Ledger, old: bool | None) -> None:
    if old:
        ledger.set_state("stop-ordered", old)  # as releases before this one wrote it
    else:
        ordered_from_outside(ledger)
    assert is_stop_ordered(ledger)
    stop = StopOrder(ledger)
    with ledger_lock(ledger.path), stop.from_signals():
        assert not stop.is_given()
