"""Server-side methods against arithmetic done by hand, against retraining, and cut short after every step."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from federation import SETTINGS, digits_of, small_model
from flwr.app import Context, Message
from flwr.serverapp.strategy import FedAdam, Strategy
from leaving import (
    LEAVING,
    REQUEST,
    SEED,
    TARGET,
    TIMEOUT,
    Departure,
    bytes_of,
    federated_averaging,
    mark_taught_by_the_leaving_client,
    marked,
    normalised_model,
    states_of,
    trainable,
)

from fed_unlearn import protocol
from fed_unlearn.arrays import Arrays, pack, unpack
from fed_unlearn.checkpoints import CheckpointStore
from fed_unlearn.data.images import ImageSet
from fed_unlearn.data.sources import load_source
from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.inference import predict_logits
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.seeding import derive_seed, seeded_generator
from fed_unlearn.strategies.grid import EligibleGrid
from fed_unlearn.strategies.history import HistoryStore
from fed_unlearn.strategies.inner import fresh_copy
from fed_unlearn.strategies.server_methods import MethodFailedError, MethodState, create
from fed_unlearn.strategies.server_methods.fedosd import orthogonal_part, without_return
from fed_unlearn.strategies.server_methods.projected_ascent import reference_model
from fed_unlearn.strategies.training import Trainer
from fed_unlearn.training import train_locally

STAYING = ("0", "1", "3")
STATISTICS = ("2.running_mean", "2.running_var", "2.num_batches_tracked")
SHORT: dict[str, dict[str, Any]] = {
    "retrain": {},
    "federaser": {"recovery_rounds": 1},
    "projected-ascent": {"epochs": 2, "recovery_rounds": 2},
    "fedosd": {"unlearn_rounds": 2, "recovery_rounds": 2, "orthogonal_share": 0.0},
}
every_method = pytest.mark.parametrize("name", SHORT)


def adaptive() -> Strategy:
    return FedAdam(eta=0.02, fraction_evaluate=0.0, min_available_nodes=2)


@pytest.fixture
def departure(tmp_path: Path) -> Departure:
    return Departure(tmp_path, rounds=3)


def trained_by_hand(client: str, base: Arrays, step: int) -> tuple[Arrays, float]:
    """What a staying client makes of a model in one step of a method, without any message."""
    model = normalised_model()
    model.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in base.items()})
    data = digits_of(int(client)).train
    number = derive_seed("server-method", REQUEST.id or "", 1, step)
    train_locally(model, data, SETTINGS, seeded_generator(SEED, "repair", number, client))
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}, float(len(data))


def weighted(values: list[np.ndarray], weights: list[float]) -> np.ndarray:
    return np.average(np.stack([value.astype(np.float64) for value in values]), axis=0, weights=weights)


def exchanged(grid: EligibleGrid, message_type: str) -> list[tuple[Arrays, dict[str, Arrays]]]:
    """Grows by one entry with each exchange of that type: the model sent, and what each client made of it."""
    found: list[tuple[Arrays, dict[str, Arrays]]] = []
    ask = grid.ask

    def asked(kind: str, content: Any, *rest: Any) -> Any:
        answers = ask(kind, content, *rest)
        if kind == message_type:
            sent = unpack(content[protocol.ARRAYS_KEY])
            found.append((sent, {c: unpack(protocol.arrays_of(m)) for c, m in answers.replies.items()}))
        return answers

    grid.ask = asked  # type: ignore[method-assign]
    return found


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
        arrays, body = state.packed()
        stored = store.load(store.save(dict(sorted(arrays.items(), reverse=True)))), json.dumps(body)
        state = MethodState.unpacked(stored[0], json.loads(stored[1]))
        assert (state.step, state.done, state.facts) == (expected.step, expected.done, expected.facts)
        assert {key: bytes_of(value) for key, value in state.memory.items()} == {
            key: bytes_of(value) for key, value in expected.memory.items()
        }
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
    assert not np.array_equal(states[-1].arrays["2.running_mean"], departure.served["2.running_mean"])
    assert bytes_of(work.served) == bytes_of(departure.served)


@pytest.fixture(scope="module")
def marked_departure(tmp_path_factory: pytest.TempPathFactory) -> Departure:
    folder = tmp_path_factory.mktemp("marked")
    return Departure(folder, rounds=8, data_of=mark_taught_by_the_leaving_client, model_of=small_model)


def shares(arrays: Arrays) -> tuple[float, float]:
    """Test samples that are right; and marked ones of other classes that are called the target."""
    model = small_model()
    model.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in arrays.items()})
    test = load_source("digits").test
    others = test.subset((test.labels != TARGET).nonzero().flatten())
    right = predict_logits(model, test).argmax(dim=1) == test.labels
    fooled = predict_logits(model, ImageSet(marked(others.images), others.labels)).argmax(dim=1) == TARGET
    return float(right.double().mean()), float(fooled.double().mean())


@pytest.mark.parametrize("name", ["federaser", "projected-ascent", "fedosd"])
def test_what_only_the_leaving_client_taught_is_forgotten_and_the_rest_is_not(
    marked_departure: Departure, name: str
) -> None:
    accuracy, fooled = shares(marked_departure.served)
    assert accuracy > 0.85 and fooled > 0.9
    oracle_accuracy, oracle_fooled = shares(states_of(create("retrain"), marked_departure.work())[-1].arrays)
    assert oracle_accuracy > 0.85 and oracle_fooled < 0.05
    accuracy, fooled = shares(states_of(create(name), marked_departure.work())[-1].arrays)
    assert accuracy >= oracle_accuracy - 0.02
    assert fooled <= 0.15


@pytest.mark.parametrize("name", ["projected-ascent", "fedosd"])
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


@pytest.mark.parametrize("name", ["federaser", "projected-ascent", "fedosd"])
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


@pytest.mark.parametrize("name", ["federaser", "projected-ascent", "fedosd"])
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
    assert (reason is None) == (name == "retrain")
    elsewhere = method.cannot_serve(replace(work, initial=None))
    assert (elsewhere is not None) == (name in ("retrain", "federaser"))
    assert "trained elsewhere" in (elsewhere or "trained elsewhere")


def test_states_that_are_none_are_refused(departure: Departure) -> None:
    arrays, body = MethodState(step=1, arrays=departure.served, memory={"m": {}}, facts={"n": [1, 2]}).packed()
    assert MethodState.unpacked(arrays, body).facts == {"n": [1, 2]}
    assert MethodState.unpacked(arrays, body).memory == {"m": {}}
    for damaged in ({}, {**body, "step": "one"}, {**body, "more": 1}):
        with pytest.raises(FedUnlearnError, match="not the state of a server-side method"):
            MethodState.unpacked(arrays, damaged)
    with pytest.raises(FedUnlearnError, match="not the state of a server-side method"):
        MethodState.unpacked({}, body)


def fail_at(departure: Departure, message_type: str, client: str) -> None:
    poison(departure, message_type, client, None)


def poison(departure: Departure, message_type: str, client: str, change: Any) -> None:
    """Change the model that a client answers with; or let it raise, where no change is given."""
    handlers = departure.federation.app._registered_funcs
    handler = handlers[message_type]

    def poisoned(message: Message, context: Context) -> Message:
        if str(context.node_config["partition-id"]) != client:
            return handler(message, context)
        if change is None:
            raise ValueError("sample 17 has label 3")
        reply = handler(message, context)
        reply.content[protocol.ARRAYS_KEY] = pack(change(unpack(protocol.arrays_of(reply))))
        return reply

    handlers[message_type] = poisoned


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


# ---------------------------------------------------------------- FedEraser


def test_federaser_by_hand(departure: Departure) -> None:
    work, method = departure.work(), create("federaser", recovery_rounds=0)
    assert work.history is not None
    state = method.begin(work)
    assert bytes_of(state.arrays) == bytes_of(departure.initial)
    for step in range(3):
        stored = work.history.load(step + 1)
        before = trainable(state.arrays)
        fresh = {client: trained_by_hand(client, state.arrays, step) for client in STAYING}
        weights = [fresh[client][1] for client in STAYING]
        changes = []
        for client in STAYING:
            direction = trainable(fresh[client][0]) - before
            length = np.linalg.norm(trainable(stored.local[client][0]) - trainable(stored.base))
            changes.append(length * direction / np.linalg.norm(direction))
        state = method.advance(work, state)
        np.testing.assert_allclose(trainable(state.arrays), before + weighted(changes, weights), rtol=0, atol=2e-6)
        for name in STATISTICS:
            averaged = weighted([fresh[client][0][name] for client in STAYING], weights)
            np.testing.assert_allclose(state.arrays[name], averaged, rtol=1e-6, atol=1e-6)
    assert state.done


def test_federaser_then_trains_as_usual(departure: Departure) -> None:
    states = states_of(create("federaser", recovery_rounds=1), departure.work())
    assert [state.done for state in states] == [False, False, False, False, True]
    fresh = [trained_by_hand(client, states[3].arrays, 3) for client in STAYING]
    averaged = weighted([trainable(arrays) for arrays, _ in fresh], [weight for _, weight in fresh])
    np.testing.assert_allclose(trainable(states[4].arrays), averaged, rtol=0, atol=2e-6)


def test_federaser_replays_with_whoever_is_left(departure: Departure) -> None:
    work = departure.work()
    method = create("federaser", recovery_rounds=0)
    work.grid.roster.leaving.add("1")
    repairs = exchanged(work.grid, protocol.REPAIR)
    first = method.advance(work, method.begin(work))
    assert [set(replies) for _, replies in repairs] == [{"0", "3"}]
    work.grid.roster.leaving.update(STAYING)
    passed_over = method.advance(work, first)
    assert bytes_of(passed_over.arrays) == bytes_of(first.arrays)
    assert len(repairs) == 1


def test_federaser_needs_the_history_from_the_first_round_on(departure: Departure, tmp_path: Path) -> None:
    method, work = create("federaser"), departure.work()
    empty = HistoryStore(tmp_path / "other")
    late = HistoryStore(tmp_path / "late")
    late.record(2, departure.served, {"1": (departure.served, 1.0)})
    assert method.cannot_serve(replace(work, history=None)) == "no history is kept, so there is no training to replay"
    for history in (empty, late):
        reason = method.cannot_serve(replace(work, history=history))
        assert reason == "the history does not begin with the first round, which was purged or too large"


def test_federaser_names_the_damaged_file(departure: Departure) -> None:
    method, work = create("federaser"), departure.work()
    state = method.begin(work)
    for path in (departure.folder / "history" / "models").iterdir():
        path.write_bytes(b"damaged")
    with pytest.raises(MethodFailedError, match=r"\.safetensors: the bytes are not those that its name promises"):
        method.advance(work, state)


def test_federaser_with_every_second_round(tmp_path: Path) -> None:
    departure = Departure(tmp_path, rounds=4, every=2)
    states = states_of(create("federaser", recovery_rounds=0), departure.work())
    assert states[0].facts["rounds"] == [1, 3]
    assert [state.done for state in states] == [False, False, True]


# ---------------------------------------------------------------- projected ascent


def test_the_reference_is_the_mean_of_the_others(departure: Departure) -> None:
    work = departure.work()
    assert work.history is not None
    last = work.history.load(3)
    others = [last.local[client] for client in STAYING]
    mean = weighted([trainable(arrays) for arrays, _ in others], [weight for _, weight in others])
    np.testing.assert_allclose(trainable(reference_model(work)), mean, rtol=0, atol=2e-6)
    assert np.linalg.norm(trainable(departure.served) - mean) > 1e-3
    for name in STATISTICS:
        assert reference_model(work)[name].tobytes() == departure.served[name].tobytes()
    last.local.pop(LEAVING)
    work.history.record(3, last.base, last.local)
    assert reference_model(work) is work.served
    assert reference_model(replace(work, history=None)) is work.served
    work.history.purge()
    assert reference_model(work) is work.served


def test_the_ascent_comes_once_and_ordinary_rounds_follow(departure: Departure) -> None:
    work = departure.work()
    ascents, repairs = exchanged(work.grid, protocol.UNLEARN), exchanged(work.grid, protocol.REPAIR)
    method = create("projected-ascent", epochs=2, recovery_rounds=2)
    states = states_of(method, work)
    [(sent, replies)] = ascents
    assert list(replies) == [LEAVING]
    assert bytes_of(sent) == bytes_of(reference_model(work))
    np.testing.assert_allclose(trainable(states[1].arrays), trainable(replies[LEAVING]), rtol=0, atol=1e-6)
    assert len(repairs) == 2
    fresh = [trained_by_hand(client, states[1].arrays, 1) for client in STAYING]
    averaged = weighted([trainable(arrays) for arrays, _ in fresh], [weight for _, weight in fresh])
    np.testing.assert_allclose(trainable(states[2].arrays), averaged, rtol=0, atol=2e-6)


def test_a_leaving_client_cannot_carry_the_model_away(departure: Departure) -> None:
    work = departure.work()
    reference = trainable(reference_model(work))
    poison(
        departure,
        protocol.UNLEARN,
        LEAVING,
        lambda arrays: {
            **arrays,
            "1.weight": arrays["1.weight"] + 100,
            "2.running_mean": arrays["2.running_mean"] + 100,
        },
    )
    method = create("projected-ascent", radius_fraction=0.01, recovery_rounds=1)
    state = method.advance(work, method.begin(work))
    assert bytes_of(state.arrays)["2.running_mean"] == bytes_of(departure.served)["2.running_mean"]
    moved = trainable(state.arrays) - reference
    bound = 0.01 * np.sqrt(2) * np.linalg.norm(reference)
    np.testing.assert_allclose(np.linalg.norm(moved), bound, rtol=1e-5)


# ---------------------------------------------------------------- FedOSD


def test_fedosd_unlearns_at_right_angles_to_everyone_else(departure: Departure) -> None:
    work = departure.work()
    leaving, repairs = exchanged(work.grid, protocol.UNLEARN), exchanged(work.grid, protocol.REPAIR)
    method = create("fedosd", unlearn_rounds=3, recovery_rounds=1, orthogonal_share=0.0)
    state = method.begin(work)
    for _ in range(3):
        before = trainable(state.arrays)
        following = method.advance(work, state)
        step = trainable(following.arrays) - before
        others = np.stack([trainable(arrays) - before for arrays in repairs[-1][1].values()])
        wanted = trainable(leaving[-1][1][LEAVING]) - before
        # Independently: what least squares cannot express of the wanted change by the others'.
        coefficients, *_ = np.linalg.lstsq(others.T, wanted, rcond=None)
        residual = wanted - others.T @ coefficients
        length = min(np.linalg.norm(wanted), float(np.median(np.linalg.norm(others, axis=1))))
        np.testing.assert_allclose(step, residual * length / np.linalg.norm(residual), rtol=0, atol=1e-6)
        cosines = others @ step / np.linalg.norm(others, axis=1) / np.linalg.norm(step)
        assert np.abs(cosines).max() < 1e-4
        assert step @ wanted > 0
        weights = [float(len(digits_of(int(client)).train)) for client in STAYING]
        for name in STATISTICS:
            averaged = weighted([arrays[name] for arrays in repairs[-1][1].values()], weights)
            np.testing.assert_allclose(following.arrays[name], averaged, rtol=1e-6, atol=1e-6)
        state = following
    assert len(leaving) == len(repairs) == 3


def test_fedosd_recovers_without_moving_back(departure: Departure) -> None:
    work = departure.work()
    leaving, repairs = exchanged(work.grid, protocol.UNLEARN), exchanged(work.grid, protocol.REPAIR)
    method = create("fedosd", unlearn_rounds=2, recovery_rounds=4, learning_rate=0.5, orthogonal_share=0.0)
    states = states_of(method, work)
    assert (len(states), len(leaving), len(repairs)) == (7, 2, 6)
    served, projected = trainable(departure.served), 0
    for before, after, (_, replies) in zip(states[2:], states[3:], repairs[2:], strict=False):
        away = trainable(before.arrays) - served
        changes = []
        for arrays in replies.values():
            change = trainable(arrays) - trainable(before.arrays)
            if change @ away < 0:
                change = change - (change @ away) / (away @ away) * away
                projected += 1
            changes.append(change)
        weights = [float(len(digits_of(int(client)).train)) for client in replies]
        step = trainable(after.arrays) - trainable(before.arrays)
        np.testing.assert_allclose(step, weighted(changes, weights), rtol=0, atol=1e-6)
        assert step @ away >= -1e-6 * np.linalg.norm(away)
    assert projected > 0


def test_fedosd_stops_unlearning_once_the_leaving_client_is_not_recognised(departure: Departure) -> None:
    work = departure.work()
    leaving = exchanged(work.grid, protocol.UNLEARN)
    states = states_of(create("fedosd", target_accuracy=0.9999, recovery_rounds=2), work)
    model = normalised_model()
    model.load_state_dict({name: torch.from_numpy(value) for name, value in departure.served.items()})
    samples = digits_of(int(LEAVING)).train
    accuracy = float((predict_logits(model, samples).argmax(dim=1) == samples.labels).double().mean())
    assert accuracy <= 0.9999
    assert len(leaving) == 1 and len(states) == 3
    assert bytes_of(leaving[0][1][LEAVING]) == bytes_of(departure.served)


def test_fedosd_stops_unlearning_once_most_of_it_is_what_the_others_know(departure: Departure) -> None:
    work = departure.work()
    leaving, repairs = exchanged(work.grid, protocol.UNLEARN), exchanged(work.grid, protocol.REPAIR)
    states = states_of(create("fedosd", orthogonal_share=1.0, unlearn_rounds=5, recovery_rounds=2), work)
    # The first round is always taken; the second one's training already serves the first recovery.
    assert (len(leaving), len(repairs), len(states)) == (2, 3, 4)


def test_fedosd_bounds_a_leaving_client_by_the_others(departure: Departure) -> None:
    work = departure.work()
    repairs = exchanged(work.grid, protocol.REPAIR)
    poison(
        departure,
        protocol.UNLEARN,
        LEAVING,
        lambda arrays: {**arrays, "1.weight": arrays["1.weight"] + 100, "2.running_var": arrays["2.running_var"] + 9},
    )
    method = create("fedosd")
    state = method.advance(work, method.begin(work))
    served = trainable(departure.served)
    lengths = [np.linalg.norm(trainable(arrays) - served) for arrays in repairs[0][1].values()]
    np.testing.assert_allclose(np.linalg.norm(trainable(state.arrays) - served), np.median(lengths), rtol=1e-5)
    variances = [arrays["2.running_var"] for arrays in repairs[0][1].values()]
    assert np.all(state.arrays["2.running_var"] <= np.max(variances, axis=0) + 1e-6)


def test_orthogonal_parts_of_changes_that_depend_on_each_other() -> None:
    generator = np.random.default_rng(0)
    first, second, change = (
        {"a": generator.standard_normal((4, 3)), "b": generator.standard_normal(5)} for _ in range(3)
    )
    sum_of_both = {name: 1e-4 * (first[name] + second[name]) for name in first}
    nothing = {name: np.zeros_like(value) for name, value in first.items()}
    left = trainable(orthogonal_part(change, [first, second, sum_of_both, nothing]))
    for other in (first, second, sum_of_both):
        assert abs(left @ trainable(other)) < 1e-12
    expected = trainable(orthogonal_part(change, [first, second]))
    np.testing.assert_allclose(left, expected, rtol=0, atol=1e-12)
    assert orthogonal_part(change, [nothing]) is change
    vanished = trainable(orthogonal_part(first, [first, second]))
    assert np.linalg.norm(vanished) < 1e-12
    assert without_return({"a": np.array([1.0, 2.0])}, {"a": np.array([1.0, 0.0])})["a"].tolist() == [1, 2]
    assert without_return({"a": np.array([-3.0, 2.0])}, {"a": np.array([2.0, 0.0])})["a"].tolist() == [0, 2]
    assert without_return({"a": np.array([-3.0])}, {"a": np.array([0.0])})["a"].tolist() == [-3]
