from __future__ import annotations

import csv
import dataclasses
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from canaries import found_in
from compared_runs import METHODS, drawn, request, write_run
from rich.console import Console
from sample_results import SAMPLES, figures

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.simulations.cli import BAD_INPUT, COMMITTED, INTERRUPTED, run_command
from fed_unlearn.simulations.compare.comparison import comparison_of
from fed_unlearn.simulations.compare.figures import FIGURES, TIMES, Better
from fed_unlearn.simulations.compare.printed import print_comparison
from fed_unlearn.simulations.compare.runs import NothingToCompareError, found_runs
from fed_unlearn.simulations.compare.shown import signed
from fed_unlearn.simulations.compare.tables import CompareSettings, Comparison, FigureTable
from fed_unlearn.simulations.compare.written import (
    FORMATS,
    csv_text,
    html_text,
    latex_text,
    markdown_text,
    runs_csv_text,
)
from fed_unlearn.simulations.run.results import RelapseResult, ResultsError
from fed_unlearn.simulations.sweep.record import Cell, CellEnd, SweepRecord

ALL = CompareSettings(figures=("all",))


def compared(folder: Path, settings: CompareSettings = ALL) -> Comparison:
    return comparison_of(found_runs([folder]), settings)


def table_of(comparison: Comparison, figure: str, scope: str = "class") -> FigureTable:
    [table] = [item for item in comparison.tables if (item.figure.name, item.scope) == (figure, scope)]
    return table


def printed(comparison: Comparison, width: int = 100) -> str:
    text = StringIO()
    print_comparison(comparison, Console(file=text, width=width))
    return text.getvalue()


def test_the_table_is_that_of_scipy(tmp_path: Path) -> None:
    made = drawn(tmp_path)
    values = {  # a method is a row, a seed a column
        method: np.array([np.mean([item.after.retain_accuracy for item in made[method, seed]]) for seed in range(5)])
        for method in METHODS
    }
    table = table_of(
        compared(tmp_path, CompareSettings(figures=("retain_accuracy",), baseline="scrub", level=0.9)),
        "retain_accuracy",
    )
    rows = {row.method: row for row in table.rows}
    assert rows.keys() == set(METHODS)
    for method, row in rows.items():
        assert row.spread.n == 5
        assert row.spread.mean == pytest.approx(values[method].mean())
        assert row.spread.deviation == pytest.approx(values[method].std(ddof=1))
    assert rows["scrub"].difference is None
    others = [method for method in rows if method != "scrub"]
    p_values = [scipy.stats.ttest_rel(values[method], values["scrub"]).pvalue for method in others]
    for method, p in zip(others, p_values, strict=True):
        difference = rows[method].difference
        interval = scipy.stats.ttest_rel(values[method], values["scrub"]).confidence_interval(0.9)
        assert difference is not None
        assert (difference.low, difference.high, difference.p) == pytest.approx((interval.low, interval.high, p))
        is_lower = p == min(p_values)
        assert difference.adjusted_p == pytest.approx(
            min(1.0, 2 * min(p_values)) if is_lower else max(p, min(1.0, 2 * min(p_values)))
        )
    ranks = scipy.stats.rankdata(-np.array([values[row.method] for row in table.rows]), axis=0).mean(axis=1)
    assert [row.rank for row in table.rows] == pytest.approx(ranks)
    test = scipy.stats.friedmanchisquare(*values.values())
    assert table.friedman is not None
    assert (table.friedman.statistic, table.friedman.p) == pytest.approx((test.statistic, test.pvalue))


def test_near_the_oracle_is_near_in_each_request(tmp_path: Path) -> None:
    """Means that agree with the oracle's by luck do not count as near."""
    write_run(
        tmp_path / "a",
        0,
        request("a", 0.2, 0.9, oracle=figures(0.3, 0.9)),
        request("a", 0.4, 0.9, oracle=figures(0.3, 0.9)),
    )
    write_run(
        tmp_path / "b",
        0,
        request("b", 0.25, 0.9, oracle=figures(0.3, 0.9)),
        request("b", 0.25, 0.9, oracle=figures(0.3, 0.9)),
    )
    comparison = compared(tmp_path)
    table = table_of(comparison, "forget_accuracy")
    assert table.better is Better.ORACLE
    assert [row.spread.mean for row in table.rows] == pytest.approx([0.3, 0.25])
    assert [row.rank for row in table.rows] == [2.0, 1.0]
    distances = table_of(comparison, "forget_accuracy_distance")
    assert [row.spread.mean for row in distances.rows] == pytest.approx([0.1, 0.05])


def test_what_is_better_without_oracles(tmp_path: Path) -> None:
    client = dataclasses.replace(SAMPLES, id="r3", scope="client", target={"client": "2"})
    write_run(
        tmp_path / "a",
        0,
        request("a", 0.2, 0.9, oracle=None),
        dataclasses.replace(SAMPLES, goal="misclassify"),
        client,
    )
    comparison = compared(tmp_path)
    assert table_of(comparison, "forget_accuracy", "class").better is Better.LOWER
    assert table_of(comparison, "forget_accuracy", "sample").better is Better.LOWER
    assert table_of(comparison, "forget_accuracy", "client").better is Better.NONE
    assert table_of(comparison, "membership_auc", "class").better is Better.HALF
    assert all(row.rank is None for row in table_of(comparison, "forget_accuracy", "client").rows)


def test_figures_of_a_run_by_hand(tmp_path: Path) -> None:
    committed = request(
        "m", 0.1, 0.95, id="r1", passes=100, oracle_passes=400, seconds=2.0, before=figures(1.0, 0.99, 0.9)
    )
    failed = request(
        "m",
        0.3,
        0.85,
        id="r2",
        status="failed",
        passes=300,
        oracle_passes=600,
        seconds=4.0,
        before=figures(1.0, 0.95, 0.9),
    )
    relapse = (
        RelapseResult(after="r1", forget_accuracy={"r1": 0.9}, test_forget_accuracy={"r1": 0.9}),  # not a later event
        RelapseResult(after="r2", forget_accuracy={"r1": 0.2}, test_forget_accuracy={"r1": 0.04}),
        RelapseResult(
            after="train:2", forget_accuracy={"r1": 0.2, "r2": 1.0}, test_forget_accuracy={"r1": 0.03, "r2": 1.0}
        ),
    )
    write_run(tmp_path / "m", 0, committed, failed, relapse=relapse)
    found = {
        table.figure.name: table.rows[0].spread.mean
        for table in compared(tmp_path, CompareSettings(figures=("all", "seconds"))).tables
    }
    assert found == pytest.approx(
        {
            "committed": 0.5,
            "forget_accuracy": 0.2,
            "retain_accuracy": 0.9,
            "test_forget_accuracy": 0.1,
            "test_retain_accuracy": 0.89,
            "membership_auc": 0.5,
            "retain_change": -0.07,
            "test_retain_change": -0.07,
            "forget_accuracy_distance": 0.2,
            "retain_accuracy_distance": 0.09,
            "test_forget_accuracy_distance": 0.1,
            "test_retain_accuracy_distance": 0.09,
            "membership_auc_distance": 0.0,
            "worst_relapse": 0.04,
            "pass_ratio": 3.0,
            "passes": 200.0,
            "seconds": 3.0,
        }
    )


def test_runs_are_found_at_any_depth_and_counted_once(tmp_path: Path) -> None:
    drawn(tmp_path / "a" / "deep", seeds=(0, 1))
    found = found_runs([tmp_path, tmp_path / "a", tmp_path / "a" / "deep" / "delete" / "seed0"])
    assert len(found.runs) == 6 and not found.problems


def test_what_is_missing_incomplete_or_twice_is_named(tmp_path: Path) -> None:
    drawn(tmp_path / "runs", seeds=(0, 1, 2), methods=("delete", "scrub"))
    (tmp_path / "runs" / "scrub" / "seed1" / "results.json").unlink()
    write_run(tmp_path / "runs" / "delete" / "seed2", 2, request("delete", 0.1, 0.9), complete=False)
    write_run(tmp_path / "again", 0, request("scrub", 0.9, 0.1))
    found = found_runs([tmp_path])
    assert set(found.problems) == {
        "digits, scrub, seed 1: missing",
        "digits, delete, seed 2: not complete",
        f"digits, scrub, seed 0: found twice; {tmp_path}/again counts, {tmp_path}/runs/scrub/seed0 does not",
    }
    comparison = comparison_of(found, CompareSettings())
    for text in (printed(comparison), html_text(comparison), markdown_text(comparison).replace("\\", "")):
        assert "digits, scrub, seed 1: missing" in text and "digits, delete, seed 2: not complete" in text
        assert "2/3" in text
    [row, _] = table_of(comparison, "forget_accuracy").rows
    assert (row.spread.n, row.runs) == (2, 3)


def test_a_run_without_results_is_named_by_its_scenario(tmp_path: Path) -> None:
    drawn(tmp_path, seeds=(0, 1), methods=("delete",))
    for seed, content in ((2, None), (3, "{}")):
        folder = tmp_path / "delete" / f"seed{seed}"
        folder.mkdir()
        (folder / "scenario.toml").write_text(
            f'name = "digits"\nseed = {seed}\n[unlearning]\nmethod = "delete"\n[[timeline]]\nforget = {{ class = 3 }}\n'
        )
        (folder / "ledger.db").touch()
        if content is not None:
            (folder / "results.json").write_text(content)
    found = found_runs([tmp_path])
    assert set(found.problems) == {
        "digits, delete, seed 2: not complete: no results yet",
        "digits, delete, seed 3: its results.json cannot be read",
    }
    [table] = comparison_of(found, CompareSettings(figures=("committed",))).tables
    assert (table.rows[0].spread.n, table.rows[0].runs) == (2, 4)


def test_one_seed_has_no_interval_and_that_is_said(tmp_path: Path) -> None:
    drawn(tmp_path, seeds=(4,))
    comparison = compared(tmp_path, CompareSettings(figures=("retain_accuracy",)))
    text = printed(comparison)
    assert "one seed" in text and "One seed has no deviation, no interval and no p." in text
    assert all(row.difference is None or row.difference.p is None for row in comparison.tables[0].rows)
    assert comparison.tables[0].friedman is None


def test_a_constant_difference_is_said(tmp_path: Path) -> None:
    for method, retain in (("a", 0.9), ("b", 0.8)):
        for seed in range(4):
            write_run(tmp_path / method / str(seed), seed, request(method, 0.0, retain + seed / 100))
    comparison = compared(tmp_path, CompareSettings(figures=("retain_accuracy",)))
    text = printed(comparison)
    assert "[-0.100, -0.100]" in text and "the interval is a point and there is no p" in text
    assert "nan" not in text.lower() and "nan" not in csv_text(comparison).lower()


def test_requests_without_figures_and_runs_of_other_settings_are_named(tmp_path: Path) -> None:
    rejected = request("delete", 0, 0, id="r2", status="rejected", before=None, unlearned=None, after=None, oracle=None)
    for seed, rate in enumerate((0.05, 0.1)):
        folder = tmp_path / str(seed)
        write_run(folder, seed, request("delete", 0.1, 0.9), *((rejected,) if seed else ()))
        (folder / "scenario.toml").write_text(
            f'name = "digits"\nseed = {seed}\n[training]\nlearning-rate = {rate}\n[unlearning]\nmethod = "delete"\n'
            "[[timeline]]\nforget = { class = 3 }\n"
        )
    problems = compared(tmp_path).problems
    assert "digits, delete, seed 1: without figures, and in no mean: r2" in problems
    assert "digits: runs differ in settings too: training.learning-rate" in problems


def test_a_method_is_named_by_its_scenario_and_not_by_what_escalation_took(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 0, request("retrain", 0.0, 0.9))
    (tmp_path / "a" / "scenario.toml").write_text(
        'name = "digits"\n[unlearning]\nmethod = "delete"\nclient-method = "fedosd"\nsample-method = "instance-wise"\n'
        '[[timeline]]\nforget = [{ class = 3, method = "scrub" }, { class = 4 }, { client = 1 }]\n'
    )
    assert [run.cell.method for run in found_runs([tmp_path]).runs] == ["scrub+delete/fedosd"]


def test_formats_hold_the_same_numbers(tmp_path: Path) -> None:
    drawn(tmp_path)
    comparison = compared(tmp_path)
    rows = list(csv.DictReader(StringIO(csv_text(comparison))))
    tables = {(table.figure.name, row.method): row for table in comparison.tables for row in table.rows}
    assert len(rows) == len(tables) > 30
    for entry in rows:
        row = tables[entry["figure"], entry["method"]]
        assert float(entry["mean"]) == row.spread.mean and float(entry["standard_deviation"]) == row.spread.deviation
        assert (entry["interval_low"] == "") == (row.difference is None)
        if row.difference is not None:
            assert float(entry["difference"]) == row.difference.mean and entry["baseline"] == comparison.baseline
            assert float(entry["interval_high"]) == row.difference.high
            shown = signed(row.difference.mean, min(FIGURES[entry["figure"]].decimals, 3))
            assert shown in html_text(comparison) and shown in markdown_text(comparison)
            assert shown.replace("-", r"\ensuremath{-}") in latex_text(comparison)
    runs = list(csv.DictReader(StringIO(runs_csv_text(comparison))))
    for entry in rows:
        values = [
            float(run["value"]) for run in runs if (run["figure"], run["method"]) == (entry["figure"], entry["method"])
        ]
        assert np.mean(values) == pytest.approx(float(entry["mean"]))


def test_times_are_shown_only_where_they_are_named(tmp_path: Path) -> None:
    drawn(tmp_path)
    assert not {table.figure.name for table in compared(tmp_path).tables} & set(TIMES)
    assert table_of(compared(tmp_path, CompareSettings(figures=("seconds",))), "seconds").rows[0].spread.mean == 0.5


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_names_from_outside_mean_nothing_in_any_format(tmp_path: Path) -> None:
    hostile = "<script>&\\input{x}|_$%#^~\x1b[31m{{ 7 * 7 }}"
    write_run(tmp_path / "a", 0, request(hostile, 0.1, 0.9), scenario=hostile)
    write_run(tmp_path / "b", 1, request("b", 0.1, 0.9), scenario=hostile)
    comparison = compared(tmp_path)
    page = _Page()
    page.feed(html_text(comparison))
    assert "script" not in page.tags and "<script>&\\input{x}|_$%#^~\\x1b[31m{{ 7 * 7 }}" in page.text
    assert r"\input" not in latex_text(comparison) and r"\textless{}script" in latex_text(comparison)
    assert r"\<script\>" in markdown_text(comparison)
    assert all("\x1b" not in write(comparison) for write in FORMATS.values()) and "\x1b[31m" not in printed(comparison)


def test_tables_in_latex_fit_a_page(tmp_path: Path) -> None:
    """A float that is longer than the page is cut off at its end."""
    drawn(tmp_path)
    comparison = compared(tmp_path)
    floats = latex_text(comparison).split(r"\begin{table}")[1:]
    assert len(floats) > 2 and all(one.count(r" \\") <= 44 for one in floats)
    figures_of = [one.count(r"\emph{") for one in floats]
    assert sum(figures_of) == len(comparison.tables) and min(figures_of) >= 1
    assert f"class requests (1 of {len(floats)})" in floats[0]


def test_no_sample_and_no_client_is_in_a_table(tmp_path: Path) -> None:
    ids = ["canary-sample-7f3a", "canary-client-9b2c"]
    target = {"client": ids[1], "sample_ids": [ids[0]]}
    sample = dataclasses.replace(SAMPLES, target=target, reason=f"{ids[1]} has {ids[0]}")
    write_run(tmp_path / "a", 0, sample, request("delete", 0.1, 0.9))
    write_run(tmp_path / "b", 1, sample, request("scrub", 0.1, 0.9))
    comparison = compared(tmp_path)
    contents = {name: write(comparison).encode() for name, write in FORMATS.items()}
    assert len(contents) == 5 and "sample requests" in markdown_text(comparison)
    assert not found_in({**contents, "terminal": printed(comparison).encode()}, ids)


@pytest.mark.parametrize("width", [80, 100])
def test_tables_fit_the_terminal(tmp_path: Path, width: int) -> None:
    drawn(tmp_path)
    tables, _, _ = printed(compared(tmp_path, CompareSettings()), width).partition("mean and sd:")
    lines = [line for line in tables.splitlines() if "boundary" in line]
    assert len(lines) == 6 and all(len(line.rstrip()) <= width for line in tables.splitlines())
    assert all(line.split()[0] == "boundary-shrink" for line in lines)


def test_a_chain_of_methods_is_broken_between_two_of_them(tmp_path: Path) -> None:
    chain = "negative-gradient++boundary-expanding/instance-wise/fedosd"
    for seed in range(3):
        write_run(tmp_path / f"a{seed}", seed, request("delete", 0.1, 0.9 + seed / 100))
        write_run(tmp_path / f"b{seed}", seed, request(chain, 0.1, 0.8 + seed / 90))
    text = printed(compared(tmp_path, CompareSettings(figures=("retain_accuracy",))), 80)
    table = text.partition("mean and sd:")[0].splitlines()
    assert max(map(len, table)) <= 80 and len(table) > 5
    pieces = [words[0] for line in table if (words := line.split()) and words[0] in chain and words[0] != "-"]
    assert pieces == ["negative-", "gradient++", "boundary-", "expanding/", "instance-wise/", "fedosd"]


def test_a_figure_without_a_field_is_told_in_words(tmp_path: Path) -> None:
    after = dataclasses.replace(figures(0.1, 0.9), extra={"logit_auc": 0.9, "their_figure": 0.5})
    write_run(tmp_path / "a", 0, request("delete", 0.1, 0.9, after=after))
    text = " ".join(printed(compared(tmp_path, CompareSettings(figures=("logit_auc", "their_figure")))).split())
    assert "logit_auc: how well the class's hidden score tells it apart;" in text
    assert "their_figure: their figure;" in text


def test_the_seeds_of_a_method_of_which_the_same_is_to_be_said_are_one_line(tmp_path: Path) -> None:
    cells = ("delete", "scrub", "fedosd")
    record = SweepRecord(
        scenarios=("digits",), methods=cells, seeds=tuple(range(7)), oracle=False, settings={}, served={}, versions={}
    )
    record.with_end(CellEnd(cell=Cell("digits", "scrub", 3), state="failed", exit_code=70)).save(tmp_path)
    write_run(tmp_path / "digits" / "delete" / "seed0", 0, request("delete", 0.1, 0.9))
    assert found_runs([tmp_path]).problems == (
        "digits, delete, seeds 1-6: not begun",
        "digits, scrub, seeds 0-2,4-6: not begun",
        "digits, scrub, seed 3: failed, exit code 70",
        "digits, fedosd, seeds 0-6: not begun",
    )


def test_the_command_writes_files_and_names_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawn(tmp_path / "runs")
    options = {"--markdown": "a.md", "--csv": "a.csv", "--runs-csv": "b.csv", "--latex": "a.tex", "--html": "a.html"}
    places = [word for option, name in options.items() for word in (option, str(tmp_path / name))]
    assert run_command(["compare", str(tmp_path / "runs"), "--figure", "retain_accuracy", *places]) == COMMITTED
    assert all((tmp_path / name).stat().st_size > 100 for name in options.values())
    assert "retain_accuracy: accuracy on the training data that stays" in capsys.readouterr().out
    for wrong, told in (
        (["--figure", "forget_acuracy"], "did you mean forget_accuracy?"),
        (["--baseline", "delte"], "did you mean delete?"),
        (["--scope", "clients"], "expected class, sample, client"),
        (["--level", "95"], "expected a number between 0 and 1"),
        (["--csv", str(tmp_path / "none" / "a.csv")], "its folder does not exist"),
        (["--html", str(tmp_path)], "is a folder"),
    ):
        assert run_command(["compare", str(tmp_path / "runs"), *wrong]) == BAD_INPUT
        assert told in capsys.readouterr().err
    assert run_command(["compare"]) == BAD_INPUT
    assert "no folder was given" in capsys.readouterr().err


def test_files_are_written_before_a_reader_of_the_tables_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn(tmp_path / "runs")
    expected, found = tmp_path / "expected.csv", tmp_path / "found.csv"
    assert run_command(["compare", str(tmp_path / "runs"), "--csv", str(expected)]) == COMMITTED
    monkeypatch.setattr("sys.stdout", _Closed())
    assert run_command(["compare", str(tmp_path / "runs"), "--csv", str(found)]) == INTERRUPTED
    assert found.read_bytes() == expected.read_bytes()


class _Closed(StringIO):
    """An interrupt in place of SIGPIPE, which would end the process of the tests."""

    def write(self, text: str) -> int:
        raise KeyboardInterrupt


def test_folders_without_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NothingToCompareError, match="holds no run"):
        found_runs([tmp_path])
    with pytest.raises(NothingToCompareError, match="is no folder"):
        found_runs([tmp_path / "none"])
    write_run(tmp_path / "a", 0, request("delete", 0.1, 0.9), complete=False)
    with pytest.raises(NothingToCompareError, match="no run is complete"):
        compared(tmp_path)
    with pytest.raises(InvalidParameterError, match="level"):
        CompareSettings(level=float("nan"))


@pytest.mark.parametrize(
    "text",
    ['name = "x"\nseed = "1"', "name = 1", 'name = "x"\ntimeline = [1]', 'name = "x"\ntimeline = [{forget = 1}]'],
)
def test_a_scenario_of_other_types_is_no_scenario(tmp_path: Path, text: str) -> None:
    (tmp_path / "scenario.toml").write_text(text)
    (tmp_path / "ledger.db").touch()
    with pytest.raises(ResultsError, match=r"holds no results\.json"):
        found_runs([tmp_path])
