"""Flower's own round log is what it is without unlearning, line for line."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
from federation import FAST_PLAN, initial_arrays, make_federation
from flwr.app import ArrayRecord, MetricRecord
from flwr.serverapp.strategy import FedAvg

from fed_unlearn.strategies import ContinualUnlearning

ROUNDS = 2


def _rate(number: int, arrays: ArrayRecord) -> MetricRecord:
    return MetricRecord({"rate": number / 10})


def _lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What Flower said, without what differs from run to run: seconds, and numbers of metrics."""
    said = [record.getMessage() for record in caplog.records if record.name == "flwr"]
    caplog.clear()
    return [re.sub(r"\d+\.\d+s", "S", line) for line in said]


def test_flowers_log_is_that_of_flower_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="flwr")
    settings = {"fraction_evaluate": 0.0}
    plain = make_federation(tmp_path / "plain")
    alone = FedAvg(**settings).start(plain.grid, initial_arrays(), ROUNDS, evaluate_fn=_rate)  # type: ignore[arg-type]
    expected = _lines(caplog)
    wrapped = make_federation(tmp_path / "wrapped")
    strategy = ContinualUnlearning(
        FedAvg(**settings),  # type: ignore[arg-type]
        ledger=tmp_path / "wrapped" / "server" / "ledger.db",
        plan=FAST_PLAN,
    )
    result = strategy.start(wrapped.grid, initial_arrays(), ROUNDS, evaluate_fn=_rate)
    said = _lines(caplog)
    assert said == expected
    assert said.count("[ROUND 1/2]") == 1 and "Starting FedAvg strategy:" in said and "Final results:" in said
    assert result.evaluate_metrics_serverapp == alone.evaluate_metrics_serverapp
    assert sorted(result.evaluate_metrics_serverapp) == [0, 1, 2]
    assert sorted(result.train_metrics_clientapp) == sorted(alone.train_metrics_clientapp)
