"""The commands that issue receipts, show them, and check them against a public key and a ledger."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fed_unlearn.errors import FedUnlearnError, InvalidRequestError
from fed_unlearn.simulations.cli.ledger import MOST_SHOWN, AsJson, LedgerPlace, ledger_file, opened_ledger
from fed_unlearn.simulations.cli.orders.codes import COMMITTED
from fed_unlearn.simulations.cli.orders.options import LedgerKey
from fed_unlearn.text import printable, quoted

if TYPE_CHECKING:
    from fed_unlearn.ledger import Ledger
    from fed_unlearn.receipts import LedgerCheck, Receipt
    from fed_unlearn.receipts.keys import Ed25519PrivateKey

REFUSED = 1
"""The exit code of ``receipt verify`` and ``receipt show`` if the file is no receipt, or is not as it was signed."""

receipt = typer.Typer(
    help="Issue signed receipts of requests that ended, show them, and check them.", no_args_is_help=True
)

_File = Annotated[Path, typer.Argument(metavar="FILE", help="A receipt's file.")]


@receipt.command()
def show(
    file: _File,
    page: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the receipt as a page of HTML too; it must not exist.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Show what a receipt says. Its signature is not checked."""
    from fed_unlearn.receipts import RefusedReceiptError, read_receipt, receipt_page

    content = _content(file)
    try:
        signed = read_receipt(content)
    except RefusedReceiptError as error:
        return _refused(file, error)
    if page is not None:
        _write_new(page.expanduser(), receipt_page(signed).encode())
    if as_json:
        print(signed.receipt.model_dump_json(indent=2))
    else:
        _print(signed.receipt)
        print(f"signed by the key {signed.signature.key}; this was not checked: fed-unlearn receipt verify")
    return COMMITTED


@receipt.command()
def verify(
    file: _File,
    key: Annotated[
        Path, typer.Option(metavar="PUB", help="The public key of whoever issued it, in PEM; it comes from them.")
    ],
    ledger: Annotated[
        Path | None, typer.Option(metavar="LEDGER", help="A ledger's file, or its run folder, to compare it with.")
    ] = None,
    ledger_key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The file of the ledger's key, which shows edits of the ledger too."),
    ] = None,
) -> int:
    """Check that a receipt is as it was signed, and what a ledger says of it; exit code 1 where it is refused.

    The receipt and the public key are enough. With a ledger, its place in the chain of events and all that the ledger
    says of the request are compared. The ledger is only read, and a server may use it meanwhile.
    """
    from fed_unlearn.receipts import RefusedReceiptError, check_in_ledger, read_public_key
    from fed_unlearn.receipts import verify as verified

    if ledger is None and ledger_key is not None:
        raise FedUnlearnError("--ledger-key was given without --ledger; name the ledger too")
    public_key, content = read_public_key(key.expanduser()), _content(file)
    place = None if ledger is None else ledger_file(ledger.expanduser())
    try:
        signed = verified(content, public_key)
    except RefusedReceiptError as error:
        return _refused(file, error)
    said = signed.receipt
    secret = None if ledger_key is None else ledger_key.expanduser()
    check = None if place is None else check_in_ledger(said, place, secret)
    shown = printable(said.request)
    print(f"signed: request {shown} is {said.status}, receipt {said.number}, by the key {signed.signature.key}")
    if check is None:
        print("not checked: its place in a ledger (--ledger)")
        return COMMITTED
    return _print_check(check)


@receipt.command("issue")
def issue_receipts(
    place: LedgerPlace,
    requests: Annotated[
        list[str] | None, typer.Argument(metavar="[REQUEST]...", help="Ids; without any, all requests that ended.")
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(
            metavar="PRIVATE",
            help="The file of the private key; without it, receipts.key beside the ledger. It is made, and told of, if"
            " it is missing, and its public key beside it; its folder must exist.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where to; without it, the folder receipts beside the ledger.")
    ] = None,
    ledger_key: LedgerKey = None,
) -> None:
    """Issue receipts, each with a page of HTML, of requests that ended; also of those that ended long ago.

    A receipt that is in the folder already stays as it is.
    """
    from fed_unlearn.receipts import default_receipt_key
    from fed_unlearn.receipts.folder import write_missing
    from fed_unlearn.receipts.keys import fingerprint

    with opened_ledger(place, ledger_key) as ledger:
        wanted = _wanted(ledger, requests or [])
        if not wanted:
            print(f"no request has ended in {printable(str(ledger.path), MOST_SHOWN)}: nothing was issued")
            return
        folder = ledger.path.parent / "receipts" if out is None else out.expanduser()
        signer = _signer(default_receipt_key(ledger.path) if key is None else key.expanduser())
        for written in write_missing(ledger, wanted, signer, folder):
            name = printable(str(written.path), MOST_SHOWN)
            print(f"{printable(written.request_id)}: {name}{'' if written.is_new else ' (was there)'}")
        print(f"new ones are signed by the key {fingerprint(signer.public_key())}")


def _signer(path: Path) -> Ed25519PrivateKey:
    """The key of a file; a new one is made only in a folder that is there, and told of."""
    from fed_unlearn.receipts import signing_key

    if not path.absolute().parent.is_dir():
        raise FedUnlearnError(
            f"{path}: there is no folder {path.absolute().parent}; name the file of a private key, or make the folder"
            " for a new one first"
        )
    is_new = not path.exists()
    signer = signing_key(path)
    if is_new:
        print(f"a new key was made: {printable(str(path), MOST_SHOWN)}")
    return signer


def _wanted(ledger: Ledger, requests: list[str]) -> list[str]:
    """The requests whose receipts are to be issued. Those that were named must have ended."""
    for request_id in requests:
        if not ledger.endings(request_id):
            status = ledger.entry(request_id).status
            raise InvalidRequestError(
                f"request {quoted(request_id)} is {status}; expected one that has ended: there is no receipt yet"
            )
    return requests or [entry.id for entry in ledger.entries() if ledger.endings(entry.id)]


def _content(file: Path) -> bytes:
    """What a file holds, as far as a receipt can be."""
    from fed_unlearn.receipts.files import file_content

    return file_content(file.expanduser())


def _refused(file: Path, error: FedUnlearnError) -> int:
    print(f"refused: {printable(str(file), MOST_SHOWN)}: {printable(str(error), MOST_SHOWN)}")
    return REFUSED


def _write_new(path: Path, content: bytes) -> None:
    from fed_unlearn.checkpoints import write_atomically

    if path.exists():
        raise FedUnlearnError(f"{path}: exists already; expected the name of a new file")
    if not path.absolute().parent.is_dir():
        raise FedUnlearnError(f"{path}: there is no folder {path.absolute().parent}; make it first")
    write_atomically(path, content)


def _print(said: Receipt) -> None:
    from fed_unlearn.receipts import wording

    print(f"request {printable(said.request)}: {said.status}. {wording.HEADINGS[said.status]}")
    lines = {
        "asked": f"{said.asked}, that the model {wording.what_was_asked(said)}",
        "ended": f"{said.ended}, after {said.attempts} attempt{'' if said.attempts == 1 else 's'}",
        "method": said.method,
        "outcome": wording.what_was_done(said),
        "note" if said.status == "committed" else "why": wording.why(said),
        "known": wording.how_it_is_known(said),
        "model before": said.models.before,
        "model after": said.models.after,
        "ledger": f"{said.ledger}, events {said.positions.received.sequence} to {said.positions.ended.sequence}",
        "receipt": f"number {said.number}, issued {said.issued}",
    }
    for name, value in lines.items():
        if value:
            print(f"  {name + ':':14} {printable(value, MOST_SHOWN)}")
    rows = [(row.title, row.before, row.after, row.explanation) for row in wording.rows_of(said)]
    when = "after" if said.status == "committed" else "in the last try"
    for name, before, after, meaning in (*rows, *wording.other_figures(said)):
        print(f"  {name}: {before or 'not measured'} before, {after or 'not measured'} {when}")
        if meaning:
            print(f"    {meaning}".replace("\u00a0", " "))


def _print_check(check: LedgerCheck) -> int:
    for problem in check.problems:
        print(f"refused: {printable(problem, MOST_SHOWN)}")
    if check.fits:
        for checked in check.checked:
            print(f"as in the ledger: {checked}")
    for unchecked in check.unchecked:
        print(f"not checked: {unchecked}")
    for event in check.since:
        print(f"since then: {printable(event)}")
    return COMMITTED if check.fits else REFUSED
