"""BatchNorm statistics: what cannot be is refused, the rest is bounded, wherever a client's arrays enter a model."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from federation import OPEN_GATE, DigitsTask
from flwr.app import ArrayRecord
from hostile import Lie, hostile_federation, on_models
from torch import nn

from fed_unlearn.arrays import Arrays
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.seeding import isolated_random
from fed_unlearn.strategies import ContinualUnlearning, UnlearningPlan
from fed_unlearn.strategies.inner.statistics import bounded_statistics, impossible_statistic, positive_variances

HOSTILE = 2
PLAN = UnlearningPlan(
    class_method="random-label",
    client_method="fedosd",
    parameters={"random-label": {"max_steps": 5}, "fedosd": {"unlearn_rounds": 1, "recovery_rounds": 1}},
    retention_days=1.0,
    backoff_seconds=0.0,
)


def served(mean: float = 0.0, variance: float = 1.0, batches: int = 8) -> Arrays:
    return {
        "1.weight": np.ones(2, np.float32),
        "1.running_mean": np.full(2, mean, np.float32),
        "1.running_var": np.full(2, variance, np.float32),
        "1.num_batches_tracked": np.array(batches, np.int64),
    }


def test_impossible_statistics_are_said_in_words() -> None:
    variances, counter = np.array([1.0, -0.1]), np.array(2**62)
    assert (
        impossible_statistic("1.running_var", variances, variances) == "its array '1.running_var' has variances below 0"
    )
    assert impossible_statistic("1.running_mean", variances, variances) is None
    said = impossible_statistic("1.num_batches_tracked", counter, np.array(5))
    assert said == "its array '1.num_batches_tracked' is no number of batches that it can have seen"
    assert impossible_statistic("1.num_batches_tracked", np.array(9), np.array(5)) is None


def test_a_client_moves_statistics_no_further_than_a_multiple_of_the_usual_way() -> None:
    """The lower median of 1, 1, 2 and 1000 standard deviations is 1; twice that are left of the last."""
    models = {str(index): served(mean, 1.0 + mean, 9) for index, mean in enumerate((1.0, 1.0, 2.0, 1000.0))}
    bounded = bounded_statistics(models, served(), 2.0)
    assert all(bounded[client] is models[client] for client in ("0", "1", "2"))
    np.testing.assert_allclose(bounded["3"]["1.running_mean"], 2.0)
    np.testing.assert_allclose(bounded["3"]["1.running_var"], 3.0)
    assert bounded["3"]["1.num_batches_tracked"] == 9


def test_where_most_move_nothing_nobody_does() -> None:
    models = {"0": served(), "1": served(), "2": served(5.0, 0.0, 2**30)}
    bounded = bounded_statistics(models, served(), 10.0)
    assert all(np.array_equal(bounded["2"][name], value) for name, value in served().items())


def test_a_client_alone_is_bounded_by_the_served_statistics_where_asked() -> None:
    models = {"0": served(1e6, 0.0)}
    assert bounded_statistics(models, served(1.0, 4.0), 10.0) == models
    bounded = bounded_statistics(models, served(1.0, 4.0), 10.0, alone=True)["0"]
    assert bounded["1.running_mean"].tolist() == [3.0, 3.0]
    assert bounded["1.running_var"].tolist() == [1.0, 1.0]


def test_variances_below_zero_of_an_aggregate_stay_as_they_were() -> None:
    broken = served() | {"1.running_var": np.array([-1.0, 3.0], np.float32)}
    assert positive_variances(broken, served(variance=2.0))["1.running_var"].tolist() == [2.0, 3.0]
    whole = served()
    assert positive_variances(whole, served()) is whole


# ------------------------------------------------------------------ in a federation


def normalised_model() -> nn.Module:
    with isolated_random(0):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 10))


def _with(**values: float) -> Lie:
    """Other statistics in every model; nothing else is changed."""

    def change(sent: Arrays) -> Arrays:
        found = {name: values[name.rpartition(".")[2]] for name in sent if name.rpartition(".")[2] in values}
        return sent | {name: np.full_like(sent[name], value) for name, value in found.items()}

    return on_models(change)


def _started(folder: Path, lie: Lie) -> tuple[ContinualUnlearning, Arrays]:
    """One honest round, then one with the lie."""
    task = DigitsTask(model_of=normalised_model)
    honest = hostile_federation(folder, {}, task=task)
    strategy = honest.strategy(plan=PLAN, gate=OPEN_GATE)
    strategy.start(honest.grid, ArrayRecord(normalised_model().state_dict()), num_rounds=1)
    hostile = hostile_federation(folder, {HOSTILE: lie}, task=task)
    assert strategy.served is not None
    before = dict(strategy.served.arrays)
    strategy.start(hostile.grid, num_rounds=1)
    strategy.submit(ForgetRequest.for_class(3, id="class"))
    strategy.submit(ForgetRequest.for_samples(HOSTILE, count=2, id="samples", method="random-label"))
    strategy.submit(ForgetRequest.for_client(1, id="client"))
    strategy.start(hostile.grid, num_rounds=0)
    return strategy, before


def test_means_and_variances_of_a_million_move_the_served_ones_little(tmp_path: Path) -> None:
    """Training, an unlearn and a repair round of a class, a sample request, a server method: all in a row."""
    strategy, before = _started(tmp_path, _with(running_mean=1e6, running_var=1e12))
    assert strategy.served is not None
    after = strategy.served.arrays
    assert {entry.id: entry.reason for entry in strategy.ledger.entries() if str(entry.status) != "committed"} == {}
    width = np.sqrt(before["2.running_var"]).max()
    assert np.abs(after["2.running_mean"] - before["2.running_mean"]).max() < 20 * width
    assert 0 < after["2.running_var"].min() <= after["2.running_var"].max() < 20 * before["2.running_var"].max()


def test_negative_variances_are_refused_and_the_client_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "fed_unlearn"):
        strategy, _ = _started(tmp_path, _with(running_var=-1e6))
    assert strategy.served is not None
    assert strategy.served.arrays["2.running_var"].min() > 0
    assert "client 2 is left out: its array '2.running_var' has variances below 0" in caplog.messages
    reasons = {entry.id: entry.reason or "" for entry in strategy.ledger.entries()}
    assert "client 2: its array '2.running_var' has variances below 0" in reasons["samples"]
