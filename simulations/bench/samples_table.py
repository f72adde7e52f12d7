"""The table of single samples beside shadow models that ``fed-unlearn bench methods --shadows`` prints."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table

from fed_unlearn.simulations.bench.results import REPAIR, MethodBenchReport, MethodRow
from fed_unlearn.simulations.report.layout import plain_text

_CAPTION = (
    "U-LiRA: AUC that tells models unlearned so from retrained ones, 0.5 is chance\n"
    "worst: the same of one sample; LiRA: AUC that tells the samples from unseen ones\n"
    "left, overdone: samples that the model is too sure of, and not sure enough of"
)
_OF_GROUPS = {"ulira_auc": "U-LiRA", "lira_auc": "LiRA"}
_OF_ALL = {"ulira_worst": "worst\nsample", "lira_left": "\nleft", "lira_overdone": "over-\ndone"}
_GROUPS = {"_random": "random", "_memorised": "memor.", "": ""}


def samples_table(report: MethodBenchReport) -> Table:
    """A row for each model: U-LiRA of shadow models made as it was made, and LiRA of the model itself.

    Parameters
    ----------
    report : MethodBenchReport
        Report of a comparison with shadow models.
    """
    known = {name for row in report.rows if row.audits is not None for name in row.audits.figures}
    columns = {
        figure + suffix: f"{heading}\n{group}"
        for figure, heading in _OF_GROUPS.items()
        for suffix, group in _GROUPS.items()
        if figure + suffix in known
    }
    columns |= {name: heading for name, heading in _OF_ALL.items() if name in known}
    table = Table(
        title=plain_text(f"single samples beside {report.settings.get('shadows')} shadow models", "table.title"),
        caption=plain_text(_CAPTION, "table.caption"),
        box=box.HORIZONTALS,
        show_edge=False,
        padding=0,
    )
    table.add_column("method", overflow="fold")
    for heading in columns.values():
        table.add_column(heading, justify="right", no_wrap=True)
    for row in report.rows:
        if row.audits is not None:
            name = f"+ {REPAIR}" if row.is_repaired else row.method
            table.add_row(*map(plain_text, [name, *_cells(row, list(columns))]))
    return table


def _cells(row: MethodRow, columns: Sequence[str]) -> list[str]:
    figures = {} if row.audits is None else row.audits.measured
    cells = list[str]()
    for name in columns:
        value = figures[name].value if name in figures else None
        is_count = name in ("lira_left", "lira_overdone")
        cells.append("-" if value is None else f"{value:.0f}" if is_count else f"{value:.2f}")
    return cells
