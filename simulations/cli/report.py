"""``fed-unlearn report``: writes the page of a run again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fed_unlearn.text import printable

_LONGEST = 2000


def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run folder.")],
    images: Annotated[bool, typer.Option("--images", help="Show some test images of the forgotten classes.")] = False,
    anonymous: Annotated[bool, typer.Option("--anonymous", help="Letters in place of clients' names.")] = False,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="File to write.  [default: DIR/report.html]")] = None,
) -> None:
    """Write the report of a run as one HTML page that loads nothing; without changes of the run itself."""
    from fed_unlearn.simulations.report.page import write_report

    target = None if out is None else out.expanduser()
    written = write_report(folder.expanduser(), images=images, anonymous=anonymous, to=target)
    print(f"report: {printable(str(written), _LONGEST)}")
