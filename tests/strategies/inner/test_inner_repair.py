"""Unlearn and repair rounds through a robust aggregator: what the papers say, and what Flower does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import Strategy
from inner_strategies import (
    MAKE,
    QUIET,
    ROBUST,
)
from made_replies import drawn_model, made_reply, moved, replies_of

from fed_unlearn.arrays import Arrays
from fed_unlearn.strategies.inner.aggregation import AggregationFailedError, TooFewRepliesError, aggregate_through
from fed_unlearn.strategies.inner.kinds import check_supported
from fed_unlearn.strategies.inner.state import server_state


def by_numpy(name: str, models: Sequence[Arrays], weights: Sequence[float], key: str) -> np.ndarray:
    """What the papers say, by hand: the median, the mean without the extremes, the model nearest to its neighbours."""
    values = np.stack([model[key].astype(np.float64) for model in models])
    if name == "FedMedian":
        return np.median(values, axis=0)
    if name == "FedTrimmedAvg":
        cut = int(0.3 * len(models))
        return np.sort(values, axis=0)[cut : len(models) - cut].mean(axis=0)
    flat = np.stack([np.concatenate([model[k].astype(np.float64).ravel() for k in model]) for model in models])
    distances = ((flat[:, None] - flat[None]) ** 2).sum(axis=2)
    scores = np.sort(distances, axis=1)[:, 1 : len(models) - 2 + 1].sum(axis=1)
    chosen = np.argsort(scores)[: 1 if name == "Krum" else 3]
    return np.average(values[chosen], axis=0, weights=np.asarray(weights)[chosen])


@pytest.mark.parametrize("name", ["FedMedian", "FedTrimmedAvg", "Krum", "MultiKrum"])
def test_repair_through_a_robust_aggregator_by_hand(name: str) -> None:
    base = drawn_model(0)
    models = [moved(base, client, step=0.1 * (1 + client)) for client in range(6)]
    models[5] = moved(base, 9, step=50.0)
    weights = [3.0, 1.0, 4.0, 1.0, 5.0, 900.0]
    replies = replies_of(models, weights)
    through = aggregate_through(MAKE[name](), base, replies, 1)
    assert list(through) == list(base)
    for key, value in through.items():
        assert value.dtype == base[key].dtype and value.shape == base[key].shape
        np.testing.assert_allclose(value, by_numpy(name, models, weights, key), rtol=1e-5, atol=1e-6)
        far = np.abs(models[5]["weight"] - base["weight"]).max()
    assert np.abs(through["weight"] - base["weight"]).max() < far / 10, "the outlier is left out"


@pytest.mark.parametrize("name", ROBUST)
def test_repair_through_a_robust_aggregator_is_flowers_own(name: str) -> None:
    base = drawn_model(0)
    models = [moved(base, client) for client in range(5)]
    weights = [3.0, 1.0, 4.0, 1.0, 5.0]
    inner = MAKE[name]()
    check_supported(inner)
    replies = replies_of(models, weights, loss=1.0)
    bytes_before = [message.content.array_records["arrays"]["weight"].data for message in replies]
    through = aggregate_through(inner, base, replies, 1)
    expected, _ = MAKE[name]().aggregate_train(1, replies_of(models, weights))
    assert expected is not None
    for key, value in expected.items():
        assert np.array_equal(through[key], np.asarray(value.numpy()).astype(base[key].dtype))
    # FedMedian takes arrays out of what it is given: the service needs its messages afterwards.
    assert [message.content.array_records["arrays"]["weight"].data for message in replies] == bytes_before
    assert server_state(inner)[0] == {}


def test_the_weight_goes_under_the_strategys_own_key() -> None:
    base = drawn_model(0)
    models = [moved(base, client) for client in range(3)]
    inner = flower.MultiKrum(num_nodes_to_select=3, weighted_by_key="samples", **QUIET)
    through = aggregate_through(inner, base, replies_of(models, [1.0, 1.0, 8.0]), 1)
    expected = np.average([model["weight"] for model in models], axis=0, weights=[1, 1, 8])
    np.testing.assert_allclose(through["weight"], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("inner", "needed"),
    [
        (flower.FedMedian(**QUIET), 3),
        (flower.FedTrimmedAvg(**QUIET), 3),
        (flower.Krum(num_malicious_nodes=1, **QUIET), 5),
        (flower.MultiKrum(num_malicious_nodes=2, **QUIET), 7),
        (flower.Bulyan(num_malicious_nodes=1, **QUIET), 7),
    ],
)
def test_too_few_replies_for_a_robust_aggregator(inner: Strategy, needed: int) -> None:
    base = drawn_model(0)
    replies = replies_of([moved(base, client) for client in range(needed)])
    with pytest.raises(TooFewRepliesError, match=rf"{needed - 1} usable replies came, and \w+ needs {needed}"):
        aggregate_through(inner, base, replies[:-1], 1)
    assert list(aggregate_through(inner, base, replies, 1)) == list(base)


def test_what_a_strategy_makes_nothing_of_is_one_error() -> None:
    base = drawn_model(0)
    replies = [made_reply(client, {"weight": base["weight"]}) for client in range(3)]
    with pytest.raises(AggregationFailedError, match="FedMedian made nothing of 3 replies: InvalidModelError"):
        aggregate_through(flower.FedMedian(**QUIET), base, replies, 1)
