"""The commands that look at a ledger and write requests into it, beside a running server or without one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated

import click
import typer

from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.ledger import Ledger
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.simulations.cli.options import with_options
from fed_unlearn.simulations.cli.request_order import RequestOrder

BROKEN = 1
"""Exit code of ``ledger verify`` where the ledger is not as it was written."""

request = typer.Typer(
    help="Put forget requests into a ledger, look at them, withdraw them. LEDGER is a run folder or a ledger's file.",
    no_args_is_help=True,
)
ledger = typer.Typer(
    help="Look at a ledger, and check that nobody changed it. LEDGER is a run folder or a ledger's file.",
    no_args_is_help=True,
)

_Ledger = Annotated[Path, typer.Argument(metavar="LEDGER", help="A run folder, or a ledger's file.")]
_Id = Annotated[str, typer.Argument(metavar="ID", help="Of the request.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]


def add_commands(app: typer.Typer) -> None:
    """Add ``request``, ``ledger`` and ``approve`` to the command line."""
    app.add_typer(request, name="request")
    app.add_typer(ledger, name="ledger")
    app.command()(approve)


@request.command()
@with_options
def add(place: _Ledger, order: RequestOrder) -> None:
    """Write a request down and print its id; a server that uses the ledger serves it between its rounds."""
    with complaints():
        asked = order.request()
    with opened_ledger(place, create=True) as opened:
        print(opened.receive(asked))


@request.command("list")
def list_requests(
    place: _Ledger,
    status: Annotated[Status | None, typer.Option(help="Only requests that stand there.")] = None,
    as_json: _Json = False,
) -> None:
    """List the requests of a ledger, in the order in which they came."""
    from fed_unlearn.simulations.report import ledger_tables

    with opened_ledger(place) as opened:
        entries = [entry for entry in opened.entries() if status is None or entry.status is status]
    if as_json:
        ledger_tables.print_json([ledger_tables.entry_json(entry) for entry in entries])
    else:
        ledger_tables.print_entries(entries)


@request.command()
def show(place: _Ledger, request_id: _Id, as_json: _Json = False) -> None:
    """Show a request in full, with everything that happened to it."""
    from fed_unlearn.simulations.report import ledger_tables

    with opened_ledger(place) as opened:
        entry, events = opened.entry(request_id), opened.events(request_id)
    if as_json:
        body = ledger_tables.entry_json(entry)
        ledger_tables.print_json({**body, "events": [ledger_tables.event_json(event) for event in events]})
    else:
        ledger_tables.print_entry(entry, events)


@request.command()
def withdraw(place: _Ledger, request_id: _Id) -> None:
    """Withdraw a request that no server is working on."""
    with opened_ledger(place) as opened:
        opened.withdraw(request_id)
    print(f"{request_id}: withdrawn")


def approve(place: _Ledger, request_id: _Id) -> None:
    """Approve a request that is held because of its size, or will be, in a run folder or a ledger's file."""
    with opened_ledger(place) as opened:
        opened.approve(request_id)
    print(f"{request_id}: approved")


@ledger.command("show")
def show_ledger(place: _Ledger, as_json: _Json = False) -> None:
    """Show the model that serves, how requests and clients stand, and everything that happened."""
    from fed_unlearn.simulations.report import ledger_tables

    with opened_ledger(place) as opened:
        summary = ledger_tables.ledger_summary(opened)
        events = opened.events()
    if as_json:
        ledger_tables.print_json({**summary, "events": [ledger_tables.event_json(event) for event in events]})
    else:
        ledger_tables.print_ledger(summary, events)


@ledger.command()
def verify(place: _Ledger) -> int:
    """Check that no event and no request was changed since it was written; exit code 1 where one was."""
    with opened_ledger(place) as opened:
        verification = opened.verify()
    if verification.problem is not None:
        print(f"broken: {verification.problem}")
        return BROKEN
    print(f"intact: {verification.events} events, the last one sealed as {verification.head}")
    return 0


@contextmanager
def complaints() -> Iterator[None]:
    """Errors of the library leave the block as errors of the command line, which are one line each.

    Raises
    ------
    click.ClickException
        In place of an error of the library.
    """
    try:
        yield
    except FedUnlearnError as error:
        raise click.ClickException(str(error)) from error


@contextmanager
def opened_ledger(place: Path, *, create: bool = False) -> Iterator[Ledger]:
    """A ledger, closed at the end of the block.

    Parameters
    ----------
    place : Path
        A run folder, or the file itself.
    create : bool
        Whether a file that is not there may be made: its name has to end in ``.db``, and its folder to exist.

    Raises
    ------
    click.ClickException
        If there is no ledger, or the block raises an error of the library.
    """
    with complaints():
        path = _ledger_file(place.expanduser(), create)
        with closing(Ledger(path, create=create and not path.exists())) as ledger:
            yield ledger


def _ledger_file(place: Path, create: bool) -> Path:
    if place.is_dir():
        if not (place / "ledger.db").is_file():
            raise FedUnlearnError(f"{place}: holds no ledger.db; the folder of a run or a ledger's file was expected")
        return place / "ledger.db"
    if place.exists():
        return place
    if not create:
        raise FedUnlearnError(f"{place}: does not exist; the folder of a run or a ledger's file was expected")
    if place.suffix != ".db" or not place.absolute().parent.is_dir():
        raise FedUnlearnError(
            f"{place}: does not exist; a new ledger is made only where the name ends in .db and the folder exists"
        )
    return place
