from __future__ import annotations

from pathlib import Path

import pytest

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.simulations.bench.overhead import OverheadReport, OverheadRow, measure_overhead
from fed_unlearn.simulations.bench.table import print_overhead
from fed_unlearn.simulations.scenario import load_scenario

SYNTHETIC = """
name = "short"
[run]
threads = 1
[data]
dataset = "synthetic:150"
[clients]
count = 2
[model]
name = "small-cnn"
width = 4
[training]
strategy = "FedAvg"
weight-decay = 0.01
[[timeline]]
train = { rounds = 2 }
"""


def test_loops_and_the_engine_end_with_the_same_arrays_and_are_timed_in_turns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "short.toml"
    path.write_text(SYNTHETIC)
    said: list[str] = []
    report = measure_overhead(load_scenario(str(path), ()), repetitions=2, with_ray=False, on_progress=said.append)
    assert report.arrays_equal and report.rounds == 2
    turns = [line.split(": ")[1].split()[0] for line in said]
    assert turns == ["loop", "same-steps", "inprocess"] * 2
    print_overhead(report)
    shown = capsys.readouterr().out
    assert "arrays of loops and inprocess: equal bit for bit" in shown and "the library's own training" in shown


def test_ratios_are_medians_of_those_of_the_same_turn() -> None:
    rows = tuple(
        OverheadRow(name, seconds, seconds)
        for name, seconds in (
            ("loop", (1.0, 2.0, 4.0)),
            ("same-steps", (1.0, 1.0, 2.0)),
            ("inprocess", (2.0, 3.0, 2.0)),
        )
    )
    report = OverheadReport(rows, arrays_equal=True, threads=1, rounds=1)
    assert report.ratio(report.row("inprocess")) == 1.5
    assert report.ratio(report.row("inprocess"), report.row("same-steps")) == 2.0


def test_a_scenario_of_another_strategy_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "short.toml"
    path.write_text(SYNTHETIC.replace("FedAvg", "FedAvgM"))
    with pytest.raises(InvalidParameterError, match="begins with training by FedAvg"):
        measure_overhead(load_scenario(str(path), ()), repetitions=1, with_ray=False, on_progress=print)
