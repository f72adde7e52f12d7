"""``fed-unlearn report``: writes the page of a run again, or that of a Flower app's ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fed_unlearn.simulations.cli.orders.options import LedgerKey
from fed_unlearn.text import printable

_LONGEST = 2000


def report(
    place: Annotated[Path, typer.Argument(metavar="DIR", help="A run folder, or the ledger of an app's server.")],
    images: Annotated[bool, typer.Option("--images", help="Show some test images of the forgotten classes.")] = False,
    anonymous: Annotated[bool, typer.Option("--anonymous", help="Letters in place of clients' names.")] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File to write.", show_default="DIR/report.html")
    ] = None,
    ledger_key: LedgerKey = None,
) -> None:
    """Write the report of a run as one HTML page that loads nothing. The run itself stays as it is.

    A Flower app's server has a ledger and no run folder: its report is made of the ledger. Where results.json stands
    beside ledger.db, the report is that of the run, unless --out names a file for one of the ledger alone.
    """
    from fed_unlearn.simulations.cli.ledger import ledger_file
    from fed_unlearn.simulations.report.page import write_report
    from fed_unlearn.simulations.run.ledger_results import results_of_ledger
    from fed_unlearn.simulations.run.results import FILE_NAME

    folder, results = place.expanduser(), None
    if out is None and folder.is_file() and (folder.parent / FILE_NAME).is_file():
        folder = _run_of(folder)
    if folder.is_file() or (not (folder / FILE_NAME).exists() and (folder / "ledger.db").is_file()):
        ledger = ledger_file(folder)
        key = None if ledger_key is None else ledger_key.expanduser()
        folder = ledger.absolute().parent
        results = results_of_ledger(ledger, key, name=folder.name or ledger.stem)
    target = None if out is None else out.expanduser()
    written = write_report(folder, results, images=images, anonymous=anonymous, to=target)
    print(f"report: {printable(str(written), _LONGEST)}")


def _run_of(ledger: Path) -> Path:
    """The run folder of a ledger that has results beside it, whose report one of the ledger alone would replace."""
    from fed_unlearn.simulations.run.results import FILE_NAME, ResultsError

    folder = ledger.parent
    if ledger.name != "ledger.db":
        raise ResultsError(
            f"{folder} holds {FILE_NAME}, and the report of {ledger.name} would replace that of the run; name the file"
            " to write with --out"
        )
    print(printable(f"{folder} holds {FILE_NAME}, too: the report is that of the run", _LONGEST))
    return folder
