"""What a strategy carries from round to round is stored, put back and forgotten, bit for bit."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from federation import Federation, make_federation
from flwr.app import ConfigRecord
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import Strategy
from inner_strategies import (
    MAKE,
    QUIET,
    ROBUST,
    SEED,
    HeavyBall,
)
from made_replies import drawn_model, moved, replies_of
from safetensors.numpy import load, save

from fed_unlearn.arrays import Arrays, pack
from fed_unlearn.strategies.inner.aggregation import aggregate_replies
from fed_unlearn.strategies.inner.kinds import check_supported
from fed_unlearn.strategies.inner.state import fresh_copy, reset_server_state, restore_server_state, server_state

STATEFUL: dict[str, Callable[[], Strategy]] = {
    **{name: make for name, make in MAKE.items() if name not in ROBUST},
    "HeavyBall": HeavyBall,
    "Bulyan": MAKE["Bulyan"],
}


def a_round(inner: Strategy, arrays: Arrays, number: int, federation: Federation) -> Arrays:
    """One round of aggregation, of four made replies."""
    for layer in (inner, getattr(inner, "strategy", inner)):
        if hasattr(layer, "current_arrays") or isinstance(layer, HeavyBall):
            layer.configure_train(number, pack(arrays), ConfigRecord(), federation.grid)
    models = [moved(arrays, 100 * number + client) for client in range(4)]
    replies = replies_of(models, [1.0, 2.0, 3.0, 4.0], train_loss=0.5 + number)
    aggregate, _ = aggregate_replies(inner, arrays, replies, number, seed=SEED, purpose="train")
    assert aggregate is not None
    return aggregate


def through_files(state: tuple[dict[str, Arrays], dict[str, object]], folder: Path) -> tuple[dict[str, Arrays], dict]:
    """The state as it comes back from safetensors and JSON, in another order."""
    arrays, scalars = state
    for name, group in arrays.items():
        (folder / name).write_bytes(save(dict(reversed(group.items()))))
    back = {name: dict(sorted(load((folder / name).read_bytes()).items())) for name in reversed(arrays)}
    return back, json.loads(json.dumps(dict(reversed(scalars.items()))))


@pytest.mark.parametrize("name", STATEFUL)
def test_a_run_that_is_cut_in_two_is_the_same_run(tmp_path: Path, name: str) -> None:
    federation = make_federation(tmp_path)
    base = drawn_model(0)
    whole, first = STATEFUL[name](), STATEFUL[name]()
    check_supported(whole)
    check_supported(first)
    at_once, cut = base, base
    for number in (1, 2, 3, 4):
        at_once = a_round(whole, at_once, number, federation)
        if number == 3:
            state = through_files(server_state(first), tmp_path)
            first = STATEFUL[name]()
            check_supported(first)
            restore_server_state(first, *state)
        cut = a_round(first, cut, number, federation)
        for key in base:
            assert cut[key].tobytes() == at_once[key].tobytes(), (number, key)
            assert cut[key].dtype == base[key].dtype and cut[key].shape == base[key].shape


@pytest.mark.parametrize("name", STATEFUL)
def test_reset_forgets_and_a_copy_is_fresh(tmp_path: Path, name: str) -> None:
    federation = make_federation(tmp_path)
    inner, untouched = STATEFUL[name](), STATEFUL[name]()
    check_supported(inner)
    check_supported(untouched)
    none = server_state(untouched)
    assert none == ({}, {"class": none[1]["class"]})
    base = drawn_model(0)
    for number in (1, 2):
        a_round(inner, base, number, federation)
    kept = server_state(inner)
    assert server_state(fresh_copy(inner)) == none
    same_again = server_state(inner)
    assert same_again[1] == kept[1] and list(same_again[0]) == list(kept[0])
    reset_server_state(inner)
    arrays, scalars = server_state(inner)
    assert arrays == {}
    left = {"clipping_norm"} if "Adaptive" in name else {"momentum"} if name == "HeavyBall" else set()
    assert set(scalars) == {"class", *left}
    restore_server_state(inner, *kept)
    again = server_state(inner)
    assert again[1] == kept[1]
    assert all(np.array_equal(again[0][path][key], kept[0][path][key]) for path in kept[0] for key in kept[0][path])


def test_what_is_state() -> None:
    """By name, for each of Flower's that has some; q-FedAvg and the wrappers keep the round's model."""
    expected = {
        "FedAvgM": {"current_arrays", "momentum_vector"},
        "FedAdam": {"current_arrays", "m_t", "v_t"},
        "FedYogi": {"current_arrays", "m_t", "v_t"},
        "FedAdagrad": {"current_arrays", "m_t", "v_t"},
        "HeavyBall": {"base", "velocity", "last"},
    }
    for name, paths in expected.items():
        inner = STATEFUL[name]()
        check_supported(inner)
        base = drawn_model(0)
        inner.current_arrays = pack(base) if name == "FedAvgM" else base  # type: ignore[attr-defined]
        if name == "HeavyBall":
            del inner.current_arrays  # type: ignore[attr-defined]
            inner.base = pack(base)  # type: ignore[attr-defined]
        inner.aggregate_train(1, replies_of([moved(base, 1), moved(base, 2)]))
        assert set(server_state(inner)[0]) == paths


def test_a_strategy_used_before_it_was_wrapped_is_reset_all_the_same() -> None:
    inner = flower.FedAdam(**QUIET)
    inner.current_arrays = drawn_model(0)
    inner.aggregate_train(1, replies_of([moved(inner.current_arrays, 1)]))
    check_supported(inner)
    reset_server_state(inner)
    assert (inner.current_arrays, inner.m_t, inner.v_t) == (None, None, None)


def test_the_state_of_another_strategy_is_not_taken(caplog: pytest.LogCaptureFixture) -> None:
    inner = flower.FedAdam(**QUIET)
    check_supported(inner)
    inner.m_t = drawn_model(0)
    other = flower.FedAvg(**QUIET)
    with caplog.at_level(logging.WARNING, logger="fed_unlearn.strategies"):
        restore_server_state(other, *server_state(inner))
    assert not hasattr(other, "m_t")
    assert "the stored state is of strategy FedAdam; FedAvg begins anew" in caplog.text
