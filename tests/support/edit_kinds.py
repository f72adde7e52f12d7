"""The edits of a ledger that the tests and the trial make."""

from __future__ import annotations

from ledger_edits import (
    TRIGGERS_OFF,
    Edit,
    bytes_of,
    cut,
    events,
    other_key,
    put_back,
    row_of_older,
    sql,
    then_served,
    written_anew,
)

_SWAP = (
    "UPDATE events SET sequence = -1 WHERE sequence = 12",
    "UPDATE events SET sequence = 12 WHERE sequence = 13",
    "UPDATE events SET sequence = 13 WHERE sequence = -1",
)
_NEW_ROW = (
    "INSERT INTO requests SELECT 99, 'r99', body, received, status, attempt, reason, priority, deadline, approved,"
    " ever_committed, release_due, method, outcome FROM requests WHERE id = 'r1'"
)

_EVENTS = [
    *(
        Edit(f"event: {column}", events(f"UPDATE events SET {column} = {value} WHERE sequence = 14"))
        for column, value in (
            ("facts", "'{}'"),
            ("time", "time - 86400"),
            ("name", "'rejected'"),
            ("attempt", "9"),
            ("request_id", "'r3'"),
        )
    ),
    Edit(
        "event: time as a whole number",
        events("UPDATE events SET time = CAST(time AS INTEGER) WHERE sequence = 14"),
    ),
    Edit("event removed from the middle", events("DELETE FROM events WHERE sequence = 14")),
    Edit("first event removed", events("DELETE FROM events WHERE sequence = 1")),
    Edit("all events removed", events("DELETE FROM events")),
    *(Edit(f"last {count} events removed", cut(count, with_head=False)) for count in (1, 20)),
    *(Edit(f"last {count} events removed with the head", cut(count, with_head=True)) for count in (1, 5, 20)),
    Edit("events exchanged", events(*_SWAP)),
    Edit("head removed", sql("DELETE FROM meta WHERE name = 'head'")),
    Edit("head of no events", sql(f"UPDATE meta SET value = '0 {'0' * 64}' WHERE name = 'head'")),
    Edit("identity changed", sql("UPDATE meta SET value = 'x' WHERE name = 'identity'")),
    Edit(
        "facts changed and the chain written anew",
        written_anew("UPDATE events SET facts = replace(facts, '0.0', '0.5') WHERE name = 'committing'"),
    ),
    Edit("times changed and the chain written anew", written_anew("UPDATE events SET time = time - 31536000")),
    Edit(
        "chain written anew and said to be of version 2",
        written_anew("UPDATE events SET time = 1.0", "INSERT INTO meta VALUES ('unkeyed', '99')"),
    ),
]

_REQUESTS = [
    *(
        Edit(f"request: {column}", sql(f"UPDATE requests SET {column} = {value} WHERE id = '{row}'"))
        for column, value, row in (
            ("status", "'failed'", "r3"),
            ("attempt", "7", "r3"),
            ("body", "replace(body, '3', '4')", "r1"),
            ("outcome", "replace(outcome, '0.01', '0.00')", "r1"),
            ("outcome", "NULL", "r1"),
            ("reason", "'forged'", "r2"),
            ("method", "'mask-output'", "r1"),
            ("received", "received - 31536000", "r3"),
            ("sequence", "100", "r1"),
            ("priority", "5", "r3"),
            ("deadline", "5", "r3"),
            ("approved", "1", "r3"),
            ("ever_committed", "0", "r1"),
            ("release_due", "1", "r3"),
            ("id", "'zz'", "r3"),
        )
    ),
    Edit("request removed", sql("DELETE FROM requests WHERE id = 'r3'")),
    Edit("request added", sql(_NEW_ROW)),
]

_MODELS = [
    Edit("model: digest", sql("UPDATE models SET digest = '00' WHERE sequence = 2")),
    Edit("model: time", sql("UPDATE models SET time = 0")),
    Edit("model: what it followed", sql("UPDATE models SET accepted_after = 'x' WHERE sequence = 2")),
    Edit("model removed", sql("DELETE FROM models WHERE sequence = 2")),
    Edit("models in another order", sql("UPDATE models SET sequence = 1000 WHERE sequence = 1")),
]

_CLIENTS = [
    *(
        Edit(f"client: {what}", sql(f"UPDATE clients SET {what} WHERE id = '{row}'"))
        for what, row in (
            ("tombstones = '00'", "st-vincent"),
            ("tombstones = NULL", "st-vincent"),
            ("departed = 0", "ward-9"),
            ("id = '77'", "st-vincent"),
            ("key = 'cd'", "st-vincent"),
            ("key = NULL", "st-vincent"),
            ("claims = '{}'", "st-vincent"),
        )
    ),
    Edit("client removed", sql("DELETE FROM clients WHERE id = 'st-vincent'")),
    Edit("client added", sql("INSERT INTO clients (id) VALUES ('evil')")),
    Edit("debt added", sql("INSERT INTO owed VALUES ('r1', 'st-vincent')")),
    Edit("debt removed", sql("DELETE FROM owed")),
]

_STATE = [
    Edit("state: a number in it", sql("UPDATE state SET body = replace(body, '0.7', '1e9') WHERE name = 'served'")),
    Edit("state: the initial model", sql("UPDATE state SET body = '\"00\"' WHERE name = 'initial'")),
    Edit("state: figures of relapse", sql("UPDATE state SET body = replace(body, '0.0', '0.9')")),
    Edit("state: one removed", sql("DELETE FROM state WHERE name = 'experiences'")),
    Edit("state: all removed", sql("DELETE FROM state")),
    Edit("state: a commit added", sql("INSERT INTO state VALUES ('attempt', '{\"committing\": \"00\"}')")),
    Edit(
        "state: bodies exchanged",
        sql("UPDATE state SET body = (SELECT body FROM state WHERE name = 'initial') WHERE name = 'served'"),
    ),
    Edit(
        "state: names exchanged",
        sql(
            "UPDATE state SET name = 'x' WHERE name = 'served'",
            "UPDATE state SET name = 'served' WHERE name = 'experiences'",
            "UPDATE state SET name = 'experiences' WHERE name = 'x'",
        ),
    ),
]

_SCHEMA = [
    Edit("triggers removed", sql(*TRIGGERS_OFF)),
    Edit("version of the file", sql("PRAGMA user_version = 1")),
    Edit("version of the file is 2", sql("PRAGMA user_version = 2")),
    Edit("seals removed and the file said to be of version 2", sql("DROP TABLE seals", "PRAGMA user_version = 2")),
    Edit("version of the file is none", sql("PRAGMA user_version = 0")),
    Edit("table added", sql("CREATE TABLE notes (x)")),
    Edit("view added", sql("CREATE VIEW notes AS SELECT * FROM requests")),
    Edit("index removed", sql("DROP INDEX pending_requests")),
    Edit("index added", sql("CREATE UNIQUE INDEX more ON requests (id)")),
    Edit("column added", sql("ALTER TABLE clients ADD COLUMN note TEXT")),
    Edit("column removed", sql("ALTER TABLE clients DROP COLUMN claims")),
    Edit("table removed", sql("DROP TABLE owed")),
    Edit("table of seals removed", sql("DROP TABLE seals")),
    Edit(
        "table of another type and collation",
        sql(
            "ALTER TABLE owed RENAME TO other",
            "CREATE TABLE owed (request_id TEXT COLLATE NOCASE, client, PRIMARY KEY (request_id, client)) WITHOUT ROWID",
            "INSERT INTO owed SELECT * FROM other",
            "DROP TABLE other",
        ),
    ),
    Edit(
        "trigger that withdraws",
        sql(
            "CREATE TRIGGER evil AFTER INSERT ON requests"
            " BEGIN UPDATE requests SET status = 'withdrawn' WHERE id = new.id; END"
        ),
    ),
    Edit(
        "trigger in the place of another",
        sql(TRIGGERS_OFF[0], "CREATE TRIGGER events_are_not_changed BEFORE UPDATE ON events BEGIN SELECT 1; END"),
    ),
]

_OTHER = [
    Edit("text as a blob", sql("UPDATE requests SET reason = CAST(reason AS BLOB) WHERE id = 'r2'")),
    Edit("number as text", sql("UPDATE meta SET value = 5 WHERE name = 'identity'")),
    Edit("text that is no text", sql("UPDATE requests SET reason = CAST(X'ff00ff' AS TEXT) WHERE id = 'r2'")),
    Edit("date by a microsecond", sql("UPDATE requests SET received = received + 0.000001 WHERE id = 'r1'")),
    Edit("row moved to another table", sql("INSERT INTO state SELECT id, tombstones FROM clients WHERE key NOT NULL")),
    Edit("row of the older copy", row_of_older("state", "name = 'served'")),
    Edit("rows of the older copy with their codes", row_of_older("clients", "1", with_seals=True)),
    Edit("codes changed", sql("UPDATE seals SET codes = zeroblob(16)")),
    Edit("codes removed", sql("DELETE FROM seals")),
    Edit("codes added", sql("INSERT INTO seals VALUES ('notes', '00', X'00')")),
    Edit("seal removed", sql("DELETE FROM meta WHERE name = 'seal'")),
    Edit("seal is none", sql("UPDATE meta SET value = '[1]' WHERE name = 'seal'")),
    Edit("sums of the older copy", row_of_older("meta", "name = 'seal'")),
    Edit("a skipped id forged", sql("INSERT INTO meta VALUES ('id-offset', '7')")),
    Edit("key exchanged", other_key),
    Edit("key removed", lambda path: path.with_suffix(".key").unlink()),
    Edit("key cut off", lambda path: path.with_suffix(".key").write_text('{"key": "00"')),
    Edit("file cut off", lambda path: path.write_bytes(path.read_bytes()[:9000])),
    Edit("bytes changed past the database", lambda path: bytes_of(path, b'{"number":11}', b'{"number":12}')),
    Edit(
        "edit that the server writes over",
        then_served(sql("UPDATE requests SET received = 1.0 WHERE id = 'r3'"), lambda ledger: ledger.withdraw("r3")),
    ),
    Edit(
        "state that the server writes over",
        then_served(
            sql("UPDATE state SET body = '1' WHERE name = 'served'"), lambda ledger: ledger.set_state("served", 2)
        ),
    ),
    Edit("older file put back", put_back, by_head=True),
    Edit("times written anew with the key", written_anew("UPDATE events SET time = 1.0", with_key=True), by_head=True),
    Edit(
        "last events removed with the key",
        written_anew("DELETE FROM events WHERE sequence > 25", with_key=True),
        by_head=True,
    ),
]

EDITS: tuple[Edit, ...] = (*_EVENTS, *_REQUESTS, *_MODELS, *_CLIENTS, *_STATE, *_SCHEMA, *_OTHER)
"""All edits, of events, of each table, of the schema, and of other kinds."""

UNSEEN = (
    Edit(
        "state changed with the key",
        written_anew("UPDATE state SET body = '1' WHERE name = 'served'", with_key=True, keeps_events=True),
        by_head=True,
    ),
)
"""What nobody finds: with the key, tables that no event determines can be edited and sealed anew."""
