"""Differential privacy: noise that covers what it is added to, that a seed repeats, and that is counted."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from federation import initial_arrays, make_federation
from flwr.app import ConfigRecord, Message
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import Strategy
from made_replies import drawn_model, made_reply, moved, replies_of

from fed_unlearn.arrays import Arrays, PackedArray, norm, pack, unpack
from fed_unlearn.seeding import isolated_numpy
from fed_unlearn.strategies.clients.grid import EligibleGrid
from fed_unlearn.strategies.inner.aggregation import aggregate_through
from fed_unlearn.strategies.inner.kinds import check_supported
from fed_unlearn.strategies.inner.state import fresh_copy, restore_server_state, server_state
from fed_unlearn.strategies.training.trainer import Trainer

SIZE = 40_000
"""Rows of three in the matrix that noise is measured on: its deviation is then known to within half a percent."""


def fixed(noise: float, norm: float, clients: int = 4, accountant: object = None) -> Strategy:
    return flower.DifferentialPrivacyServerSideFixedClipping(
        flower.FedAvg(fraction_evaluate=0.0),
        noise,
        norm,
        clients,
        accountant=accountant,  # type: ignore[arg-type]
    )


def adaptive(noise: float, norm: float, clients: int = 4, deviation: float | None = None) -> Strategy:
    return flower.DifferentialPrivacyServerSideAdaptiveClipping(
        flower.FedAvg(fraction_evaluate=0.0),
        noise,
        clients,
        initial_clipping_norm=norm,
        clipped_count_stddev=deviation,
    )


MAKE: dict[str, Callable[[], Strategy]] = {
    "fixed": lambda: fixed(0.5, 0.2),
    "adaptive": lambda: adaptive(0.3, 0.2),
}


def floating(arrays: Arrays) -> Arrays:
    return {name: value for name, value in arrays.items() if np.issubdtype(value.dtype, np.floating)}


def change_of(model: Arrays, base: Arrays) -> Arrays:
    return {name: value.astype(np.float64) - base[name] for name, value in floating(model).items()}


def clipped_mean(models: list[Arrays], base: Arrays, bound: float) -> Arrays:
    """By hand: the base and the plain mean of all changes, each no longer than the bound."""
    changes = [change_of(model, base) for model in models]
    scales = [min(1.0, bound / norm(change)) for change in changes]
    return {
        name: base[name]
        + np.mean([scale * change[name] for scale, change in zip(scales, changes, strict=True)], axis=0)
        for name in changes[0]
    }


# ---------------------------------------------------------------------- what is released


@pytest.mark.parametrize("make", [fixed, adaptive])
@pytest.mark.parametrize("count", [1, 3, 4, 6])
def test_without_noise_it_is_the_plain_mean_of_clipped_changes(make: Callable[..., Strategy], count: int) -> None:
    """Weights have no say: a client that weighs more would move the mean further than the noise covers."""
    base = drawn_model(0)
    models = [moved(base, client, step=0.02 * (1 + client) ** 2) for client in range(count)]
    through = aggregate_through(make(0.0, 0.2), base, replies_of(models, [10.0**client for client in range(count)]), 1)
    assert list(through) == list(base)
    assert through["batches"] == base["batches"] and through["batches"].dtype == np.int64
    for name, expected in clipped_mean(models, base, 0.2).items():
        assert through[name].dtype == base[name].dtype and through[name].shape == base[name].shape
        np.testing.assert_allclose(through[name], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 4, 7])
def test_the_noise_is_made_for_the_replies_that_are_there(count: int) -> None:
    """z C / n, for 1, 2, 4 and 7 replies where 4 were to be sampled."""
    base = drawn_model(0, size=SIZE)
    replies = replies_of([moved(base, client) for client in range(count)])
    without = aggregate_through(fixed(0.0, 0.2), base, replies, 1)
    inner = fixed(1.5, 0.2)
    noise = change_of(aggregate_through(inner, base, replies, 1), without)
    assert noise["weight"].std() == pytest.approx(1.5 * 0.2 / count, rel=0.01)
    assert abs(noise["weight"].mean()) < 5 * 1.5 * 0.2 / count / math.sqrt(3 * SIZE)
    assert inner.num_sampled_clients == 4  # type: ignore[attr-defined]


@pytest.mark.parametrize("norms", ["shrinking", "growing"])
def test_an_adaptive_norm_that_shrinks_takes_no_noise_with_it(norms: str) -> None:
    """Updates were clipped to the norm before: the noise is z C / n of that one, or more."""
    base = drawn_model(0, size=SIZE)
    start = 0.2 if norms == "shrinking" else 1e6
    inner, silent = adaptive(0.3, start, deviation=0.2), adaptive(0.0, start)
    replies = replies_of([moved(base, client) for client in range(4)])
    noise = change_of(aggregate_through(inner, base, replies, 1), aggregate_through(silent, base, replies, 1))
    of_mean, after = inner.noise_multiplier, inner.clipping_norm  # type: ignore[attr-defined]
    assert (after < start) is (norms == "shrinking")
    assert noise["weight"].std() == pytest.approx(of_mean * max(start, after) / 4, rel=0.01)


@pytest.mark.parametrize("name", MAKE)
def test_a_client_that_changed_nothing_counts_as_one(name: str) -> None:
    """Flower divides by the norm of a change; also where its bytes say the same otherwise."""
    base = drawn_model(0)
    same = pack(base)
    same["bias"] = PackedArray("float32", (3,), _another_header(base["bias"]))
    replies = [made_reply(0, moved(base, 1)), made_reply(1, base), made_reply(2, same)]
    make = fixed if name == "fixed" else adaptive
    through = aggregate_through(make(0.0, 0.2), base, replies, 1)
    for key, value in clipped_mean([moved(base, 1)], base, 0.2).items():
        np.testing.assert_allclose(through[key], base[key] + (value - base[key]) / 3, rtol=1e-5, atol=2e-6)


def _another_header(array: np.ndarray) -> bytes:
    from io import BytesIO

    buffer = BytesIO()
    np.lib.format.write_array(buffer, array, version=(2, 0))
    return buffer.getvalue()


@pytest.mark.parametrize("name", MAKE)
def test_a_release_is_flowers_own(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all clients with equal weights, on a model of matrices alone, Flower's wrapper makes the same bytes."""
    base = {"a": drawn_model(0)["weight"], "b": drawn_model(1)["weight"]}
    models = [moved(base, client) for client in range(4)]
    make = {"fixed": lambda: fixed(0.5, 0.2), "adaptive": lambda: adaptive(0.3, 100.0, deviation=0.2)}[name]
    seeds: list[list[int]] = []
    seed = np.random.seed
    inner, own = make(), make()
    with monkeypatch.context() as patch:
        patch.setattr(np.random, "seed", lambda given: (seeds.append(given), seed(given))[1])
        through = aggregate_through(inner, base, replies_of(models), 7, seed=11)
    own.current_arrays = pack(base)  # type: ignore[attr-defined]
    state = np.random.get_state()
    np.random.seed(seeds[0])
    expected, _ = own.aggregate_train(7, replies_of(models))
    np.random.set_state(state)
    assert expected is not None
    assert inner.clipping_norm == own.clipping_norm  # type: ignore[attr-defined]
    assert all(np.array_equal(through[key], expected[key].numpy()) for key in base)


@pytest.mark.parametrize("name", MAKE)
def test_the_strategy_is_as_before_but_for_its_norm(name: str) -> None:
    base, other = drawn_model(0), drawn_model(5)
    inner = MAKE[name]()
    check_supported(inner)
    inner.current_arrays = pack(other)  # type: ignore[attr-defined]
    before = inner.clipping_norm  # type: ignore[attr-defined]
    replies = replies_of([moved(base, client) for client in range(4)], [1.0, 2.0, 3.0, 4.0], loss=2.0)
    sent = [(dict(message.content.metric_records["metrics"]), _bytes(message)) for message in replies]
    aggregate_through(inner, base, replies, 1)
    assert [(dict(message.content.metric_records["metrics"]), _bytes(message)) for message in replies] == sent
    assert np.array_equal(unpack(inner.current_arrays)["weight"], other["weight"])  # type: ignore[attr-defined]
    arrays, scalars = server_state(inner)
    assert set(arrays) == {"current_arrays"}
    assert (inner.clipping_norm != before) is (name == "adaptive")  # type: ignore[attr-defined]
    assert ("clipping_norm" in scalars) is (name == "adaptive")


def _bytes(message: Message) -> list[bytes]:
    return [array.data for array in message.content.array_records["arrays"].values()]


# ---------------------------------------------------------------------- seeds


@pytest.mark.parametrize("name", MAKE)
def test_the_same_seed_gives_the_same_noise_and_no_other_release_does(name: str) -> None:
    base = drawn_model(0, size=1000)
    replies = replies_of([moved(base, client) for client in range(4)])
    global_state = json.dumps([str(part) for part in np.random.get_state()])

    def released(**changed: object) -> Arrays:
        settings = {"inner": MAKE[name](), "base": base, "replies": replies, "number": 3, "seed": 1, **changed}
        return aggregate_through(**settings)  # type: ignore[arg-type]

    first = released()
    again = released()
    assert all(first[key].tobytes() == again[key].tobytes() for key in base)
    others = [
        released(seed=2),
        released(number=4),
        released(purpose="unlearn"),
        released(replies=[*replies[:3], made_reply(3, moved(base, 3) | {"bias": moved(base, 4)["bias"]})]),
    ]
    for other in others[:3]:
        assert np.isclose(first["weight"], other["weight"], atol=1e-6).mean() < 0.01
    # Had the last pair the same noise, their difference would be what one client's change adds to a mean of four.
    assert norm(change_of(first, others[3])) > 5 * 2 * 0.2 / 4
    assert json.dumps([str(part) for part in np.random.get_state()]) == global_state


def test_what_numpy_draws_depends_on_the_seed_alone_and_leaves_the_generator() -> None:
    np.random.seed(0)
    expected = np.random.normal(size=3)
    np.random.seed(0)
    drawn = []
    for seed in (5, 5, 6, 5 + 2**40):
        with isolated_numpy(seed):
            drawn.append(np.random.normal(size=3))
    assert np.array_equal(np.random.normal(size=3), expected)
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2]) and not np.array_equal(drawn[0], drawn[3])


@pytest.mark.parametrize("name", MAKE)
def test_a_training_run_is_repeated_by_its_seed_also_from_the_middle(tmp_path: Path, name: str) -> None:
    federation = make_federation(tmp_path)

    def trainer(inner: Strategy, **settings: object) -> Trainer:
        grid = EligibleGrid(federation.grid)
        grid.identify(4, 10.0, {})
        check_supported(inner)
        return Trainer(inner, grid, 10.0, 0, **settings)  # type: ignore[arg-type]

    def run(inner: Strategy, arrays: Arrays, numbers: range, **settings: object) -> Arrays:
        on = trainer(inner, **settings)
        for number in numbers:
            arrays = on.train(arrays, number, ConfigRecord()).arrays
        return arrays

    start = unpack(initial_arrays())
    whole, first = MAKE[name](), MAKE[name]()
    at_once = run(whole, start, range(1, 4))
    half = run(first, start, range(1, 3))
    second = MAKE[name]()
    check_supported(second)
    restore_server_state(second, *server_state(first))
    cut = run(second, half, range(3, 4))
    assert all(cut[key].tobytes() == at_once[key].tobytes() for key in start)
    assert second.clipping_norm == whole.clipping_norm  # type: ignore[attr-defined]
    secret = run(MAKE[name](), start, range(1, 4), noise_seed=12345)
    assert not any(np.isclose(secret[key], at_once[key], rtol=1e-6, atol=1e-7).all() for key in start)
    assert fresh_copy(whole).clipping_norm == 0.2  # type: ignore[attr-defined]
