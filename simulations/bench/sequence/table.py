"""The table that ``fed-unlearn bench sequence`` prints."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from fed_unlearn.simulations.bench.sequence.cells import Count
from fed_unlearn.simulations.bench.sequence.figures import FIGURES
from fed_unlearn.simulations.bench.sequence.results import TOLERANCE, SequenceReport
from fed_unlearn.simulations.report.layout import plain_table, plain_text, print_line


def print_sequence(report: SequenceReport, folder: Path, console: Console) -> None:
    """Print the counts by figure and by request, warnings, retained accuracy, and what was not committed.

    Parameters
    ----------
    report : SequenceReport
    folder : Path
        Folder to which the report was written.
    console : Console
        A console of rich, at least 80 columns wide.
    """
    console.print(sequence_table(report))
    warnings = [f"warning: {warning}" for warning in report.warnings]
    for line in (*warnings, *accuracy_lines(report), *_not_committed(report), f"results in {folder}"):
        print_line(console, line)


def sequence_table(report: SequenceReport) -> Table:
    """Cells inside the oracles' interval, of all cells: for each figure, for each request, and in all."""
    table = plain_table("inside the oracles' interval", *report.columns)
    present = {cell.figure for cell in report.cells(report.main)}
    for figure in (name for name in FIGURES if name in present):
        table.add_row(figure, *(_cell(report.count(column, figures=[figure])) for column in report.columns))
    table.add_section()
    for request in dict.fromkeys(cell.request for cell in report.cells(report.main)):
        table.add_row(plain_text(request), *(_cell(report.count(name, request=request)) for name in report.columns))
    table.add_section()
    table.add_row("all", *(_cell(report.count(column)) for column in report.columns))
    return table


def accuracy_lines(report: SequenceReport) -> list[str]:
    """How retained accuracy lies beside the oracles' mean, for each run."""
    lines = []
    for run in (report.main, *report.beside):
        differences = [item.difference for item in report.accuracies(run)]
        if not differences:
            continue
        near = sum(difference >= -TOLERANCE - 1e-9 for difference in differences)
        lines.append(
            f"{run}: retained accuracy minus the oracles' {sum(differences) / len(differences):+.4f} on average,"
            f" {min(differences):+.4f} at worst; no more than {TOLERANCE} below them after {near} of"
            f" {len(differences)} events"
        )
    return lines


def _not_committed(report: SequenceReport) -> list[str]:
    return [
        f"{run}: {place} was not committed: {reason}"
        for run in (report.main, *report.beside)
        for place, reason in report.not_committed(run).items()
    ]


def _cell(count: Count) -> str:
    return "-" if count.share is None else f"{count.inside}/{count.cells} {100 * count.share:.0f} %"
