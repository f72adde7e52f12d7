"""FedEraser, projected ascent, FedOSD, weight negation, FedQUIT, PUF and a reset, step by step against arithmetic done by hand."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from federation import SETTINGS, digits_of
from leaving import (
    LEAVING,
    REQUEST,
    SEED,
    STATISTICS,
    STAYING,
    Departure,
    bytes_of,
    exchanged,
    normalised_model,
    poison,
    states_of,
    trainable,
    trained_by_hand,
    weighted_mean,
)

from fed_unlearn import protocol
from fed_unlearn.arrays import Arrays
from fed_unlearn.data.tensors import TensorSet
from fed_unlearn.logits import predict_logits
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.seeding import derive_seed, isolated_random, seeded_generator
from fed_unlearn.strategies.server_methods import MethodFailedError, create
from fed_unlearn.strategies.server_methods.ascent_and_recovery import reference_model
from fed_unlearn.strategies.server_methods.fedosd import orthogonal_part, without_return
from fed_unlearn.strategies.server_methods.fresh_arrays import drawn, last_layers
from fed_unlearn.strategies.training.history import HistoryStore
from fed_unlearn.training import train_locally

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
            length = np.linalg.norm(trainable(stored.clients[client][0]) - trainable(stored.base))
            changes.append(length * direction / np.linalg.norm(direction))
        state = method.advance(work, state)
        np.testing.assert_allclose(trainable(state.arrays), before + weighted_mean(changes, weights), rtol=0, atol=2e-6)
        for name in STATISTICS:
            averaged = weighted_mean([fresh[client][0][name] for client in STAYING], weights)
            np.testing.assert_allclose(state.arrays[name], averaged, rtol=1e-6, atol=1e-6)
    assert state.done


def test_federaser_then_trains_as_usual(departure: Departure) -> None:
    states = states_of(create("federaser", recovery_rounds=1), departure.work())
    assert [state.done for state in states] == [False, False, False, False, True]
    fresh = [trained_by_hand(client, states[3].arrays, 3) for client in STAYING]
    averaged = weighted_mean([trainable(arrays) for arrays, _ in fresh], [weight for _, weight in fresh])
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
    with pytest.raises(MethodFailedError, match=r"\.safetensors: the bytes do not match the digest in the name"):
        method.advance(work, state)


def test_federaser_with_every_second_round(tmp_path: Path) -> None:
    departure = Departure(tmp_path, rounds=4, every=2)
    states = states_of(create("federaser", recovery_rounds=0), departure.work())
    assert states[0].rounds == (1, 3)
    assert [state.done for state in states] == [False, False, True]


# ---------------------------------------------------------------- projected ascent


def test_the_reference_is_the_mean_of_the_others(departure: Departure) -> None:
    work = departure.work()
    assert work.history is not None
    last = work.history.load(3)
    others = [last.clients[client] for client in STAYING]
    mean = weighted_mean([trainable(arrays) for arrays, _ in others], [weight for _, weight in others])
    np.testing.assert_allclose(trainable(reference_model(work)), mean, rtol=0, atol=2e-6)
    assert np.linalg.norm(trainable(departure.served) - mean) > 1e-3
    for name in STATISTICS:
        assert reference_model(work)[name].tobytes() == departure.served[name].tobytes()
    last.clients.pop(LEAVING)
    work.history.record(3, last.base, last.clients)
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
    averaged = weighted_mean([trainable(arrays) for arrays, _ in fresh], [weight for _, weight in fresh])
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
            averaged = weighted_mean([arrays[name] for arrays in repairs[-1][1].values()], weights)
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
        np.testing.assert_allclose(step, weighted_mean(changes, weights), rtol=0, atol=1e-6)
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


def test_fedosd_ends_unlearning_where_the_leaving_client_has_moved_the_model_as_far_as_it_may(
    departure: Departure,
) -> None:
    free = states_of(create("fedosd", unlearn_rounds=4, recovery_rounds=1, orthogonal_share=0.0), departure.work())
    lengths = [
        float(np.linalg.norm(trainable(after.arrays) - trainable(before.arrays)))
        for before, after in pairwise(free[:5])
    ]
    allowed = lengths[0] + 0.5 * lengths[1]
    work = replace(departure.work(), clip_norm=lengths[0], request_norm=allowed / lengths[0])
    states = states_of(create("fedosd", unlearn_rounds=4, recovery_rounds=1, orthogonal_share=0.0), work)
    assert len(states) == 4  # two steps of the leaving client, one of recovery
    first, second = (trainable(state.arrays) - trainable(departure.served) for state in states[1:3])
    np.testing.assert_allclose(np.linalg.norm(first), lengths[0], rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(second - first), 0.5 * lengths[1], rtol=1e-4)
    assert np.linalg.norm(second) <= allowed * (1 + 1e-5)


# ---------------------------------------------------------------- weight negation


def test_weight_negation_by_hand(departure: Departure) -> None:
    work, method = departure.work(), create("weight-negation", layers=1, recovery_rounds=2)
    states = states_of(method, work)
    assert [state.done for state in states] == [False, False, True]
    for name, value in states[0].arrays.items():
        sign = -1 if name == "1.weight" else 1
        np.testing.assert_array_equal(value, sign * departure.served[name])
    fresh = [trained_by_hand(client, states[0].arrays, 0) for client in STAYING]
    averaged = weighted_mean([trainable(arrays) for arrays, _ in fresh], [weight for _, weight in fresh])
    np.testing.assert_allclose(trainable(states[1].arrays), averaged, rtol=0, atol=2e-6)


def test_weight_negation_takes_so_many_layers_and_no_more_than_there_are(departure: Departure) -> None:
    work = departure.work()
    both = create("weight-negation", layers=2).begin(work).arrays
    turned = [name for name, value in both.items() if not np.array_equal(value, departure.served[name])]
    assert turned == ["1.weight", "4.weight"]
    assert create("weight-negation").stronger() == create("weight-negation", layers=2, recovery_rounds=20)
    with pytest.raises(MethodFailedError, match="layers = 3, and the model has 2 arrays of weights"):
        create("weight-negation", layers=3).begin(work)


# ---------------------------------------------------------------- FedQUIT


def test_fedquit_takes_the_leaving_clients_model_within_its_bound_and_trains_on(
    departure: Departure, caplog: pytest.LogCaptureFixture
) -> None:
    method = create("fedquit", recovery_rounds=1)
    work = departure.work()
    taught = exchanged(work.grid, protocol.UNLEARN)
    states = states_of(method, work)
    assert [state.done for state in states] == [False, False, True]
    [(sent, replies)] = taught
    assert bytes_of(sent) == bytes_of(departure.served) and set(replies) == {LEAVING}
    np.testing.assert_allclose(trainable(states[1].arrays), trainable(replies[LEAVING]), rtol=0, atol=2e-6)
    length = np.linalg.norm(trainable(replies[LEAVING]) - trainable(departure.served))
    fresh = [trained_by_hand(client, states[1].arrays, 1) for client in STAYING]
    averaged = weighted_mean([trainable(arrays) for arrays, _ in fresh], [weight for _, weight in fresh])
    np.testing.assert_allclose(trainable(states[2].arrays), averaged, rtol=0, atol=2e-6)

    bounded = replace(departure.work(), clip_norm=length / 8, request_norm=4.0)
    step = method.advance(bounded, method.begin(bounded)).arrays
    moved = np.linalg.norm(trainable(step) - trainable(departure.served))
    np.testing.assert_allclose(moved, length / 2, rtol=1e-4)
    assert "max_request_norm" in caplog.text
    untold = method.cannot_serve(replace(departure.work(), clip_norm=None, request_norm=4.0))
    assert untold is not None and "nothing bounds its change" in untold


# ---------------------------------------------------------------- negated update


def test_a_negated_update_by_hand(departure: Departure) -> None:
    method = create("negated-update", recovery_rounds=1, scale=2.0)
    work = departure.work()
    taught, trained = exchanged(work.grid, protocol.UNLEARN), exchanged(work.grid, protocol.REPAIR)
    states = states_of(method, work)
    assert [state.done for state in states] == [False, False, True]
    before = trainable(departure.served)
    turned = trainable(taught[0][1][LEAVING]) - before
    assert [set(replies) for _, replies in trained] == [set(STAYING), set(STAYING)]
    fresh = [trained_by_hand(client, states[0].arrays, 0) for client in STAYING]
    mean = weighted_mean([trainable(arrays) for arrays, _ in fresh], [weight for _, weight in fresh])
    np.testing.assert_allclose(trainable(states[1].arrays), mean + turned, rtol=0, atol=3e-6)
    for name in STATISTICS:
        averaged = weighted_mean([arrays[name] for arrays, _ in fresh], [weight for _, weight in fresh])
        np.testing.assert_allclose(states[1].arrays[name], averaged, rtol=1e-6, atol=1e-6)

    once = create("negated-update", recovery_rounds=1, scale=1.0)
    half = departure.work()
    taught = exchanged(half.grid, protocol.UNLEARN)
    once.advance(half, once.begin(half))
    np.testing.assert_allclose(2 * (trainable(taught[0][1][LEAVING]) - before), turned, rtol=0, atol=2e-5)

    length = np.linalg.norm(turned)
    bounded = replace(departure.work(), clip_norm=length / 8, request_norm=4.0)
    step = method.advance(bounded, method.begin(bounded)).arrays
    np.testing.assert_allclose(trainable(step) - mean, turned / 2, rtol=0, atol=3e-6)


def test_negated_updates_of_two_that_leave_add_up(departure: Departure) -> None:
    method, second = create("negated-update", recovery_rounds=1, scale=2.0), ForgetRequest.for_client("3", id="r2")
    work = replace(departure.work(), others=(second,))
    work.grid.roster.leaving.add("3")
    taught = exchanged(work.grid, protocol.UNLEARN)
    step = method.advance(work, method.begin(work)).arrays
    assert [list(replies) for _, replies in taught] == [[LEAVING], ["3"]]
    before = trainable(departure.served)
    turned = sum(trainable(model) - before for _, replies in taught for model in replies.values())
    fresh = [trained_by_hand(client, departure.served, 0) for client in ("0", "1")]
    mean = weighted_mean([trainable(arrays) for arrays, _ in fresh], [weight for _, weight in fresh])
    np.testing.assert_allclose(trainable(step), mean + turned, rtol=0, atol=3e-6)


# ---------------------------------------------------------------- reset and relearn


def test_last_layers_are_drawn_anew_and_trained_above_the_others_as_they_are(departure: Departure) -> None:
    states = states_of(create("reset-and-relearn", blocks=0, rounds=2, own_training=True), departure.work())
    assert [state.done for state in states] == [False, False, True]
    for state in states:
        for name in ("1.weight", "2.weight", "2.bias", *STATISTICS):
            np.testing.assert_array_equal(state.arrays[name], departure.served[name])
    heads = [state.arrays["4.weight"] for state in states]
    assert np.abs(heads[0]).max() <= 1 / np.sqrt(32) and not np.allclose(heads[0], departure.served["4.weight"])
    again = states_of(create("reset-and-relearn", blocks=0, rounds=2, own_training=True), departure.work())
    assert bytes_of(again[-1].arrays) == bytes_of(states[-1].arrays)
    other = create("reset-and-relearn", blocks=0, own_training=True).begin(replace(departure.work(), seed=6))
    assert not np.array_equal(other.arrays["4.weight"], heads[0])

    fresh = {client: head_trained_by_hand(client, states[0].arrays, 0) for client in STAYING}
    weights = [float(len(digits_of(int(client)).train)) for client in STAYING]
    np.testing.assert_allclose(heads[1], weighted_mean(list(fresh.values()), weights), rtol=0, atol=2e-6)


def head_trained_by_hand(client: str, base: Arrays, step: int) -> np.ndarray:
    """The output weights that a client trains above what it was sent, which normalises by its own statistics."""
    model = normalised_model()
    model.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in base.items()})
    below, head = model[:4].eval(), model[4]
    data = digits_of(int(client)).train
    with torch.no_grad():
        features = below(data.batch()[0])
    number = derive_seed("server-method", REQUEST.id, 1, step)
    generator = seeded_generator(SEED, "repair", number, client)
    train_locally(head, TensorSet(features, data.labels, data.ids), SETTINGS, generator)
    weight: np.ndarray = head.weight.detach().numpy()
    return weight


def test_fresh_layers_are_those_that_torch_draws() -> None:
    with isolated_random(0):
        model = torch.nn.Sequential(torch.nn.Conv2d(3, 400, 3), torch.nn.BatchNorm2d(400), torch.nn.Linear(400, 50))
    arrays = {name: value.numpy() for name, value in model.state_dict().items()}
    fresh = drawn(arrays, (1, "r1", 1))
    assert {name: (value.shape, value.dtype) for name, value in fresh.items()} == {
        name: (value.shape, value.dtype) for name, value in arrays.items()
    }
    for name in ("0.weight", "0.bias", "2.weight", "2.bias"):
        assert np.abs(fresh[name]).max() <= 1.001 * np.abs(arrays[name]).max() + 0.02
        assert np.std(fresh[name]) == pytest.approx(np.std(arrays[name]), rel=0.03 if name.endswith("weight") else 0.4)
    for name in ("1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked"):
        np.testing.assert_array_equal(fresh[name], arrays[name])


def test_what_no_layer_draws_keeps_its_mean_and_spread() -> None:
    scale, tokens = np.full((8, 1, 1), 1e-6, np.float32), np.linspace(3, 5, 4000, dtype=np.float32).reshape(1, 4, 1000)
    arrays = {
        "0.weight": np.zeros((8, 4), np.float32),
        "0.bias": np.zeros(8, np.float32),
        "0.layer_scale": scale,
        "norm.gamma": np.ones(8, np.float32),
        "act.weight": np.full(1, 0.25, np.float32),
        "tokens": tokens,
        "places": np.arange(6),
        "rnn.weight_hh_l0": np.zeros((12, 4), np.float32),
        "rnn.bias_hh_l0": np.zeros(12, np.float32),
    }
    fresh = drawn(arrays, (1, "r1", 1))
    for name in ("0.layer_scale", "norm.gamma", "act.weight", "places"):
        np.testing.assert_array_equal(fresh[name], arrays[name])
    assert fresh["tokens"].mean() == pytest.approx(4, abs=0.05) and fresh["tokens"].std() == pytest.approx(
        0.58, abs=0.05
    )
    assert not np.allclose(fresh["tokens"], tokens)
    for name in ("0.weight", "0.bias", "rnn.weight_hh_l0", "rnn.bias_hh_l0"):
        assert 0.1 < np.abs(fresh[name]).max() <= 0.5, name


def test_a_reset_leaves_a_layer_below(departure: Departure) -> None:
    for layers in (1, 2):  # of two layers with weights
        assert last_layers(departure.served, layers) == ["4.weight", "4.bias"]
    with pytest.raises(MethodFailedError, match="the model has 1 array of weights"):
        last_layers({"0.weight": departure.served["4.weight"]}, 1)
    assert create("reset-and-relearn").stronger() == create("reset-and-relearn", blocks=3, rounds=6)
