"""The commands that read a ledger and write requests into it. A server may use the ledger meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated

import typer

from fed_unlearn.class_names import UNNAMED_CLASSES, ClassNames
from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.ledger import Ledger
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.simulations.cli.orders.options import with_options
from fed_unlearn.simulations.cli.orders.request_order import RequestOrder
from fed_unlearn.text import printable

MOST_SHOWN = 2000
"""Greatest length of a text that a command shows, in characters."""

BROKEN = 1
"""The exit code of ``ledger verify`` if the ledger was changed since it was written."""

_UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)
"""Errors of whoever reads rows that hold anything."""

request = typer.Typer(
    help="Put forget requests into a ledger, look at them, withdraw them. LEDGER is a run folder or a ledger's file.",
    no_args_is_help=True,
)
ledger = typer.Typer(
    help="Look at a ledger, and check that nobody changed it. LEDGER is a run folder or a ledger's file.",
    no_args_is_help=True,
)

LedgerPlace = Annotated[Path, typer.Argument(metavar="LEDGER", help="A run folder, or a ledger's file.")]
"""Where a command finds its ledger."""

_Id = Annotated[str, typer.Argument(metavar="ID", help="Of the request.")]
_Key = Annotated[
    Path | None,
    typer.Option(
        "--ledger-key",
        "--key",
        metavar="FILE",
        help="The file of the ledger's key; without it, the one beside it: ledger.key for ledger.db.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]
"""Whether a command prints JSON."""


def add_commands(app: typer.Typer) -> None:
    """Add ``request``, ``ledger`` and ``approve`` to the command line."""
    app.add_typer(request, name="request")
    app.add_typer(ledger, name="ledger")
    app.command()(approve)


@request.command()
@with_options
def add(place: LedgerPlace, order: RequestOrder, key: _Key = None) -> None:
    """Write a request down and print its id; a server that uses the ledger serves it between its rounds."""
    asked = order.request(_class_names(place, key))
    with opened_ledger(place, key, create=True) as opened:
        print(opened.receive(asked))


@request.command("list")
def list_requests(
    place: LedgerPlace,
    status: Annotated[Status | None, typer.Option(help="Only requests that stand there.")] = None,
    key: _Key = None,
    as_json: AsJson = False,
) -> None:
    """List the requests of a ledger, in the order in which they came."""
    from fed_unlearn.simulations.report import ledger_tables

    with opened_ledger(place, key) as opened:
        names = opened.class_names()
        entries = [entry for entry in opened.entries() if status is None or entry.status is status]
        if as_json:
            ledger_tables.print_json([ledger_tables.entry_json(entry, names) for entry in entries])
        else:
            ledger_tables.print_entries(entries, names)


@request.command()
def show(place: LedgerPlace, request_id: _Id, key: _Key = None, as_json: AsJson = False) -> None:
    """Show a request in full, with everything that happened to it."""
    from fed_unlearn.simulations.report import ledger_tables

    with opened_ledger(place, key) as opened:
        entry, events, names = opened.entry(request_id), opened.events(request_id), opened.class_names()
        if as_json:
            body = ledger_tables.entry_json(entry, names)
            ledger_tables.print_json({**body, "events": [ledger_tables.event_json(event) for event in events]})
        else:
            ledger_tables.print_entry(entry, events, names)


@request.command()
def withdraw(place: LedgerPlace, request_id: _Id, key: _Key = None) -> None:
    """Withdraw a request that no server is working on."""
    with opened_ledger(place, key) as opened:
        opened.withdraw(request_id)
    print(f"{printable(request_id)}: withdrawn")


def approve(place: LedgerPlace, request_id: _Id, key: _Key = None) -> None:
    """Approve a request that is held because of its size, or will be, in a run folder or a ledger's file."""
    with opened_ledger(place, key) as opened:
        opened.approve(request_id)
    print(f"{printable(request_id)}: approved")


@ledger.command("show")
def show_ledger(place: LedgerPlace, key: _Key = None, as_json: AsJson = False) -> None:
    """Show the model that serves, how requests and clients stand, and everything that happened."""
    from fed_unlearn.simulations.report import ledger_tables

    with opened_ledger(place, key) as opened:
        summary = ledger_tables.ledger_summary(opened)
        events = opened.events()
        if as_json:
            ledger_tables.print_json({**summary, "events": [ledger_tables.event_json(event) for event in events]})
        else:
            ledger_tables.print_ledger(summary, events, opened.class_names())


@ledger.command()
def verify(
    place: LedgerPlace,
    head: Annotated[
        str | None,
        typer.Option(metavar="DIGEST", help="A head that an earlier run printed; it must be part of the chain."),
    ] = None,
    key: _Key = None,
) -> int:
    """Check that nothing was changed since it was written, and say what was; exit code 1 where something was.

    Whatever is edited without the ledger's key is found. The head of an earlier run, kept elsewhere, also shows edits
    by those who have the key, and an older copy of the whole ledger.
    """
    with opened_ledger(place, key) as opened:
        verification = opened.verify(head)
    for problem in verification.problems:
        print(f"broken: {printable(problem, MOST_SHOWN)}")
    if verification.problem is not None:
        return BROKEN
    known = "" if head is None else ", and the given head is one of them"
    print(f"intact: {verification.events} events{known}, the last one sealed as {verification.head}")
    return 0


@ledger.command()
def backup(
    place: LedgerPlace,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The new file.")],
    key: _Key = None,
) -> None:
    """Copy a ledger into a new file, also while a server uses it.

    Copying ledger.db alone is no backup: the newest events stand in ledger.db-wal, which is part of the ledger. The key
    is not in the copy: keep ledger.key too, at another place.
    """
    with opened_ledger(place, key) as opened:
        written, key_file = opened.backup(file.expanduser()), opened.key_file
        events, digest = opened.head()
    places = [printable(str(path), MOST_SHOWN) for path in (written, key_file)]
    print(f"{places[0]}: {events} events, head {digest}; its key is {places[1]}")


def _class_names(place: Path, key: Path | None) -> ClassNames:
    """The names of the classes that a ledger knows; none where it is not there yet."""
    if not ledger_file(place.expanduser(), create=True).exists():
        return UNNAMED_CLASSES
    with opened_ledger(place, key) as opened:
        return opened.class_names()


@contextmanager
def opened_ledger(place: Path, key: Path | None = None, *, create: bool = False) -> Iterator[Ledger]:
    """Open a ledger. The ``with`` block closes it.

    Parameters
    ----------
    place : Path
        A run folder, or the ledger's file.
    key : Path, optional
        The file of its key, if it is not beside the ledger.
    create : bool
        Whether to make a file that does not exist. Its name must end in ``.db``, and its folder must exist.

    Raises
    ------
    FedUnlearnError
        If there is no ledger. If the block cannot read what is in it, and ``ledger verify`` finds it changed.
    """
    path = ledger_file(place.expanduser(), create)
    key_file = None if key is None else key.expanduser()
    with closing(Ledger(path, create=create and not path.exists(), key=key_file)) as ledger:
        try:
            yield ledger
        except _UNREADABLE as error:
            if isinstance(error, FedUnlearnError) or (problem := ledger.verify().problem) is None:
                raise
            raise FedUnlearnError(
                f"{path}: the ledger was changed since it was written, and cannot be read: {problem}; restore it"
            ) from error


def ledger_file(place: Path, create: bool = False) -> Path:
    """The file of a ledger that is given by it, or by its run folder; see :func:`opened_ledger`."""
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
