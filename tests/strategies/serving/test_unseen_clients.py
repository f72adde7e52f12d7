"""Requests that name a client which the server has never seen: they wait for it, and hold up nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fault_trials import (
    PLAN,
    SCOPES,
    Trial,
)
from federation import initial_arrays

from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies import Forget, Holds, Train

NOBODY = ForgetRequest.for_samples("99", count=2, id="nobody")


@pytest.mark.parametrize("scope", ["sample", "client"])
@pytest.mark.parametrize("joins", ["between rounds", "in a later process"])
def test_a_request_waits_for_a_client_that_has_yet_to_come(tmp_path: Path, scope: str, joins: str) -> None:
    """It is served before the client trains: what it asks for is never trained on."""
    trial = Trial(tmp_path)
    trial.grid.gone.add(2)
    trial.train(1)
    result = trial.serve(replace(SCOPES[scope], id="r1"), ForgetRequest.for_samples(1, count=1, id="other"))
    assert [outcome.request.id for outcome in result.requests] == ["other"]
    assert trial.status() is Status.WAITING
    assert "no client 2 has been seen yet" in trial.reason()
    trial.trained_on()
    if joins == "between rounds":
        trial.grid.watch("train", lambda client, reply: trial.grid.heal())
        result = trial.train(3)
    else:
        trial.train(1)
        trial.grid.heal()
        trial.restart()
        result = trial.train(2)
    assert [(outcome.request.id, outcome.status) for outcome in result.requests] == [("r1", Status.COMMITTED)]
    asked = frozenset(trial.stored(2)["r1"]["sample_ids"])  # type: ignore[call-overload]
    trained = trial.trained_on() & trial.ids_of(2)
    assert asked and not trained & asked
    assert trained == (trial.ids_of(2) - asked if scope == "sample" else frozenset())


def test_what_nobody_knows_is_not_held_for_approval(tmp_path: Path) -> None:
    """What share of the client's samples it asks for is not known."""
    trial = Trial(tmp_path, plan=replace(PLAN, holds=Holds(of_client=0.1)))
    trial.train(1)
    trial.serve(NOBODY)
    assert trial.status("nobody") is Status.WAITING


def test_a_timeline_that_names_a_client_that_never_comes_ends_all_the_same(tmp_path: Path) -> None:
    trial = Trial(tmp_path)
    timeline = (Train(rounds=1), Forget((NOBODY,)), Forget((ForgetRequest.for_class(3, id="class"),)), Train(rounds=1))
    result = trial.strategy.run(trial.grid, timeline, initial_arrays(), timeout=0.2)
    assert result.complete and [outcome.request.id for outcome in result.requests] == ["class"]
    assert len(trial.strategy.state.experiences()) == 2
    assert trial.status("nobody") is Status.WAITING
    trial.restart()
    assert trial.strategy.run(trial.grid, timeline, initial_arrays(), timeout=0.2).requests == []
    trial.strategy.ledger.withdraw("nobody")
    assert trial.strategy.run(trial.grid, timeline, initial_arrays(), timeout=0.2).complete
    assert trial.status("nobody") is Status.WITHDRAWN
