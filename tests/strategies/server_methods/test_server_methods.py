"""What holds for all server-side methods: cut short after every step, against retraining, with clients that fail."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from federation import all_digits, digits_of, small_model
from flwr.serverapp.strategy import FedAdam, Strategy
from leaving import (
    LEAVING,
    SEED,
    STAYING,
    TARGET,
    TIMEOUT,
    Departure,
    bytes_of,
    exchanged,
    fail_at,
    federated_averaging,
    mark_taught_by_the_leaving_client,
    marked,
    poison,
    states_of,
)

from fed_unlearn import protocol
from fed_unlearn.arrays import Arrays
from fed_unlearn.checkpoints import CheckpointStore
from fed_unlearn.data.images import ImageSet
from fed_unlearn.ledger import Ledger
from fed_unlearn.logits import predict_logits
from fed_unlearn.records import decode, encode
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies.durable import DurableState
from fed_unlearn.strategies.inner.state import fresh_copy
from fed_unlearn.strategies.server_methods import MethodFailedError, create
from fed_unlearn.strategies.server_methods.fedosd import FedOSDState
from fed_unlearn.strategies.state import OpenAttempt
from fed_unlearn.strategies.training.trainer import Trainer

SHORT: dict[str, dict[str, Any]] = {
    "retrain": {},
    "federaser": {"recovery_rounds": 1},
    "projected-ascent": {"epochs": 2, "recovery_rounds": 2},
    "fedosd": {"unlearn_rounds": 2, "recovery_rounds": 2, "orthogonal_share": 0.0},
    "weight-negation": {"recovery_rounds": 2},
    "fedquit": {"recovery_rounds": 2},
    "negated-update": {"recovery_rounds": 2},
    "reset-and-relearn": {"blocks": 0, "rounds": 2, "own_training": True},
    "fresh-head": {"rounds": 2},
}
every_method = pytest.mark.parametrize("name", SHORT)


def adaptive() -> Strategy:
    return FedAdam(eta=0.02, fraction_evaluate=0.0, min_available_nodes=2)


# ---------------------------------------------------------------- what holds for all


@pytest.mark.parametrize(
    ("name", "new_inner"), [*((name, federated_averaging) for name in SHORT), ("retrain", adaptive)]
)
def test_a_run_cut_short_after_every_step_gives_the_same_bytes(tmp_path: Path, name: str, new_inner: Any) -> None:
    method = create(name, **SHORT[name])
    whole = Departure(tmp_path / "whole", rounds=2, new_inner=new_inner)
    states = states_of(method, whole.work())
    departure = Departure(tmp_path / "cut", rounds=2, new_inner=new_inner)
    store = CheckpointStore(tmp_path / "states")
    state = method.begin(departure.work())
    for expected in states:
        assert bytes_of(state.arrays) == bytes_of(expected.arrays)
        assert list(state.arrays) == list(departure.served)
        body, arrays = encode(state)
        stored = store.load(store.save(dict(sorted(arrays.items(), reverse=True)))), json.dumps(body)
        state = decode(method.state_class, json.loads(stored[1]), stored[0])
        assert type(state) is type(expected) is method.state_class
        expected_body, expected_arrays = encode(expected)
        assert (body, bytes_of(arrays)) == (expected_body, bytes_of(expected_arrays))
        if not state.done:
            work = departure.work()
            method.advance(work, state)  # a step that was lost with its process
            state = method.advance(departure.work(), state)


@every_method
def test_nobody_trains_on_the_leaving_clients_samples_and_buffers_stay_whole_numbers(
    departure: Departure, name: str
) -> None:
    work = departure.work()
    states = states_of(create(name, **SHORT[name]), work)
    trained_on = frozenset().union(*departure.task.trained_ids)
    assert trained_on
    assert not trained_on & set(digits_of(int(LEAVING)).train.ids)
    for state in states:
        assert {key: value.dtype for key, value in state.arrays.items()} == {
            key: value.dtype for key, value in departure.served.items()
        }
    assert states[-1].arrays["2.num_batches_tracked"].dtype == np.int64
    is_frozen = np.array_equal(states[-1].arrays["2.running_mean"], departure.served["2.running_mean"])
    assert is_frozen == (name == "reset-and-relearn")
    assert bytes_of(work.served) == bytes_of(departure.served)


@pytest.fixture(scope="module")
def marked_departure(tmp_path_factory: pytest.TempPathFactory) -> Departure:
    folder = tmp_path_factory.mktemp("marked")
    return Departure(folder, rounds=8, data_of=mark_taught_by_the_leaving_client, model_of=small_model)


@pytest.fixture(scope="module")
def oracle_shares(marked_departure: Departure) -> tuple[float, float]:
    """Of the model that never had the leaving client."""
    return shares(states_of(create("retrain"), marked_departure.work())[-1].arrays)


def shares(arrays: Arrays) -> tuple[float, float]:
    """Test samples that are right; and marked ones of other classes that are called the target."""
    model = small_model()
    model.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in arrays.items()})
    test = all_digits().test
    others = test.subset((test.labels != TARGET).nonzero().flatten())
    right = predict_logits(model, test).argmax(dim=1) == test.labels
    fooled = predict_logits(model, ImageSet(marked(others.images), others.labels)).argmax(dim=1) == TARGET
    return float(right.double().mean()), float(fooled.double().mean())


@pytest.mark.parametrize("name", ["federaser", "projected-ascent", "fedosd", "weight-negation", "negated-update"])
def test_what_only_the_leaving_client_taught_is_forgotten_and_the_rest_is_not(
    marked_departure: Departure, oracle_shares: tuple[float, float], name: str
) -> None:
    accuracy, fooled = shares(marked_departure.served)
    assert accuracy > 0.85 and fooled > 0.9
    oracle_accuracy, oracle_fooled = oracle_shares
    assert oracle_accuracy > 0.85 and oracle_fooled < 0.05
    accuracy, fooled = shares(states_of(create(name), marked_departure.work())[-1].arrays)
    assert accuracy >= oracle_accuracy - 0.02
    assert fooled <= 0.15


@pytest.mark.parametrize("name", ["projected-ascent", "fedosd", "fedquit", "negated-update"])
def test_a_leaving_client_that_fails_is_named_and_one_that_is_away_is_known_before(
    departure: Departure, name: str
) -> None:
    method = create(name, **SHORT[name])
    assert method.cannot_serve(departure.work()) is None
    away = replace(departure.work(), leaving_is_reachable=False)
    assert method.cannot_serve(away) == "the leaving client takes a step of its own, and client 2 is not reachable"
    work = departure.work()
    fail_at(departure, protocol.UNLEARN, LEAVING)
    with pytest.raises(MethodFailedError, match="client 2"):
        method.advance(work, method.begin(work))


@pytest.mark.parametrize(
    "name", ["federaser", "projected-ascent", "fedosd", "weight-negation", "fedquit", "negated-update", "fresh-head"]
)
def test_one_staying_client_that_fails_is_left_out_and_none_left_is_a_failure(departure: Departure, name: str) -> None:
    method = create(name, **SHORT[name])
    work = departure.work()
    fail_at(departure, protocol.REPAIR, "1")
    repairs = exchanged(work.grid, protocol.REPAIR)
    states = states_of(method, work)
    assert states[-1].done
    assert all(set(replies) == {"0", "3"} for _, replies in repairs)
    work = departure.work()
    for client in STAYING:
        fail_at(departure, protocol.REPAIR, client)
    with pytest.raises(MethodFailedError, match="no client that stays trained"):
        states_of(method, work)


@pytest.mark.parametrize(
    "name", ["federaser", "projected-ascent", "fedosd", "weight-negation", "fedquit", "negated-update", "fresh-head"]
)
def test_a_reply_that_is_not_finite_is_left_out_and_named(
    departure: Departure, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    work = departure.work()
    poison(departure, protocol.REPAIR, "3", lambda arrays: {**arrays, "1.weight": arrays["1.weight"] * np.nan})
    states = states_of(create(name, **SHORT[name]), work)
    assert all(np.isfinite(value).all() for value in states[-1].arrays.values())
    assert "client 3 is left out: its array '1.weight' is not finite" in caplog.text


@every_method
def test_requests_that_cannot_be_served_are_told_apart(departure: Departure, name: str) -> None:
    method, work = create(name, **SHORT[name]), departure.work()
    assert method.cannot_serve(work) is None
    reason = method.cannot_serve(replace(work, request=ForgetRequest.for_class(3, id="r2")))
    assert (reason is None) == (name in ("retrain", "reset-and-relearn"))
    elsewhere = method.cannot_serve(replace(work, initial=None))
    assert (elsewhere is not None) == (name in ("retrain", "federaser"))
    assert "trained elsewhere" in (elsewhere or "trained elsewhere")


def test_a_state_that_another_version_wrote_begins_the_attempt_anew(
    tmp_path: Path, departure: Departure, caplog: pytest.LogCaptureFixture
) -> None:
    ledger, checkpoints = Ledger(tmp_path / "ledger.db"), CheckpointStore(tmp_path / "checkpoints")
    state = DurableState(ledger, checkpoints, departure.new_inner(), seconds_between=0.0)
    state.save_open_work(OpenAttempt(requests=("r1",), number=1, method="fedosd", stronger=0))
    written = FedOSDState(step=2, arrays=departure.served, unlearned=2, recovers=True)
    state.save_method_state(written)
    read = state.load_method_state(FedOSDState)
    assert read is not None and (read.step, read.unlearned, read.recovers) == (2, 2, True)
    assert bytes_of(read.arrays) == bytes_of(departure.served)
    [open_work] = [state.open_work()]
    assert isinstance(open_work, OpenAttempt)
    state.save_open_work(replace(open_work, method_body={"step": 2, "groups": [], "facts": {}, "done": False}))
    assert state.load_method_state(FedOSDState) is None
    assert "fedosd: the attempt begins anew" in caplog.text


# ---------------------------------------------------------------- retrain


@pytest.mark.parametrize("new_inner", [federated_averaging, adaptive])
def test_retraining_equals_a_training_that_never_had_the_client(tmp_path: Path, new_inner: Any) -> None:
    departure = Departure(tmp_path / "left", rounds=3, new_inner=new_inner)
    states = states_of(create("retrain"), departure.work())
    assert len(states) == 4
    never = Departure(tmp_path / "never", rounds=0, new_inner=new_inner)
    grid = never.grid()
    grid.roster.clients = {node: client for node, client in grid.roster.clients.items() if client != LEAVING}
    trainer, arrays = Trainer(fresh_copy(new_inner()), grid, TIMEOUT, SEED), never.initial
    for number in range(1, 4):
        arrays = trainer.train(arrays, number, departure.work().train_config).arrays
    assert bytes_of(states[-1].arrays) == bytes_of(arrays)
    assert bytes_of(states[-1].arrays) != bytes_of(departure.served)


def test_retraining_without_any_training_is_refused(departure: Departure) -> None:
    reason = create("retrain").cannot_serve(replace(departure.work(), experiences=[]))
    assert reason == "no round was trained so far, so there is no training to repeat"
