"""The metrics of forgetting in Avalanche's loggers, read back from what these wrote."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from avalanche.logging import CSVLogger, InteractiveLogger, TensorboardLogger, TextLogger
from digit_stream import (
    after_two_experiences,
    on_test,
)
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fed_unlearn.avalanche.reporting.csv_logger import ScalarCSVLogger


def test_tensorboard_shows_forget_and_retain_curves(tmp_path: Path) -> None:
    logger = TensorboardLogger(tmp_path)
    strategy, _ = after_two_experiences(logger)
    logger.writer.close()
    read = EventAccumulator(str(tmp_path), size_guidance={"scalars": 0, "images": 0}).Reload()
    metrics = strategy.evaluator.get_all_metrics()
    for name in ("Forget_Acc_Exp/eval_phase/forget_stream/Exp000", "Retain_Acc_Stream/eval_phase/test_stream"):
        points = read.Scalars(name)
        assert [point.step for point in points] == [15, 30, 30, 30]
        assert [point.value for point in points] == pytest.approx(metrics[name][1])
    last = read.Scalars("Retain_Acc_Stream/eval_phase/test_stream")[-1]
    assert last.value == pytest.approx(on_test(strategy.model, 2, 3))
    assert len(read.Images("Relapse_Matrix/eval_phase/forget_stream")) == 4


def test_text_interactive_and_both_csv_loggers_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = io.StringIO()
    scalars = ScalarCSVLogger(tmp_path / "new" / "metrics.csv")
    strategy, benchmark = after_two_experiences(
        TextLogger(file), InteractiveLogger(), CSVLogger(str(tmp_path / "theirs")), scalars
    )
    strategy.eval(benchmark.test_stream[:2])
    retained = on_test(strategy.model, 2, 3)
    for text in (file.getvalue(), capsys.readouterr().out):
        assert f"Retain_Acc_Stream/eval_phase/test_stream = {retained:.4f}" in text
        assert "Forget_Acc_Exp/eval_phase/forget_stream/Exp001 = " in text
        assert "Relapse_Matrix/eval_phase/forget_stream = \n" in text and "train:2" in text and "object at" not in text
    with (tmp_path / "new" / "metrics.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    metrics = strategy.evaluator.get_all_metrics()
    written = {name: ([], []) for name in metrics if not name.startswith("Relapse_Matrix")}
    for row in rows:
        written[row["name"]][0].append(int(row["x"]))
        written[row["name"]][1].append(float(row["value"]))
    assert written == {name: metrics[name] for name in written}
