"""The commands about clients: which key an id is bound to."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

import typer

from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.simulations.cli.ledger import opened_ledger
from fed_unlearn.simulations.cli.orders.options import LedgerKey
from fed_unlearn.text import printable, quoted

client = typer.Typer(
    help="Say which key a client's id belongs to. LEDGER is a run folder or a ledger's file.", no_args_is_help=True
)

_MOST_BYTES = 64 * 1024


@client.callback()
def clients() -> None:
    """Keep ``rebind`` a command of its own."""


@client.command()
def rebind(
    place: Annotated[Path, typer.Argument(metavar="LEDGER", help="A run folder, or a ledger's file.")],
    name: Annotated[str, typer.Argument(metavar="CLIENT", help="The client's id.")],
    key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Its new public key; without it, the next key that shows the id is taken."),
    ] = None,
    ledger_key: LedgerKey = None,
) -> None:
    """Bind a client's id to another key: its machine has changed, and its store moved with it."""
    digest = None if key is None else key_digest(key.expanduser())
    with opened_ledger(place, ledger_key) as opened:
        opened.rebind_client(name, digest)
    bound = "the next key that shows it" if digest is None else f"the key {digest[:12]}"
    print(f"{printable(name)}: bound to {bound}")


def key_digest(path: Path) -> str:
    """SHA-256 of a SuperNode's public key, in hexadecimal, as a server sees the key.

    Parameters
    ----------
    path : Path
        The file that was given to ``flwr supernode register``, or the same key as PEM.

    Raises
    ------
    FedUnlearnError
        If the file cannot be read, or holds no public key.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES)
    except OSError as error:
        raise FedUnlearnError(
            f"{quoted(str(path))} cannot be read: {error.strerror}; give a public key's file"
        ) from error
    for load in (serialization.load_ssh_public_key, serialization.load_pem_public_key):
        try:
            public = load(text)
        except (ValueError, UnsupportedAlgorithm):
            continue
        pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        return hashlib.sha256(pem).hexdigest()
    raise FedUnlearnError(
        f"{quoted(str(path))} holds no public key; expected the file that was given to flwr supernode register"
    )
