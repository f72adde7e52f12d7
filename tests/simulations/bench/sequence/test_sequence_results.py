"""Reports of hand-made cells: what is counted, printed, written and read again."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.simulations.bench.sequence.cells import Count, FigureCell
from fed_unlearn.simulations.bench.sequence.results import (
    LEFT_OUT,
    ORIGINAL,
    Accuracies,
    RunCells,
    SeedResults,
    SequenceReport,
)
from fed_unlearn.simulations.bench.sequence.table import accuracy_lines, print_sequence


def cell(request: str, figure: str, **models: float) -> FigureCell:
    return FigureCell(seed=0, event="r2", request=request, figure=figure, oracles=(0.4, 0.5, 0.6), models=models)


def report() -> SequenceReport:
    """Of 0.4, 0.5 and 0.6 the interval is 0.5 +- 0.497."""
    own = RunCells(
        cells=(
            cell("r1", "logit_auc", deep=0.7, original=1.0),
            cell("r1", "probe_accuracy", deep=0.99, original=1.0),
            cell("r2", "membership_auc", deep=1.5, original=0.6),
        ),
        accuracies=(
            Accuracies(event="r1", model=0.95, oracles=(0.95, 0.97)),
            Accuracies(event="r2", model=0.90, oracles=(0.93, 0.93)),
        ),
        not_committed={"r3": "failed: retained accuracy"},
    )
    other = RunCells(cells=(cell("r1", "logit_auc", delete=1.0),), accuracies=())
    seeds = (SeedResults(seed=0, runs={"deep": own, "delete": other}, seconds=1.5),)
    return SequenceReport(scenario="name", main="deep", beside=("delete",), oracles=3, seeds=seeds)


def test_counts_of_columns_figures_and_requests() -> None:
    made = report()
    assert made.columns == ("deep", LEFT_OUT, ORIGINAL, "delete")
    assert [made.count(column) for column in made.columns] == [Count(2, 3), Count(9, 9), Count(1, 3), Count(0, 1)]
    assert made.count("deep", figures=["membership_auc"]) == Count(0, 1)
    assert made.count(ORIGINAL, request="r1") == Count(0, 2)


def test_a_written_report_is_read_again_with_its_counts_beside(tmp_path: Path) -> None:
    report().save(tmp_path)
    assert SequenceReport.load(tmp_path) == report()
    assert json.loads((tmp_path / "sequence.json").read_text())["counts"]["deep"] == {"inside": 2, "cells": 3}
    (tmp_path / "sequence.json").write_text("{}")
    with pytest.raises(FedUnlearnError, match=r"sequence\.json: not the results of this version"):
        SequenceReport.load(tmp_path)


def test_retained_accuracy_is_held_against_the_mean_of_the_oracles() -> None:
    """0.95 beside 0.96, and 0.90 beside 0.93."""
    assert accuracy_lines(report()) == [
        "deep: retained accuracy minus the oracles' -0.0200 on average, -0.0300 at worst; no more than 0.01 below them"
        " after 1 of 2 events"
    ]


@pytest.mark.parametrize(
    ("seeds", "oracles", "width"),
    [
        (1, 2, "1 seed with 2 oracles: their interval reaches 15.6"),  # 12.706 sqrt(3/2)
        (1, 3, "1 seed with 3 oracles: their interval reaches 5.0"),  # 4.303 sqrt(4/3)
        (2, 2, "2 seeds with 2 oracles: their interval reaches 5.3"),  # 4.303 sqrt(3/2)
        (1, 4, None),  # 3.182 sqrt(5/4) = 3.6
        (2, 3, None),  # 2.776 sqrt(4/3) = 3.2
        (0, 2, None),
    ],
)
def test_an_interval_that_says_little_is_warned_of_in_print_and_in_the_file(
    seeds: int, oracles: int, width: str | None, tmp_path: Path
) -> None:
    made = replace(report(), oracles=oracles, seeds=report().seeds * seeds)
    console = Console(file=io.StringIO(), width=400)
    print_sequence(made, tmp_path, console)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    warned = [line.removeprefix("warning: ") for line in lines if line.startswith("warning: ")]
    made.save(tmp_path)
    assert json.loads((tmp_path / "sequence.json").read_text())["warnings"] == warned == made.warnings
    assert len(warned) == (width is not None) and all(line.startswith(str(width)) for line in warned)
    assert SequenceReport.load(tmp_path) == made


def test_the_printed_table_has_every_figure_and_request_and_what_was_not_committed(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=120)
    print_sequence(report(), tmp_path, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    rows = {line.split("  ")[0]: line.split() for line in text.splitlines()}
    assert rows["logit_auc"][1:] == ["1/1", "100", "%", "3/3", "100", "%", "0/1", "0", "%", "0/1", "0", "%"]
    assert rows["r2"][1:3] == ["0/1", "0"] and rows["all"][1:3] == ["2/3", "67"]
    assert "deep: seed 0, r3 was not committed: failed: retained accuracy" in text
