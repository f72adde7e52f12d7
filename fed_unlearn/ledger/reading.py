"""A ledger's file, opened to be read alone: without its key, and without a change to the file or its folder."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from fed_unlearn.errors import FedUnlearnError, StorageError
from fed_unlearn.ledger.schema import SCHEMA_VERSION
from fed_unlearn.text import printable

_WAIT_SECONDS = 10.0


@contextmanager
def opened_to_read(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a ledger's file to read it in one state, whatever a server writes meanwhile.

    The file stays as it is, and so does its folder where no other process has the ledger open.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    FedUnlearnError
        If the file is no ledger of this version, or cannot be read.
    """
    if not path.is_file():
        what = "not a file" if path.exists() else "does not exist"
        raise FedUnlearnError(f"{path}: {what}; the file of a ledger was expected")
    # With nothing in the write-ahead log the file is whole. SQLite is told so, and makes no files beside it.
    log = path.with_name(f"{path.name}-wal")
    is_in_use = log.exists() and log.stat().st_size > 0
    mode = "mode=ro" if is_in_use else "mode=ro&immutable=1"
    try:
        as_it_was = _times(path)
        with closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True, isolation_level=None, timeout=_WAIT_SECONDS)
        ) as connection:
            connection.execute("PRAGMA trusted_schema=OFF")
            connection.execute("BEGIN")
            _check_version(connection, path)
            page = int(connection.execute("PRAGMA page_size").fetchone()[0])
            if not is_in_use and as_it_was[1] % page:  # SQLite takes what is missing of the last page for zeros
                raise StorageError(f"{path}: the ledger cannot be read: its end was cut off; restore it")
            yield connection
        if not is_in_use and _times(path) != as_it_was:
            raise StorageError(f"{path}: the ledger was written while it was read; try again")
    except (sqlite3.Error, UnicodeError) as error:
        what = printable(without_content(error))
        raise StorageError(f"{path}: the ledger cannot be read: {what}; give the file of a ledger") from error


def damage_of(connection: sqlite3.Connection) -> str | None:
    """What is wrong with the pages of a ledger's file, such as those that are missing; None if nothing is.

    Pages that are cut off would not be missed otherwise where what is looked for stands in others.
    """
    (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    return None if found == "ok" else " ".join(str(found).split())


def without_content(error: Exception) -> str:
    """The text of an error of SQLite without what stands in the file."""
    return str(error).partition(" with text ")[0]


def _times(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size


def _check_version(connection: sqlite3.Connection, path: Path) -> None:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    tables = {str(row[0]) for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not {"requests", "events", "models", "meta"} <= tables:
        raise FedUnlearnError(f"{path}: not a ledger; give the file of a ledger")
    if version > SCHEMA_VERSION:
        raise FedUnlearnError(
            f"{path}: a ledger of version {version}; this library reads versions up to {SCHEMA_VERSION}; update"
            " fed-unlearn"
        )
    if version < SCHEMA_VERSION:
        raise FedUnlearnError(
            f"{path}: a ledger of version {version}; receipts are of version {SCHEMA_VERSION}: let its owner open it"
            " once with this library"
        )
