"""Faults of clients in ``train.unlearn``; :mod:`test_faults` has the table of what each of them leads to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fault_trials import (
    ALWAYS_WRONG,
    CLASS,
    CLIENT,
    NO_ANSWER,
    PLAN,
    SAMPLES,
    SCOPES,
    few_digits,
    length,
    no_three_at_client_2,
    served_with,
    trained,
)
from faulty_grid import every_array, metric, without
from federation import same_bytes
from flwr.app import ConfigRecord, Message

from fed_unlearn import protocol
from fed_unlearn.arrays import Arrays, unpack
from fed_unlearn.gate import Gate
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.receipts.words import words_of
from fed_unlearn.requests import ForgetRequest

MALFORMED = ("no counts", "refuses for all", "speaks of others")


def told(**texts: str):  # type: ignore[no-untyped-def]
    """Let a reply say other things of what it holds."""

    def changed(reply: Message) -> None:
        record = reply.content.config_records["forgotten"]
        reply.content["forgotten"] = ConfigRecord({**record, **texts})

    return changed


# ---------------------------------------------------------------------- who answers, and not as they should


@pytest.mark.parametrize("scope", ["class", "sample"])
@pytest.mark.parametrize("kind", ALWAYS_WRONG)
def test_a_holder_that_keeps_doing_wrong_fails_the_request(tmp_path: Path, scope: str, kind: str) -> None:
    trial = trained(tmp_path)
    before = trial.train(0).arrays
    trial.do(kind, 2, protocol.UNLEARN)
    result = trial.serve(SCOPES[scope])
    [outcome] = result.requests
    assert outcome.status is Status.FAILED
    assert "client 2" in (outcome.reason or "") or "OSError" in (outcome.reason or "")
    assert words_of(outcome.reason, outcome.status) == ("client-missing",)
    assert outcome.attempts == Gate().max_attempts
    asked = Gate().max_attempts * (PLAN.retry.count + 1 if kind == "raises" else 1)
    assert trial.grid.count(2, protocol.UNLEARN) == asked
    assert same_bytes(result.arrays, before)
    trial.grid.heal()
    trial.trained_on()
    trial.train(1)
    quarantined = {name for client in range(4) for name in trial.stored(client).get("r1", {}).get("sample_ids", ())}  # type: ignore[attr-defined]
    assert quarantined if kind != "raises" or scope == "class" else not quarantined
    assert not trial.trained_on() & quarantined


@pytest.mark.parametrize("scope", ["class", "sample"])
@pytest.mark.parametrize("kind", ALWAYS_WRONG)
def test_a_holder_that_does_wrong_once_is_asked_again(tmp_path: Path, scope: str, kind: str) -> None:
    trial = trained(tmp_path)
    trial.do(kind, 2, protocol.UNLEARN, times=1)
    [outcome] = trial.serve(SCOPES[scope]).requests
    assert outcome.status is Status.COMMITTED
    assert outcome.attempts == (1 if kind == "raises" else 2)
    assert trial.stored(2)["r1"]["tombstoned"]


def test_who_raises_is_asked_again_alone_after_growing_pauses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = trained(tmp_path, plan=replace(PLAN, retries=3, backoff_seconds=0.5))
    trial.do("raises", 2, protocol.UNLEARN, times=3)
    pauses: list[float] = []
    monkeypatch.setattr("fed_unlearn.strategies.clients.grid.time.sleep", pauses.append)
    [outcome] = trial.serve(CLASS).requests
    assert (outcome.status, outcome.attempts) == (Status.COMMITTED, 1)
    assert pauses == [0.5, 1.0, 2.0]
    assert [trial.grid.count(client, protocol.UNLEARN) for client in range(4)] == [1, 1, 4, 1]


@pytest.mark.parametrize("kind", [*ALWAYS_WRONG, *NO_ANSWER, "gone"])
def test_a_client_that_holds_nothing_of_the_class_stops_nobody(tmp_path: Path, kind: str) -> None:
    trial = trained(tmp_path, data_of=no_three_at_client_2)
    trial.do(kind, 2, protocol.UNLEARN)
    [outcome] = trial.serve(CLASS).requests
    assert outcome.status is Status.COMMITTED
    assert outcome.attempts == 1


@pytest.mark.parametrize("scope", ["class", "sample"])
@pytest.mark.parametrize("kind", MALFORMED)
def test_answers_that_say_nothing_or_too_much_are_wrong_answers(tmp_path: Path, scope: str, kind: str) -> None:
    """One holder cannot have a request rejected that others were asked too, nor one that it was not asked about."""
    change = {
        "no counts": without("forgotten"),
        "refuses for all": told(refused='{"r1": "no", "r2": "no"}'),
        "speaks of others": told(refused='{"no-such-request": "no"}'),
    }[kind]
    trial = trained(tmp_path)
    trial.grid.spoil(change, 2, protocol.UNLEARN)
    trial.serve(SCOPES[scope])
    assert trial.status() is Status.FAILED
    assert "client 2" in trial.reason()
    trial.grid.heal()
    [outcome] = trial.serve(ForgetRequest.for_class(5)).requests
    assert outcome.status is Status.COMMITTED


def test_counts_of_what_was_not_asked_are_not_taken(tmp_path: Path) -> None:
    trial = trained(tmp_path)
    trial.grid.spoil(told(counts='{"r1": 5, "no-such-request": 3, "r9": 1}'), 2, protocol.UNLEARN)
    [outcome] = trial.serve(CLASS).requests
    assert outcome.status is Status.COMMITTED


@pytest.mark.parametrize("scope", ["class", "sample"])
def test_who_answers_twice_is_heard_once(scope: str) -> None:
    twice, once = (served_with(kind, 2, protocol.UNLEARN, scope) for kind in ("twice", "none"))
    assert same_bytes(twice.arrays, once.arrays)


# ---------------------------------------------------------------------- absurdly long changes


def absurd(value: np.ndarray) -> np.ndarray:
    return value * np.float32(1e6)


def test_an_absurd_change_of_a_class_holder_is_scaled_down(tmp_path: Path) -> None:
    trial = trained(tmp_path, plan=replace(PLAN, repair_rounds=0))
    start = unpack(trial.train(0).arrays)
    assert trial.strategy.served is not None and trial.strategy.served.update_norm is not None
    bound = 10 * trial.strategy.served.update_norm
    came = trial.recorded(protocol.UNLEARN)
    trial.grid.spoil(every_array(absurd), 2, protocol.UNLEARN)
    result = trial.serve(CLASS)
    assert trial.status() is Status.COMMITTED
    expected = holders_average(dict(came), start, bound)
    for name in ("3.weight", "3.bias"):  # output rows are set at the commit
        expected[name][3] = np.delete(expected[name], 3, axis=0).mean(axis=0)
    for name, array in result.arrays.items():
        np.testing.assert_allclose(array.numpy(), expected[name], rtol=1e-4, atol=1e-5)


def holders_average(models: dict[int, Arrays], start: Arrays, bound: float) -> Arrays:
    """By forget samples, client 2's change scaled down to the bound, or to 1.5 times the longest of the others."""
    bound = min(bound, 1.5 * max(length(model, start) for client, model in models.items() if client != 2))
    wild = {name: absurd(value) for name, value in models[2].items()}
    share = bound / length(wild, start)
    models[2] = {name: start[name] + share * (wild[name].astype(np.float64) - start[name]) for name in start}
    weights = {client: int((few_digits(client).train.labels == 3).sum()) for client in models}
    total = sum(weights.values())
    return {name: np.sum([weights[c] / total * m[name] for c, m in models.items()], axis=0) for name in start}


def test_an_absurd_change_of_a_sample_holder_is_clipped_to_the_usual_length(tmp_path: Path) -> None:
    trial = trained(tmp_path, plan=replace(PLAN, max_holder_steps=1))
    before = trial.train(0).arrays
    assert trial.strategy.served is not None and trial.strategy.served.update_norm is not None
    usual = trial.strategy.served.update_norm
    trial.grid.spoil(every_array(absurd), 2, protocol.UNLEARN)
    after = trial.serve(SAMPLES).arrays
    assert trial.status() is Status.COMMITTED
    assert length(after, before) == pytest.approx(usual, rel=1e-3)


# ---------------------------------------------------------------------- a client that is to be forgotten


@pytest.mark.parametrize("kind", ["raises", "nan", "no arrays", *NO_ANSWER, "gone"])
def test_a_client_is_forgotten_without_its_help_where_the_method_can(tmp_path: Path, kind: str) -> None:
    trial = trained(tmp_path)
    trial.do(kind, 2, protocol.UNLEARN)
    result = trial.serve(CLIENT)
    assert trial.status() is Status.COMMITTED
    assert same_bytes(result.arrays, served_with("none", 2, protocol.UNLEARN, "client").arrays)
    trial.grid.heal()
    trial.trained_on()
    trial.train(1)
    assert not trial.trained_on() & trial.ids_of(2)


@pytest.mark.parametrize("kind", [*ALWAYS_WRONG, "deaf", "gone"])
def test_staying_clients_that_do_wrong_are_left_out_of_retraining(tmp_path: Path, kind: str) -> None:
    trial = trained(tmp_path)
    trial.do(kind, 1, protocol.TRAIN)
    result = trial.serve(CLIENT)
    assert trial.status() is Status.COMMITTED
    assert same_bytes(result.arrays, served_with("silent", 1, protocol.TRAIN, "client").arrays)


@pytest.mark.parametrize("kind", [*ALWAYS_WRONG, "deaf", "gone"])
@pytest.mark.parametrize("escalates", [True, False])
def test_a_method_that_needs_the_leaving_client_fails_or_gives_way_to_another(
    tmp_path: Path, kind: str, escalates: bool
) -> None:
    plan = replace(PLAN, client_method="fedosd", escalation={"client": ("retrain",)} if escalates else {})
    trial = trained(tmp_path, plan=plan)
    before = trial.train(0).arrays
    trial.do(kind, 2, protocol.UNLEARN)
    [outcome] = trial.serve(CLIENT).requests
    if escalates:
        assert (outcome.status, outcome.method) == (Status.COMMITTED, "retrain")
    else:
        assert outcome.status is Status.FAILED
        assert "fedosd: " in (outcome.reason or "")
        assert same_bytes(trial.train(0).arrays, before)


def test_steps_that_are_no_number_are_no_steps(tmp_path: Path) -> None:
    trial = trained(tmp_path, plan=replace(PLAN, client_method="fedosd"))
    trial.grid.spoil(metric("steps", float("nan")), 2, protocol.UNLEARN)
    [outcome] = trial.serve(CLIENT).requests
    assert outcome.status in (Status.COMMITTED, Status.FAILED)
