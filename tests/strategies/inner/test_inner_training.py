"""Training rounds are the strategy's own, and no client's reply stops or spoils one."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from federation import Federation, initial_arrays, make_federation
from flwr.app import ConfigRecord, Context, Message
from flwr.serverapp import strategy as flower
from inner_strategies import (
    HANDLER,
    MAKE,
    PRIVATE,
    QUIET,
    adaptive,
    fixed,
    said_by_us,
    trainer_of,
    with_training_loss,
)

from fed_unlearn.arrays import Arrays, pack, unpack
from fed_unlearn.strategies.inner.kinds import check_supported


@pytest.mark.parametrize("name", [name for name in MAKE if name not in PRIVATE])
def test_training_is_flowers_own(tmp_path: Path, name: str) -> None:
    """Two rounds give what the strategy alone gives on the same clients, but for the order of sums."""
    federation = with_training_loss(make_federation(tmp_path))
    inner = MAKE[name]()
    check_supported(inner)
    trainer, arrays = trainer_of(inner, federation), unpack(initial_arrays())
    for number in (1, 2):
        trained = trainer.train(arrays, number, ConfigRecord())
        assert any(not np.array_equal(trained.arrays[key], arrays[key]) for key in arrays), "nothing was trained"
        arrays = trained.arrays
    expected = MAKE[name]().start(federation.grid, initial_arrays(), num_rounds=2).arrays
    assert list(arrays) == list(expected)
    for key, value in expected.items():
        np.testing.assert_allclose(arrays[key], value.numpy(), rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("name", PRIVATE)
def test_private_training_without_noise_is_the_mean_of_clipped_updates(tmp_path: Path, name: str) -> None:
    federation = make_federation(tmp_path)
    inner = (fixed if "Fixed" in name else adaptive)(noise=0.0, norm=0.5)
    told: dict[str, tuple[Arrays, float]] = {}
    trainer = trainer_of(inner, federation, record=lambda number, base, local: told.update(local))
    base = unpack(initial_arrays())
    trained = trainer.train(base, 1, ConfigRecord(), measure_norms=True)
    assert len(told) == 4 and min(trained.update_norms) > 0.5, "every update is clipped"
    for key, value in trained.arrays.items():
        changes = [
            (local[key] - base[key]) * 0.5 / length
            for (local, _), length in zip(told.values(), trained.update_norms, strict=True)
        ]
        np.testing.assert_allclose(value, base[key] + np.mean(changes, axis=0), rtol=1e-4, atol=1e-6)


def test_a_round_is_recorded_as_it_was(tmp_path: Path) -> None:
    """What is recorded gives, averaged by hand, what came of the round."""
    federation = make_federation(tmp_path)
    told: list[tuple[int, Arrays, dict[str, tuple[Arrays, float]]]] = []
    trainer = trainer_of(
        flower.FedAvg(**QUIET), federation, record=lambda number, base, local: told.append((number, base, dict(local)))
    )
    base = unpack(initial_arrays())
    trained = trainer.train(base, 5, ConfigRecord()).arrays
    [(number, recorded, local)] = told
    assert number == 5 and list(local) == ["0", "1", "2", "3"]
    total = sum(weight for _, weight in local.values())
    assert total == sum(len(federation.task._data[client].train) for client in range(4))
    for key, value in trained.items():
        assert np.array_equal(recorded[key], base[key])
        by_hand = sum(arrays[key].astype(np.float64) * weight / total for arrays, weight in local.values())
        np.testing.assert_allclose(value, by_hand, rtol=1e-5, atol=1e-6)


def spoil(federation: Federation, changes: dict[int, Callable[[Message], Message]]) -> None:
    """Change the training replies of some clients."""
    handler = federation.app._registered_funcs[HANDLER]

    def spoiled(message: Message, context: Context) -> Message:
        reply = handler(message, context)
        return changes.get(int(context.node_config["partition-id"]), lambda good: good)(reply)

    federation.app._registered_funcs[HANDLER] = spoiled


def with_nan(reply: Message) -> Message:
    record = reply.content.array_records["arrays"]
    name = next(iter(record))
    reply.content["arrays"] = pack({**unpack(record), name: np.full_like(record[name].numpy(), np.nan)})
    return reply


def with_weight(weight: float) -> Callable[[Message], Message]:
    def weighted(reply: Message) -> Message:
        reply.content.metric_records["metrics"]["num-examples"] = weight
        return reply

    return weighted


@pytest.mark.parametrize("name", ["FedAvg", "FedAdam", "FedMedian", *PRIVATE])
def test_what_cannot_be_used_is_left_out_and_named(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    told: dict[str, tuple[Arrays, float]] = {}
    spoiled = make_federation(tmp_path)
    spoil(spoiled, {0: with_nan, 3: with_weight(-1.0)})
    trainer = trainer_of(MAKE[name](), spoiled, record=lambda number, base, local: told.update(local))
    arrays = unpack(initial_arrays())
    with caplog.at_level(logging.WARNING, logger="fed_unlearn.strategies"):
        for number in (1, 2):
            before, arrays = arrays, trainer.train(arrays, number, ConfigRecord()).arrays
            assert any(not np.array_equal(arrays[key], before[key]) for key in arrays)
    assert list(told) == ["1", "2"]
    assert all(np.isfinite(value).all() for value in arrays.values())
    assert said_by_us(caplog) == [
        "client 0 is left out: its array '1.weight' is not finite",
        "client 3 is left out: its num-examples is not a finite number above 0",
    ]


@pytest.mark.parametrize("name", [*MAKE])
def test_a_round_without_a_usable_reply_leaves_the_model_as_it_was(tmp_path: Path, name: str) -> None:
    federation = make_federation(tmp_path)
    spoil(federation, dict.fromkeys(range(4), with_nan))
    arrays = unpack(initial_arrays())
    trained = trainer_of(MAKE[name](), federation).train(arrays, 1, ConfigRecord(), measure_norms=True)
    assert all(np.array_equal(trained.arrays[key], arrays[key]) for key in arrays)
    assert trained.update_norms == ()


def test_a_strategy_that_raises_leaves_model_and_state_as_they_were(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FedAdam raises between its first and its second moment."""
    federation = make_federation(tmp_path)
    inner = flower.FedAdam(eta=0.03, **QUIET)
    trainer = trainer_of(inner, federation)
    arrays = trainer.train(unpack(initial_arrays()), 1, ConfigRecord()).arrays
    kept = copy.deepcopy((inner.m_t, inner.v_t))

    def raising(*_: object) -> None:
        raise ZeroDivisionError("float division by zero")

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING, logger="fed_unlearn.strategies"):
        patch.setattr(np, "power", raising)
        after = trainer.train(arrays, 2, ConfigRecord()).arrays
    assert all(np.array_equal(after[key], arrays[key]) for key in arrays)
    for now, then in zip((inner.m_t, inner.v_t), kept, strict=True):
        assert now is not None and then is not None
        assert all(np.array_equal(now[key], then[key]) for key in then)
    [said] = said_by_us(caplog)
    assert "training round 2: FedAdam made nothing of 4 replies, and the model stays as it was" in said
    assert "ZeroDivisionError: float division by zero" in said


def test_too_few_for_flower_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Bulyan wants 4 f + 3 replies, and q-FedAvg a loss that these clients do not report."""
    federation = make_federation(tmp_path)
    arrays = unpack(initial_arrays())
    for inner in (flower.Bulyan(num_malicious_nodes=1, **QUIET), MAKE["QFedAvg"]()):
        with caplog.at_level(logging.WARNING, logger="fed_unlearn.strategies"):
            after = trainer_of(inner, federation).train(arrays, 1, ConfigRecord()).arrays
        assert all(np.array_equal(after[key], arrays[key]) for key in arrays)
    said = said_by_us(caplog)
    assert said[0] == "training round 1: no model came of 4 usable replies; the model stays as it was"
    assert said[1].startswith("training round 1: QFedAvg made nothing of 4 replies") and "train_loss" in said[1]
