"""Seals of rows: a keyed code for every column of every table, kept up to date by each transaction.

The codes of a row's columns stand in table ``seals`` and tell which column was edited. Their sums over each table stand
in table ``meta``, sealed together with the head of the events: no row can be edited, removed, added, exchanged or put
back without the key. A transaction seals only the rows that it changes. It adds to a sum the difference of a row after
and before it, so that an edit that somebody made outside stays visible even if the ledger writes the row later.
"""

from __future__ import annotations

import hmac
import json
import sqlite3
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from fed_unlearn.ledger.chain import canonical_json, read_head

CODE_BYTES = 16
_MODULUS = 1 << 256
_UNSEALED_NAMES = "('head', 'seal')"

Sums = dict[str, int]


@dataclass(frozen=True)
class SealedTable:
    """A table whose rows are sealed.

    Attributes
    ----------
    name : str
        Name of the table.
    columns : tuple of str
        Columns of the table, in order.
    key : tuple of str
        The columns that identify a row.
    """

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]

    def label(self, row: str = "") -> str:
        """SQL text that identifies a row: its key in hexadecimal digits. ``row`` is ``"new."`` or ``"old."``."""
        return " || '.' || ".join(f"hex({row}{column})" for column in self.key)

    def seal(self, row: str = "") -> str:
        """SQL call that gives the codes of a row's columns."""
        values = ", ".join(
            f"typeof({row}{column}), CASE typeof({row}{column}) WHEN 'text' THEN CAST({row}{column} AS BLOB)"
            f" ELSE {row}{column} END"
            for column in self.columns
        )
        return f"row_seal('{self.name}', {self.label(row)}, {values})"

    def condition(self, row: str = "") -> str:
        """SQL condition of the rows that are sealed. The head and the seal of all others are not."""
        return f"{row}name NOT IN {_UNSEALED_NAMES}" if self.name == "meta" else "1"


SEALED_TABLES = (
    SealedTable(
        "requests",
        (
            *("sequence", "id", "body", "received", "status", "attempt", "reason", "priority", "deadline", "approved"),
            *("ever_committed", "release_due", "method", "outcome"),
        ),
        ("sequence",),
    ),
    SealedTable("models", ("sequence", "time", "digest", "accepted_after"), ("sequence",)),
    SealedTable("clients", ("id", "tombstones", "departed", "key", "claims"), ("id",)),
    SealedTable("owed", ("request_id", "client"), ("request_id", "client")),
    SealedTable("state", ("name", "body"), ("name",)),
    SealedTable("meta", ("name", "value"), ("name",)),
)
"""All tables but that of the events, which their chain covers, and that of the seals themselves."""


def watch_rows(connection: sqlite3.Connection, key: bytes) -> None:
    """Have this connection note the codes of every row before and after it changes it.

    The triggers are temporary: they belong to the connection, and nobody finds them in the file.
    """
    define_seal(connection, key)
    connection.execute("PRAGMA temp_store=MEMORY")
    connection.execute("PRAGMA recursive_triggers=ON")  # a row that is replaced counts as deleted
    connection.execute("CREATE TEMP TABLE changes (name TEXT, label TEXT, sign INTEGER, seal BLOB)")
    for table in SEALED_TABLES:
        before = f"INSERT INTO changes VALUES ('{table.name}', {table.label('old.')}, -1, {table.seal('old.')});"
        after = f"INSERT INTO changes VALUES ('{table.name}', {table.label('new.')}, 1, {table.seal('new.')});"
        for event, row, body in (
            ("INSERT", "new.", after),
            ("UPDATE", "new.", before + after),
            ("DELETE", "old.", before),
        ):
            connection.execute(
                f"CREATE TEMP TRIGGER {table.name}_{event} AFTER {event} ON main.{table.name}"
                f" WHEN {table.condition(row)} BEGIN {body} END"
            )


def define_seal(connection: sqlite3.Connection, key: bytes) -> None:
    """Define the SQL function ``row_seal(table, label, type, value, ...)``."""
    columns = {table.name: table.columns for table in SEALED_TABLES}

    def row_seal(name: str, label: str, *values: object) -> bytes:
        return b"".join(
            _code(key, name, label, column, str(kind), value)[:CODE_BYTES]
            for column, kind, value in zip(columns[name], values[::2], values[1::2], strict=True)
        )

    connection.create_function("row_seal", -1, row_seal, deterministic=True)


def _code(key: bytes, name: str, label: str, column: str, kind: str, value: object) -> bytes:
    match value:
        case bytes():
            content = value
        case float():
            content = struct.pack(">d", value)
        case _:
            content = str(value).encode()
    # None of the names holds a NUL, and a label consists of digits, so that no two rows give the same message.
    return hmac.digest(key, f"{name}\0{label}\0{column}\0{kind}\0".encode() + content, "sha256")


def row_number(key: bytes, name: str, label: str, seal: bytes) -> int:
    """What a row adds to the sum of its table: a number that depends on its table, its key and all its columns."""
    return int.from_bytes(_code(key, name, label, "", "row", seal), "big")


def table_codes(connection: sqlite3.Connection, table: SealedTable) -> dict[str, bytes]:
    """The codes of all rows of a table as they are now, by label."""
    rows = connection.execute(f"SELECT {table.label()}, {table.seal()} FROM {table.name} WHERE {table.condition()}")
    return dict(rows.fetchall())


def seal_everything(connection: sqlite3.Connection, key: bytes) -> None:
    """Seal all rows of a file that is new or was migrated, in the open transaction."""
    define_seal(connection, key)
    sums: Sums = {}
    for table in SEALED_TABLES:
        codes = table_codes(connection, table)
        connection.executemany(
            "INSERT INTO seals VALUES (?, ?, ?)", [(table.name, label, codes[label]) for label in codes]
        )
        sums[table.name] = sum(row_number(key, table.name, *item) for item in codes.items()) % _MODULUS
    connection.execute("INSERT INTO meta VALUES ('seal', ?)", (_sealed(key, read_head(connection), sums),))


def read_seal(connection: sqlite3.Connection, key: bytes) -> Sums:
    """The sum of every table's rows, read from table ``meta``.

    Raises
    ------
    sqlite3.IntegrityError
        If the sums and the head of the events are not those that were sealed under the key.
    """
    head = read_head(connection)
    row = connection.execute("SELECT value FROM meta WHERE name = 'seal'").fetchone()
    try:
        sums = {name: int(str(number), 16) for name, number in json.loads(row[0])["sums"].items()}
        intact = hmac.compare_digest(str(row[0]), _sealed(key, head, sums))
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError):
        intact = False
    if not intact or set(sums) != {table.name for table in SEALED_TABLES}:
        raise sqlite3.IntegrityError(
            "the seal in table meta does not fit its head, or was not made with this key: events were cut off, the"
            " table was edited, or the key is another ledger's"
        )
    return sums


def _sealed(key: bytes, head: tuple[int, str], sums: Mapping[str, int]) -> str:
    named = {name: f"{number:064x}" for name, number in sums.items()}
    code = hmac.digest(key, canonical_json(["seal", *head, named]).encode(), "sha256").hex()
    return canonical_json({"code": code, "sums": named})


def seal_changes(connection: sqlite3.Connection, key: bytes, head: tuple[int, str], sums: Sums) -> None:
    """Seal the rows that the open transaction has changed, and the head of the events if it has moved.

    Parameters
    ----------
    connection : sqlite3.Connection
        A connection that watches its rows.
    key : bytes
        The ledger's key.
    head : tuple of int and str
        Head of the events at the transaction's begin.
    sums : dict
        The sums at the transaction's begin.
    """
    changes = connection.execute("SELECT name, label, sign, seal FROM temp.changes ORDER BY rowid").fetchall()
    now = read_head(connection)
    if not changes and now == head:
        return
    sums, rows = dict(sums), dict[tuple[str, str], list[tuple[int, bytes]]]()
    for name, label, sign, seal in changes:
        sums[name] = (sums[name] + sign * row_number(key, name, label, seal)) % _MODULUS
        rows.setdefault((name, label), []).append((sign, seal))
    for row, steps in rows.items():
        _keep_codes(connection, row, steps)
    connection.execute("DELETE FROM temp.changes")
    connection.execute("UPDATE meta SET value = ? WHERE name = 'seal'", (_sealed(key, now, sums),))


def _keep_codes(connection: sqlite3.Connection, row: tuple[str, str], steps: list[tuple[int, bytes]]) -> None:
    """Write a row's codes. Those of columns that had been edited outside stay as they are, so that this is seen."""
    (first_sign, before), (last_sign, after) = steps[0], steps[-1]
    if last_sign < 0:
        connection.execute("DELETE FROM seals WHERE name = ? AND label = ?", row)
        return
    if first_sign < 0:
        found = connection.execute("SELECT codes FROM seals WHERE name = ? AND label = ?", row).fetchone()
        if found is None:
            return
        after = _merged(found[0], before, after)
    connection.execute(
        "INSERT INTO seals VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET codes = excluded.codes", (*row, after)
    )


def _merged(kept: object, before: bytes, after: bytes) -> bytes:
    if kept == before:
        return after
    if not isinstance(kept, bytes) or len(kept) != len(before):
        return b""
    return b"".join(
        new if old == now else old for old, now, new in zip(_split(kept), _split(before), _split(after), strict=True)
    )


def _split(codes: bytes) -> list[bytes]:
    return [codes[at : at + CODE_BYTES] for at in range(0, len(codes), CODE_BYTES)]


def sealed_problems(connection: sqlite3.Connection, key: bytes) -> Iterator[str]:
    """Say which rows and columns are not those that were sealed, and whether the seal itself fits."""
    sums: Sums | None = None
    try:
        sums = read_seal(connection, key)
    except sqlite3.IntegrityError as error:
        yield str(error)
    rows = connection.execute("SELECT name, label, codes FROM seals").fetchall()
    kept = {(name, label): codes for name, label, codes in rows}
    for table in SEALED_TABLES:
        now = table_codes(connection, table)
        total = sum(row_number(key, table.name, *item) for item in now.items()) % _MODULUS
        was = {label: kept.pop((table.name, label)) for name, label in list(kept) if name == table.name}
        differences = list(_differences(table, was, now))
        if sums is None or sums[table.name] != total:
            yield from differences
            if not differences and sums is not None:
                yield f"table {table.name} was edited: an older state of its rows was put back"
        elif differences:
            yield f"table seals was edited: its rows of table {table.name}"
    if kept:
        yield "table seals was edited: it has rows of unknown tables"


def fits_no_row(connection: sqlite3.Connection, key: bytes) -> bool:
    """Whether neither the seal of the head nor the code of any column of any row was made under a key."""
    with suppress(sqlite3.IntegrityError):
        read_seal(connection, key)
        return False
    rows = connection.execute("SELECT name, label, codes FROM seals").fetchall()
    kept = {(name, label): codes for name, label, codes in rows if isinstance(codes, bytes)}
    return not any(
        set(zip(table.columns, _split(kept.get((table.name, label), b"")), strict=False))
        & set(zip(table.columns, _split(codes), strict=True))
        for table in SEALED_TABLES
        for label, codes in table_codes(connection, table).items()
    )


def _differences(table: SealedTable, was: Mapping[str, object], now: Mapping[str, bytes]) -> Iterator[str]:
    for label in sorted(now.keys() | was.keys()):
        row = f"table {table.name} was edited: row {_readable(label)}"
        before, after = was.get(label), now.get(label)
        if after is None:
            yield f"{row} is missing"
        elif before is None:
            yield f"{row} was added"
        elif not isinstance(before, bytes) or len(before) != len(after):
            yield f"{row} is not the one that was sealed"
        elif before != after:
            pairs = zip(table.columns, _split(before), _split(after), strict=True)
            yield f"{row}: {', '.join(column for column, old, new in pairs if old != new)}"


def _readable(label: str) -> str:
    try:
        return ", ".join(bytes.fromhex(part).decode(errors="replace") for part in str(label).split("."))
    except ValueError:
        return str(label)
