"""The commands that look at a ledger and write requests into it, beside a running server or without one."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.simulations.cli.ledger_orders import RequestOrder, complaints, opened_ledger

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


class _Goal(StrEnum):
    MISCLASSIFY = "misclassify"
    RELABEL = "relabel"
    INDISTINGUISHABLE = "indistinguishable"


def add_commands(app: typer.Typer) -> None:
    """Add ``request``, ``ledger`` and ``approve`` to the command line."""
    app.add_typer(request, name="request")
    app.add_typer(ledger, name="ledger")
    app.command()(approve)


@request.command()
def add(
    place: _Ledger,
    classes: Annotated[
        list[int] | None, typer.Option("--class", min=0, help="Forget a class everywhere; may be repeated.")
    ] = None,
    client: Annotated[
        str | None, typer.Option(help="Forget samples of this client, or, where none are asked for, all of it.")
    ] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="So many samples, which the client draws.")] = None,
    of_class: Annotated[int | None, typer.Option(min=0, help="With --samples: of this class alone.")] = None,
    sample_ids: Annotated[
        list[str] | None, typer.Option("--sample-id", metavar="ID", help="A sample by its id; may be repeated.")
    ] = None,
    method: Annotated[str | None, typer.Option(help="In place of the server's for the scope.")] = None,
    parameters: Annotated[
        list[str] | None,
        typer.Option("--parameter", metavar="NAME=VALUE", help="Of the method; may be repeated."),
    ] = None,
    goal: Annotated[_Goal | None, typer.Option(help="Of a sample request.")] = None,
    request_id: Annotated[
        str | None,
        typer.Option(
            "--id", metavar="ID", help="Put twice under one id, a request is one; numbered where none is given."
        ),
    ] = None,
    priority: Annotated[int, typer.Option(help="Higher ones are served first.")] = 0,
    deadline: Annotated[
        str | None, typer.Option(metavar="ISO-8601", help="When it should be served; earlier ones go first.")
    ] = None,
) -> None:
    """Write a request down and print its id; a server that uses the ledger serves it between its rounds."""
    order = RequestOrder(
        classes=classes or (),
        client=client,
        samples=samples,
        of_class=of_class,
        sample_ids=sample_ids or (),
        method=method,
        parameters=parameters or (),
        goal=None if goal is None else goal.value,
        id=request_id,
        priority=priority,
        deadline=deadline,
    )
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
