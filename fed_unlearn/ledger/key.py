"""The ledger's key: a file of its own that only its owner can read."""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from fed_unlearn.checkpoints import make_private_file, write_atomically
from fed_unlearn.errors import FedUnlearnError

_MOST_BYTES = 64 * 1024
_HEXADECIMAL = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class LedgerKey:
    """What a ledger is sealed with.

    Attributes
    ----------
    key : str
        Key of all seals, 64 hexadecimal digits.
    references : str
        Key of the references of clients, 64 hexadecimal digits.
    is_pending : bool
        Whether no ledger has been written under the key yet. It is true while a ledger is made or migrated.
    """

    key: str
    references: str
    is_pending: bool = False

    @property
    def raw(self) -> bytes:
        """The key of all seals as bytes."""
        return bytes.fromhex(self.key)


def default_key_file(ledger: Path) -> Path:
    """The key file of a ledger whose operator names none: ``ledger.key`` beside ``ledger.db``."""
    return ledger.with_name(f"{ledger.name}.key") if ledger.suffix in ("", ".key") else ledger.with_suffix(".key")


def read_key(path: Path) -> LedgerKey:
    """Read a key file.

    Raises
    ------
    FedUnlearnError
        If the file cannot be read, or is not a key file.
    """
    try:
        with path.open("rb") as file:  # devices never end
            key = LedgerKey(**json.loads(file.read(_MOST_BYTES)))
    except FileNotFoundError as error:
        raise FedUnlearnError(
            f"{path}: the ledger's key is missing; restore it, or name the file in which it is kept"
        ) from error
    except OSError as error:
        raise FedUnlearnError(f"{path}: the ledger's key cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise _not_a_key(path) from error
    texts = (key.key, key.references)
    if not all(isinstance(text, str) and _HEXADECIMAL.fullmatch(text) for text in texts):
        raise _not_a_key(path)
    return key


def new_key(path: Path, references: str | None = None) -> LedgerKey:
    """Write a new key, marked as pending. It is on disk when this returns.

    Parameters
    ----------
    path : Path
        The file, which does not exist.
    references : str, optional
        Key of the references that the ledger has already.

    Raises
    ------
    FedUnlearnError
        If the file cannot be written.
    """
    key = LedgerKey(secrets.token_hex(32), references or secrets.token_hex(32), is_pending=True)
    _write(path, key)
    return key


def check_place(path: Path) -> None:
    """Raise if a key file is not there and cannot be written, before anything else is made.

    Raises
    ------
    FedUnlearnError
        If the folder is missing or cannot be written to, or a folder has the file's name.
    """
    try:
        if path.is_file():
            return
        if path.exists():
            raise _not_a_key(path)
        trial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        make_private_file(trial)
        trial.unlink()
    except (OSError, ValueError) as error:
        raise _unwritable(path, error) from error


def confirm_key(path: Path, key: LedgerKey) -> LedgerKey:
    """Take the mark away that a key is pending, now that a ledger is sealed with it."""
    if not key.is_pending:
        return key
    confirmed = replace(key, is_pending=False)
    _write(path, confirmed)
    return confirmed


def _write(path: Path, key: LedgerKey) -> None:
    try:
        write_atomically(path, json.dumps(asdict(key)).encode())
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError | ValueError) -> FedUnlearnError:
    what = error.strerror if isinstance(error, OSError) else error
    return FedUnlearnError(f"{path}: the ledger's key cannot be written: {what}; name a file in a folder that is there")


def _not_a_key(path: Path) -> FedUnlearnError:
    return FedUnlearnError(f"{path}: not a ledger's key; restore it, or name the file in which it is kept")
