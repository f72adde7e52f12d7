"""``fed-unlearn forget``: the command of the data's owner, at the client's own node. Ids of samples do not leave it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

import typer

from fed_unlearn.errors import FedUnlearnError, InvalidRequestError
from fed_unlearn.simulations.cli.nodes.owner_receipt import hand_over
from fed_unlearn.simulations.cli.orders.options import with_options
from fed_unlearn.text import printable, quoted

_STORE = "state.json"
_MOST_IDS = 1_000_000
_LONGEST_ID = 4096
_LONGEST_NOTE = 2000


@with_options
def forget(
    client_dir: Annotated[
        Path, typer.Option(metavar="DIR", help="The client's store folder: client-dir of its node's configuration.")
    ],
    samples: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Forget these samples: a file with one id on each line; - for standard input."
        ),
    ] = None,
    of_class: Annotated[
        str | None,
        typer.Option(
            "--class",
            metavar="LABEL",
            help="Forget this client's samples of a class, by its label or name; other clients keep theirs.",
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Forget all that this client ever contributed; it leaves for good.")
    ] = False,
    withdraw: Annotated[
        str | None, typer.Option(metavar="ID", help="Withdraw a request, if it is not being served yet.")
    ] = None,
    status: Annotated[bool, typer.Option("--status", help="Show what became of each request.")] = False,
    receipt: Annotated[
        str | None, typer.Option(metavar="ID", help="Print the signed receipt of a request that has ended.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="With --receipt: write it here; as a page to read if the name ends in .html."
        ),
    ] = None,
    goal: Annotated[
        Literal["misclassify", "relabel", "indistinguishable"] | None,
        typer.Option(help="What is wanted of the samples."),
    ] = None,
    deadline: Annotated[
        str | None, typer.Option(metavar="ISO-8601", help="When it should be served; earlier ones go first.")
    ] = None,
    note: Annotated[str, typer.Option(metavar="TEXT", help="Words of your own; they stay at the node.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="With --status: print JSON instead.")] = False,
) -> None:
    """Ask, as the owner of a client's data, that the federation forgets some of it; run it where the node runs.

    The request is on disk when its id is printed. The server hears of it with the node's next reply: of its kind and of
    how many samples there are. Their ids stay at the node. From the node's next message on they are in no training;
    after --all the node takes part in none.
    """
    folder = _store_folder(client_dir.expanduser())
    asks = [samples is not None, of_class is not None, everything]
    if sum([*asks, withdraw is not None, status, receipt is not None]) != 1:
        raise InvalidRequestError("expected one of --samples, --class, --all, --withdraw, --status and --receipt")
    if not any(asks) and (goal is not None or deadline is not None or note):
        raise InvalidRequestError("--goal, --deadline and --note belong to a new request; leave them out")
    if as_json and not status:
        raise InvalidRequestError("--json belongs to --status; leave it out")
    if out is not None and receipt is None:
        raise InvalidRequestError("--out belongs to --receipt; leave it out")
    if status:
        _show(folder, as_json=as_json)
    elif withdraw is not None:
        _withdraw(folder, withdraw)
    elif receipt is not None:
        hand_over(folder, receipt, out)
    else:
        print(_queue(folder, samples, of_class, goal, deadline, note))


def _queue(
    folder: Path,
    samples: Path | None,
    of_class: str | None,
    goal: Literal["misclassify", "relabel", "indistinguishable"] | None,
    deadline: str | None,
    note: str,
) -> str:
    """Queue a request, and return its id."""
    from fed_unlearn.owner import OwnerQueue, new_request
    from fed_unlearn.simulations.cli.orders.request_order import parse_deadline

    if len(note) > _LONGEST_NOTE:
        raise InvalidRequestError(f"--note has {len(note)} characters; at most {_LONGEST_NOTE} are kept")
    note = printable(note, _LONGEST_NOTE)
    until = None if deadline is None else parse_deadline(deadline)
    queue = OwnerQueue(folder)
    if samples is not None:
        return queue.add(new_request("samples", read_ids(samples), goal=goal, deadline=until, note=note))
    if of_class is not None:
        index = _class_index(folder, of_class)
        return queue.add(new_request("class", of_class=index, label=of_class, goal=goal, deadline=until, note=note))
    if goal is not None:
        raise InvalidRequestError(f"--goal {goal} is of samples; --all forgets the whole client, leave it out")
    return queue.add(new_request("all", deadline=until, note=note))


def _class_index(folder: Path, label: str) -> int:
    """The index of a class by the names that the node has kept; it finds the class anew by its data."""
    from fed_unlearn.owner import LAST_CLASS, kept_class_names

    try:
        index = kept_class_names(folder).index(label)
    except InvalidRequestError as error:
        raise InvalidRequestError(f"--class: {error}") from None
    if index > LAST_CLASS:
        raise InvalidRequestError(f"--class: {quoted(label)} was given; expected an index of at most {LAST_CLASS}")
    return index


def _withdraw(folder: Path, request_id: str) -> None:
    from fed_unlearn.owner import OwnerQueue

    request = OwnerQueue(folder).withdraw(request_id)
    print(f"{request.id}: {'withdrawn' if request.is_over else 'the server is told with the next reply'}")


def _show(folder: Path, *, as_json: bool) -> None:
    from fed_unlearn.owner import KeptReceipts, OwnerQueue
    from fed_unlearn.simulations.report import owner_tables

    requests, receipts = OwnerQueue(folder).requests(), KeptReceipts(folder)
    if as_json:
        owner_tables.print_json(requests, receipts)
    else:
        owner_tables.print_requests(requests, receipts)


def _store_folder(folder: Path) -> Path:
    try:
        is_folder, holds_store = folder.is_dir(), (folder / _STORE).is_file()
    except OSError as error:
        raise FedUnlearnError(f"{folder}: cannot be read: {error.strerror}; run it under the node's account") from None
    if not is_folder:
        raise FedUnlearnError(f"{folder}: is no folder; expected the client's store folder, client-dir of its node")
    if not holds_store:
        raise FedUnlearnError(
            f"{folder}: holds no client's store; expected client-dir of a node that has answered a server at least once"
        )
    return folder


def read_ids(file: Path) -> list[str]:
    """Read the ids of samples, one on each line. Empty lines are left out. Errors name lines, and no id.

    Raises
    ------
    InvalidRequestError
        If there is no id, or one is too long, stands there twice or holds what cannot be printed.
    FedUnlearnError
        If the file cannot be read.
    """
    lines: dict[str, int] = {}
    for number, line in enumerate(_lines(file), start=1):
        if not line:
            continue
        if len(line) > _LONGEST_ID or not line.isprintable():
            raise InvalidRequestError(
                f"line {number}: expected an id of at most {_LONGEST_ID} printable characters; nothing was queued"
            )
        if line in lines:
            raise InvalidRequestError(f"line {number} repeats line {lines[line]}; expected each id once")
        if len(lines) >= _MOST_IDS:
            raise InvalidRequestError(f"line {number}: more than {_MOST_IDS} ids; expected fewer, or --class, or --all")
        lines[line] = number
    if not lines:
        raise InvalidRequestError("no id was given; expected one on each line")
    return list(lines)


def _opened(file: Path) -> AbstractContextManager[BinaryIO]:
    if str(file) != "-":
        return file.expanduser().open("rb")
    if sys.stdin is None:
        raise FedUnlearnError("standard input is closed; give a file, or open it")
    return nullcontext(sys.stdin.buffer)


def _lines(file: Path) -> Iterator[str]:
    """The lines of a file or of standard input, read one by one: a device that never ends is cut off."""
    name = "standard input" if str(file) == "-" else quoted(str(file))
    try:
        with _opened(file) as stream:
            while line := stream.readline(4 * _LONGEST_ID + 2):
                yield line.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise InvalidRequestError(f"{printable(name)} is not UTF-8; expected one id on each line") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "a path that no file can have"
        raise FedUnlearnError(f"{printable(name)} cannot be read: {reason}; expected one id on each line") from None
