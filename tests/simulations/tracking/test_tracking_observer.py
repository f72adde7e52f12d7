"""Trackers and the report of somebody's own app, which has a ledger and no run folder."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from federation import initial_arrays, make_federation
from flwr.serverapp.strategy import FedAvg

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.gate import Gate, Thresholds
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.simulations.live.watching import view_of_ledger
from fed_unlearn.simulations.run.ledger_results import results_of_ledger
from fed_unlearn.simulations.tracking.observer import TrackingObserver
from fed_unlearn.strategies import ContinualUnlearning

OPEN = Thresholds(max_forget_accuracy=None, max_retain_drop=None, max_total_retain_drop=None)


def test_an_app_is_tracked_and_shown(tmp_path: Path) -> None:
    federation = make_federation(tmp_path)
    ledger = tmp_path / "server" / "the.db"
    ledger.parent.mkdir()
    view = view_of_ledger(ledger, "mine")
    before = view.version()
    observer = TrackingObserver(["csv"], ledger=ledger, settings={"rounds": 2})
    strategy = ContinualUnlearning(
        FedAvg(min_train_nodes=1, min_evaluate_nodes=1),
        ledger=ledger,
        checkpoints=tmp_path / "models",
        gate=Gate(class_thresholds=OPEN),
        observer=observer,
    )
    strategy.submit(ForgetRequest.for_class(3, id="r1", method="boundary-shrink"))
    strategy.submit(ForgetRequest.for_samples(0, ["canary-of-an-id"], id="r2"))
    waiting = results_of_ledger(ledger, name="mine")
    first = waiting.requests[0]
    assert (first.id, first.status, first.method) == ("r1", "received", "boundary-shrink")
    assert not waiting.complete
    strategy.start(federation.grid, initial_arrays=initial_arrays(), num_rounds=2)
    observer.close()
    results = results_of_ledger(ledger, name="mine")
    ended = {item.id: item for item in results.requests}
    assert (ended["r1"].status, ended["r2"].status) == ("committed", "rejected")
    assert results.training.rounds == 2 and results.complete
    with (ledger.parent / "tracking" / "metrics.csv").open(newline="") as file:
        rows = {row["name"]: float(row["value"]) for row in csv.DictReader(file)}
    assert ended["r1"].after is not None
    assert rows["r1/after/forget_accuracy"] == ended["r1"].after.forget_accuracy
    assert rows["r1/passes"] == ended["r1"].passes
    facts = (ledger.parent / "tracking" / "facts.csv").read_text()
    assert "rounds,2\n" in facts and "r2/status,rejected\n" in facts
    assert "canary" not in facts
    page = view.shown().page
    assert view.version() != before
    assert "<h1>" in page and 'data-from="requests[0].after.forget_accuracy"' in page
    assert "canary-of-an-id" not in page


def test_an_unknown_tracker_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameterError, match="tracker 'sheet' is unknown"):
        TrackingObserver(["sheet"], ledger=tmp_path / "ledger.db")
    assert not (tmp_path / "tracking").exists()


def test_a_ledger_that_cannot_be_read_ends_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from fed_unlearn.strategies import Event

    (tmp_path / "ledger.db").write_text("no ledger")
    observer = TrackingObserver(["csv"], ledger=tmp_path / "ledger.db")
    observer(Event("training-finished", "train:1"))
    observer.close()
    assert "trackers are not told of" in caplog.text
