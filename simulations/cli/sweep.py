"""The command that runs methods by scenarios by seeds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fed_unlearn.simulations.cli.orders.codes import COMMITTED, NOT_COMMITTED
from fed_unlearn.simulations.cli.orders.options import with_options
from fed_unlearn.simulations.sweep.order import SweepOrder

if TYPE_CHECKING:
    from rich.console import Console

FILES = {"markdown": "compare.md", "latex": "compare.tex", "html": "compare.html"}
"""The tables that a sweep ends with, in its folder."""

ALL_FIGURES = {"csv": "compare.csv", "runs_csv": "compare-runs.csv"}
"""Its files with all figures."""


@with_options
def sweep(order: SweepOrder) -> int:
    """Run scenarios with several methods and seeds, side by side, and compare them.

    It goes on where it was stopped: by the same command, or by --resume. The exit code is 0 if all runs are complete,
    whatever became of their requests, and 1 if one failed.
    """
    from rich.console import Console

    from fed_unlearn.simulations.engines.processes import ended_as_by_interrupt
    from fed_unlearn.simulations.sweep.sweeping import run_sweep

    console = Console()
    with ended_as_by_interrupt():
        record, out = run_sweep(order, console)
        compare_sweep(out, console)
    complete = all((end := record.end_of(cell)) is not None and end.state == "ended" for cell in record.cells)
    return COMMITTED if complete else NOT_COMMITTED


def compare_sweep(out: Path, console: Console) -> None:
    """Write the table of a sweep into its folder, and print it.

    Parameters
    ----------
    out : Path
        The sweep's folder.
    console : Console
    """
    from fed_unlearn.simulations.compare.comparison import comparison_of
    from fed_unlearn.simulations.compare.figures import ALL
    from fed_unlearn.simulations.compare.printed import print_comparison, print_problems
    from fed_unlearn.simulations.compare.runs import found_runs
    from fed_unlearn.simulations.compare.tables import CompareSettings
    from fed_unlearn.simulations.compare.written import write_comparison
    from fed_unlearn.simulations.report.layout import print_line

    found = found_runs([out])
    if not found.compared:
        print_problems(found.problems, console)
        print_line(console, f"no run is complete, so there is nothing to compare; the sweep is {out}")
        return
    comparison = comparison_of(found, CompareSettings())
    write_comparison(comparison, {name: out / file for name, file in FILES.items()})
    whole = comparison_of(found, CompareSettings(figures=(ALL,)))
    write_comparison(whole, {name: out / file for name, file in ALL_FIGURES.items()})
    print_comparison(comparison, console)
    print_line(console, f"tables: {', '.join(FILES.values())} and {', '.join(ALL_FIGURES.values())} in {out}")
