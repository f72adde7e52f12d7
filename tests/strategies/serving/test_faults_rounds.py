"""Faults of clients in repair, confirmation and discarding; :mod:`test_faults` has the table of what they lead to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fault_trials import (
    ALWAYS_WRONG,
    CLASS,
    NO_ANSWER,
    PLAN,
    SAMPLES,
    SCOPES,
    length,
    served_with,
    trained,
)
from faulty_grid import every_array, without
from federation import same_bytes

from fed_unlearn import protocol
from fed_unlearn.ledger import Ledger
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.requests import ForgetRequest

# ---------------------------------------------------------------------- train.repair


@pytest.mark.parametrize("scope", ["class", "sample"])
@pytest.mark.parametrize("kind", [*ALWAYS_WRONG, *NO_ANSWER])
def test_who_does_not_repair_as_asked_is_left_out_of_that_round(scope: str, kind: str) -> None:
    """The model is the one that the others make: as if the client had not heard of the round."""
    result, expected = (served_with(fault, 1, protocol.REPAIR, scope, alternations=1) for fault in (kind, "deaf"))
    assert [outcome.status for outcome in result.requests] == [Status.COMMITTED]
    assert same_bytes(result.arrays, expected.arrays)


def test_who_repairs_twice_is_heard_once() -> None:
    twice, once = (served_with(kind, 1, protocol.REPAIR, "class") for kind in ("twice", "none"))
    assert same_bytes(twice.arrays, once.arrays)


def test_a_repair_of_an_earlier_round_is_not_used(tmp_path: Path) -> None:
    models = {}
    for kind in ("late", "silent"):
        trial = trained(tmp_path / kind, plan=replace(PLAN, repair_rounds=2))
        trial.do(kind, 1, protocol.REPAIR, times=1)
        models[kind] = trial.serve(CLASS).arrays
        assert trial.grid.count(1, protocol.REPAIR) == 2
    assert same_bytes(models["late"], models["silent"])


def test_an_absurd_repair_is_scaled_down(tmp_path: Path) -> None:
    """Four clients of 64 samples at most: none moves the average further than its share of ten times the usual."""
    trial = trained(tmp_path)
    assert trial.strategy.served is not None and trial.strategy.served.update_norm is not None
    usual = trial.strategy.served.update_norm
    trial.grid.spoil(every_array(lambda value: value * np.float32(1e6)), 1, protocol.REPAIR)
    wild = trial.serve(CLASS).arrays
    apart = length(wild, served_with("deaf", 1, protocol.REPAIR, "class").arrays)
    assert 0.5 * usual < apart < 10 * usual


@pytest.mark.parametrize("kind", ["deaf", "silent"])
def test_a_request_waits_where_nobody_repairs(tmp_path: Path, kind: str) -> None:
    trial = trained(tmp_path)
    before = trial.train(0).arrays
    for client in range(4):
        trial.do(kind, client, protocol.REPAIR)
    result = trial.serve(CLASS)
    assert (trial.status(), result.requests) == (Status.WAITING, [])
    assert same_bytes(result.arrays, before)
    trial.grid.heal()
    [outcome] = trial.serve().requests
    assert (outcome.status, outcome.attempts) == (Status.COMMITTED, 2)


# ---------------------------------------------------------------------- train.confirm and train.discard


@pytest.mark.parametrize("scope", ["class", "sample"])
@pytest.mark.parametrize("kind", ["raises", "no stamp"])
def test_a_holder_that_keeps_refusing_its_tombstones_fails_the_request(tmp_path: Path, scope: str, kind: str) -> None:
    trial = trained(tmp_path)
    before = trial.train(0).arrays
    if kind == "raises":
        trial.do("raises", 2, protocol.CONFIRM)
    else:
        trial.grid.spoil(without(protocol.STAMP_KEY), 2, protocol.CONFIRM)
    result = trial.serve(SCOPES[scope])
    assert [outcome.status for outcome in result.requests] == [Status.FAILED]
    assert "clients 2 did not confirm their tombstones" in trial.reason()
    assert same_bytes(result.arrays, before)
    trial.grid.heal()
    trial.trained_on()
    trial.train(1)
    kept = frozenset(trial.stored(2)["r1"]["sample_ids"])  # type: ignore[call-overload]
    assert kept and not trial.trained_on() & kept


@pytest.mark.parametrize("scope", ["class", "sample"])
@pytest.mark.parametrize("kind", ["raises", *NO_ANSWER, "twice"])
def test_a_holder_that_fails_to_confirm_once_is_asked_again(tmp_path: Path, scope: str, kind: str) -> None:
    trial = trained(tmp_path)
    trial.do(kind, 2, protocol.CONFIRM, times=1)
    result = trial.serve(SCOPES[scope])
    assert (trial.status(), trial.owed()) == (Status.COMMITTED, ())
    assert trial.stored(2)["r1"]["tombstoned"]
    assert same_bytes(result.arrays, served_with("none", 2, protocol.CONFIRM, scope).arrays)


@pytest.mark.parametrize("scope", ["class", "sample"])
@pytest.mark.parametrize("kind", [*NO_ANSWER, "leaves"])
@pytest.mark.parametrize("restarts", [True, False], ids=["in another process", "in the same process"])
def test_a_holder_that_is_silent_at_the_commit_owes_its_tombstones(
    tmp_path: Path, scope: str, kind: str, restarts: bool
) -> None:
    """Its samples are in quarantine, and it is in no round until it has written them; or has said that it had."""
    trial = trained(tmp_path)
    trial.serve(ForgetRequest.for_class(7, id="earlier"))
    trial.do(kind, 2, protocol.CONFIRM)
    [outcome] = trial.serve(replace(SCOPES[scope], id="r1")).requests
    assert outcome.status is Status.COMMITTED
    assert trial.owed() == ("2",)
    if restarts:
        trial.restart()
    trial.trained_on()
    trial.train(1)
    assert not trial.trained_on() & trial.ids_of(2)
    trial.grid.heal()
    trial.train(1)
    assert trial.owed() == ()
    seen, stored = trial.trained_on(), trial.stored(2)["r1"]
    assert stored["tombstoned"]
    assert seen & trial.ids_of(2), "it takes part again"
    assert not seen & frozenset(stored["sample_ids"])  # type: ignore[call-overload]


def test_who_owes_tombstones_cannot_do_without_its_earlier_ones(tmp_path: Path) -> None:
    """A lost store is a lost store: that one confirmation went unheard does not excuse it."""
    trial = trained(tmp_path)
    trial.serve(ForgetRequest.for_class(7, id="earlier"))
    trial.do("silent", 2, protocol.CONFIRM)
    trial.serve(replace(SAMPLES, id="r1"))
    assert trial.owed() == ("2",)
    trial.grid.heal()
    (tmp_path / "clients" / "2" / "state.json").unlink()
    trial.restart()
    trial.trained_on()
    trial.train(1)
    assert not trial.trained_on() & trial.ids_of(2)


def test_a_commit_cut_short_after_a_client_had_confirmed_is_taken_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client shows tombstones that the ledger has not heard of: it is known what they may be."""
    trial = trained(tmp_path)
    trial.serve(ForgetRequest.for_class(7, id="earlier"))

    def power_cut(*_: object, **__: object) -> None:
        raise SystemExit("power cut")

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(Ledger, "confirm_tombstones", power_cut)
        trial.serve(replace(SAMPLES, id="r1"))
    assert trial.stored(2)["r1"]["tombstoned"]
    trial.restart()
    [outcome] = trial.serve().requests
    assert outcome.status is Status.COMMITTED
    trial.trained_on()
    trial.train(1)
    assert trial.trained_on() & trial.ids_of(2)


@pytest.mark.parametrize("kind", ["raises", *NO_ANSWER, "twice"])
def test_an_attempt_that_was_not_discarded_everywhere_is_over_all_the_same(tmp_path: Path, kind: str) -> None:
    """The first attempt fails at client 1; its guard labels at client 2 are of no use in the second one."""
    models = []
    for fault in (kind, "none"):
        trial = trained(tmp_path / fault)
        trial.do("nan", 1, protocol.UNLEARN, times=1)
        trial.do(fault, 2, protocol.DISCARD)
        models.append(trial.serve(CLASS).arrays)
        assert (trial.status(), trial.strategy.ledger.entry("r1").attempt) == (Status.COMMITTED, 2)
    assert same_bytes(*models)
