"""The tables that ``fed-unlearn bench`` prints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from fed_unlearn.simulations.bench.results import REPAIR, MethodBenchReport, MethodRow
from fed_unlearn.simulations.report.layout import plain_table, plain_text, print_line
from fed_unlearn.simulations.report.shown import headings_of, shown_of

if TYPE_CHECKING:
    from fed_unlearn.simulations.bench.overhead import OverheadReport

_ACCURACIES = ("\nforget", "\nretain", "test\nforget", "test\nretain")
_HEADINGS = (*_ACCURACIES, "attack\nAUC", "seconds\nsteps", "forward\nbackward")


def print_bench(report: MethodBenchReport, folder: Path, console: Console) -> None:
    """Print the rows of a comparison, what they were measured on, and where the results lie.

    Parameters
    ----------
    report : MethodBenchReport
    folder : Path
        The folder that it was written to.
    console : Console
        A console of rich, at least 80 columns wide.
    """
    console.print(bench_table(report))
    lines = [f"{row.method} failed: {row.error}" for row in report.rows if row.error is not None]
    for line in (*lines, f"results in {folder}"):
        print_line(console, line)


def print_overhead(report: OverheadReport) -> None:
    """Print what the engines cost, compared with the plain loop."""
    table = plain_table("training as", "median seconds", "to the loop", "with start and checks")
    for row in report.rows:
        walls = sorted(row.wall_seconds)
        wall = f"{walls[len(walls) // 2]:.2f}"
        table.add_row(row.name, f"{row.median:.2f}", f"{report.ratio(row):.3f}", wall)
    console = Console()
    console.print(table)
    beyond = report.ratio(report.row("inprocess"), report.row("same-steps"))
    console.print(f"same-steps: the loop with the library's own training; inprocess takes {beyond:.3f} times as long")
    equal = "equal bit for bit" if report.arrays_equal else "NOT equal"
    settings = f"{report.rounds} rounds, {report.threads} torch threads"
    console.print(f"{settings}; arrays of loops and inprocess: {equal}", highlight=False)


def bench_table(report: MethodBenchReport) -> Table:
    """A table with a row for each model: accuracies, the membership attack with its interval, and costs."""
    table = Table(
        title=plain_text(bench_title(report), "table.title"),
        caption="below each AUC its 95 % interval; passes are samples pushed through a model",
        box=box.HORIZONTALS,
        show_lines=True,
        show_edge=False,
        padding=0,
    )
    table.add_column("method", overflow="fold")
    extra = shown_of(name for row in report.rows for name in row.extra)
    for heading in (*_HEADINGS, *headings_of(extra)):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in report.rows:
        figures = [_number(row.extra.get(name)) for name in extra if row.error is None]
        table.add_row(*map(plain_text, _cells(row)), *figures)
    return table


def short_count(count: int) -> str:
    """Write a count in at most five characters, such as 998, 45.0k or 1.20M."""
    for bound, divisor, unit in ((1_000, 1, ""), (999_500, 1_000, "k"), (10**12, 1_000_000, "M")):
        if count < bound:
            number = count / divisor
            decimals = 0 if not unit or number >= 99.95 else (1 if number >= 9.995 else 2)
            return f"{number:.{decimals}f}{unit}"
    return f"{count:.0e}"


def bench_title(report: MethodBenchReport) -> str:
    """Say how many samples were to be forgotten, of which classes, and the seed."""
    return f"{report.data.get('forget_samples')} samples to forget, {_target_words(report)}; seed {report.seed}"


def _target_words(report: MethodBenchReport) -> str:
    classes, names = report.data.get("forget_classes"), report.data.get("class_names")
    if not isinstance(classes, Sequence) or not isinstance(names, Sequence) or not classes:
        return "drawn at random"
    named = [str(label) if names[label] == str(label) else f"{label} ({names[label]})" for label in classes]
    return ("class " if len(classes) == 1 else "classes ") + ", ".join(named)


def _cells(row: MethodRow) -> list[str]:
    name = f"+ {REPAIR}" if row.is_repaired else row.method
    if row.error is not None:
        return [f"{name}\nfailed"]
    if row.converged is not None and not row.is_repaired:
        name += "\nconverged" if row.converged else "\nnot converged"
    accuracies = (row.forget_accuracy, row.retain_accuracy, row.test_forget_accuracy, row.test_retain_accuracy)
    interval = row.membership_auc_interval
    between = "" if interval is None else f"\n{interval[0]:.2f}-{interval[1]:.2f}"
    seconds = "-" if row.seconds is None else f"{row.seconds:.2f}" if row.seconds < 100 else f"{row.seconds:.0f}"
    steps, forward, backward = (
        "-" if count is None else short_count(count) for count in (row.steps, row.forward_passes, row.backward_passes)
    )
    auc = _number(row.membership_auc) + between
    return [name, *map(_number, accuracies), auc, f"{seconds}\n{steps}", f"{forward}\n{backward}"]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
