"""The command that takes arrays out of a SuperLink's database."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fed_unlearn.text import printable


def purge_superlink(
    database: Annotated[
        Path, typer.Argument(metavar="DB", help="What flower-superlink --database was given. Stop the SuperLink first.")
    ],
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Also remove those of runs that are not finished; they cannot go on.")
    ] = False,
) -> None:
    """Remove the messages and arrays of finished runs from a SuperLink's database, deleted ones too."""
    from fed_unlearn.simulations.deployment.purging import purge_superlink as purge

    done = purge(database.expanduser(), unfinished=unfinished)
    print(
        f"{printable(str(database))}: {done.objects} objects of {done.runs} run{'' if done.runs == 1 else 's'} removed;"
        f" {done.bytes_before:,} bytes before, {done.bytes_after:,} after"
    )
    if done.kept_runs:
        print(
            f"not finished, and kept: {', '.join(done.kept_runs)}; stop them with flwr stop, or give --unfinished to "
            "remove what they hold"
        )
