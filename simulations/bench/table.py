"""The tables that ``fed-unlearn bench`` prints."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from fed_unlearn.audits.oracles.prediction import FEWEST_FOR_CLAIMS, reach
from fed_unlearn.simulations.bench.results import REPAIR, MethodBenchReport, MethodRow
from fed_unlearn.simulations.bench.samples_table import samples_table
from fed_unlearn.simulations.report.layout import heading_of, plain_table, plain_text, print_line

if TYPE_CHECKING:
    from fed_unlearn.simulations.bench.overhead import OverheadReport

MARKS = {"above": "↑", "below": "↓", "inside": ""}
"""What stands behind a figure, by verdict."""

_IN_TRAINING = {"forget_accuracy": "\nforget", "retain_accuracy": "\nretain"}
"""Accuracies on training samples. They give way to the audits of ``--audit full``, and stand in the full table then."""

_IN_TEST = {"test_forget_accuracy": "test\nforget", "test_retain_accuracy": "test\nretain"}
_ACCURACIES = {**_IN_TRAINING, **_IN_TEST}
_COSTLY = {"probe_accuracy": "\nprobe", "relearn_ratio": "relearn\nratio"}
_AUDITS = {"logit_auc": "logit\nAUC", **_COSTLY}
"""Columns that are left out where no model has the figure."""

_LONGEST_NAME = 20
"""Longest name of a method in a line beside the audits of ``--audit full``: the table fits 80 columns."""


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
    if report.settings.get("table") == "full":
        from fed_unlearn.simulations.bench.full_table import full_table

        for line in full_table(report).splitlines():
            print_line(console, line)
    else:
        console.print(bench_table(report))
    if report.settings.get("shadows"):
        console.print(samples_table(report))
    lines = [f"{row.method} failed: {row.error}" for row in report.rows if row.error is not None]
    for line in (*lines, *_failed_audits(report), oracle_sentence(report), f"results in {folder}"):
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
    """A table with a row for each model: accuracies, audits with verdicts, the attack with its interval, and cost."""
    table = Table(
        title=plain_text(bench_title(report), "table.title"),
        caption=plain_text(_caption(report), "table.caption"),
        box=box.HORIZONTALS,
        show_lines=True,
        show_edge=False,
        padding=0,
    )
    table.add_column("method", overflow="fold")
    columns = _columns(report)
    extra = sorted({name for row in report.rows for name in row.extra})
    is_judged = any(row.audits is not None and row.audits.outside is not None for row in report.rows)
    headings = [*columns.values(), "attack\nAUC", "seconds\npasses", *map(heading_of, extra)]
    for heading in [*headings, "figures\naudits\noutside"] if is_judged else headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in report.rows:
        cells = _cells(row, columns, extra)
        table.add_row(*map(plain_text, [*cells, _outside(row)] if is_judged and row.error is None else cells))
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
        memorised = report.data.get("memorised_sample_ids")
        several = isinstance(memorised, Sequence) and len(memorised)
        return f"all but {several} drawn at random, these memorised" if several else "drawn at random"
    named = [str(label) if names[label] == str(label) else f"{label} ({names[label]})" for label in classes]
    return ("class " if len(classes) == 1 else "classes ") + ", ".join(named)


def _columns(report: MethodBenchReport) -> dict[str, str]:
    """Headings of the figures that have a column, by name."""
    known = {name for row in report.rows if row.audits is not None for name in row.audits.figures}
    is_wide = report.scope == "class" and not known.isdisjoint(_COSTLY)
    return {
        **(_IN_TEST if is_wide else _ACCURACIES),
        **{name: heading for name, heading in _AUDITS.items() if name in known},
    }


def _caption(report: MethodBenchReport) -> str:
    lines = ["below the attack's AUC its 95 % interval; passes are samples, those of backward passes twice"]
    if len(report.oracles) > 1:
        lines.append(f"{MARKS['above']} above and {MARKS['below']} below what the oracles allow, which are both traces")
    if any(row.from_cache for row in report.rows):
        lines.append("seconds and passes with * are those of an earlier comparison that kept the model")
    return "\n".join(lines)


def oracle_sentence(report: MethodBenchReport) -> str:
    """Say how many oracles the verdicts are by, what they are too few for, and how often they flag each other."""
    count, left_out = len(report.oracles), report.left_out
    if count < 2:
        return f"{count or 'no'} oracle: a verdict needs 2, and a claim {FEWEST_FOR_CLAIMS} or more (--oracles N)"
    if left_out is None:
        return (
            f"{count} oracles: too few for a claim, which needs {FEWEST_FOR_CLAIMS} or more. Their interval reaches"
            f" {reach(count):.1f} standard deviations to each side: that a figure is inside says nothing"
        )
    share = 100 * left_out.figures / left_out.judged_figures
    return (
        f"{count} oracles: each, left out and judged by the others, has {left_out.figures} of"
        f" {left_out.judged_figures} figures outside in all ({share:.1f} %)"
    )


def _cells(row: MethodRow, columns: Collection[str], extra: Sequence[str]) -> list[str]:
    name = f"+ {REPAIR}" if row.is_repaired else _name(row.method, columns)
    if row.error is not None:
        return [f"{name}\nfailed"]
    if row.converged is not None and not row.is_repaired:
        name += "\nconverged" if row.converged else "\nnot converged"
    interval = row.membership_auc_interval
    between = "" if interval is None else "\n" + "-".join(f"{end:.2f}".removeprefix("0") for end in interval)
    seconds = "-" if row.seconds is None else f"{row.seconds:.2f}" if row.seconds < 100 else f"{row.seconds:.0f}"
    passes = "-" if row.passes is None else short_count(row.passes)
    auc = _marked(row, "membership_auc", row.membership_auc) + between
    kept = "*" if row.from_cache else ""
    figures = [_marked(row, name, _value(row, name)) for name in columns]
    cost = f"{seconds}{kept}\n{passes}{kept}"
    return [name, *figures, auc, cost, *(_marked(row, name, row.extra.get(name)) for name in extra)]


def _name(name: str, columns: Collection[str]) -> str:
    """A name, in lines that are broken after hyphens where many columns leave little room."""
    if not set(columns).isdisjoint(_IN_TRAINING):
        return name
    return "\n".join(textwrap.wrap(name, _LONGEST_NAME, break_long_words=False))


def _value(row: MethodRow, name: str) -> float | None:
    if name in _ACCURACIES:
        value: float | None = getattr(row, name)
        return value
    figure = row.audits.figures.get(name) if row.audits is not None else None
    return figure.measured.value if figure is not None else None


def _marked(row: MethodRow, name: str, value: float | None) -> str:
    """A number and its verdict."""
    if value is None:
        return "-"
    figure = row.audits.figures.get(name) if row.audits is not None else None
    judgement = figure.judgement if figure is not None else None
    return f"{value:.3f}" + (MARKS[judgement.verdict] if judgement is not None else "")


def _outside(row: MethodRow) -> str:
    outside = row.audits.outside if row.audits is not None else None
    if outside is None:
        return "-"
    return f"{outside.figures}/{outside.judged_figures}\n{outside.audits}/{outside.judged_audits}"


def _failed_audits(report: MethodBenchReport) -> list[str]:
    """A line for each audit that failed in one way, with the models it failed for."""
    failed = dict[tuple[str, str], list[str]]()
    for row in report.rows:
        for audit, error in row.audits.errors.items() if row.audits is not None else ():
            failed.setdefault((audit, error), []).append(row.method)
    return [
        f"audit {audit} failed for {models[0] if len(models) == 1 else f'{len(models)} models'}: {error}"
        for (audit, error), models in failed.items()
    ]
