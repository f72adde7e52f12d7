import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from fed_unlearn.ledger import Ledger
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.simulations.cli import run_command


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    return tmp_path


@pytest.fixture
def ledger(folder: Path) -> Iterator[Ledger]:
    """A ledger with requests in several states."""
    opened = Ledger(folder / "ledger.db")
    opened.accept_model("m" * 64, "initial")
    opened.receive(ForgetRequest.for_class(3, 5, method="delete", deadline=86400.0))
    opened.receive(ForgetRequest.for_samples("clinic", count=4, of_class=1, id="four", priority=7))
    opened.receive(ForgetRequest.for_client("ward\x1b[31m9", deadline=4e9))
    opened.receive(ForgetRequest.for_samples("clinic", ["scan-[1]", "scan-2"]))
    opened.receive(ForgetRequest.for_class(8, deadline=86400.0))
    opened.advance("four", Status.HELD, attempt=0, reason="asks for [60 %] of class 1")
    opened.advance("r3", Status.UNLEARNING, attempt=2, method="fedosd")
    opened.advance_all(["r5"], Status.UNLEARNING, attempt=1)
    opened.advance("r5", Status.AUDITING, attempt=1)
    opened.advance("r5", Status.COMMITTING, attempt=1)
    opened.commit({"r5": {"forget_accuracy": float("nan"), "passes": 12}}, "n" * 64, attempts={"r5": 1})
    opened.owe("r5", ["clinic"])
    opened.depart("clinic")
    yield opened
    opened.close()


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out.splitlines()


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--class", "3"], ForgetRequest.for_class(3)),
        (["--class", "3", "--class", "0"], ForgetRequest.for_class(3, 0)),
        (["--client", "4", "--samples", "6"], ForgetRequest.for_samples("4", count=6)),
        (
            ["--client", "a b", "--samples", "6", "--of-class", "0", "--goal", "indistinguishable"],
            ForgetRequest.for_samples("a b", count=6, of_class=0, goal="indistinguishable"),
        ),
        (["--client", "4", "--sample-id", "x", "--sample-id", "y"], ForgetRequest.for_samples("4", ["x", "y"])),
        (["--client", "4", "--priority", "-2"], ForgetRequest.for_client("4", priority=-2)),
        (
            ["--class", "3", "--deadline", "2031-01-02T03:04:05+00:00", "--method", "boundary-shrink"],
            ForgetRequest.for_class(3, method="boundary-shrink", deadline=1925089445.0),
        ),
        (["--class", "3", "--deadline", "2031-01-02"], ForgetRequest.for_class(3, deadline=1925078400.0)),
        (
            [
                "--client",
                "4",
                "--samples",
                "1",
                "--method",
                "instance-wise",
                "--goal",
                "relabel",
                "--parameter",
                "learning-rate=0.5",
                "--parameter",
                "adversarial=true",
                "--parameter",
                "max-steps=7",
            ],
            ForgetRequest.for_samples(
                "4", count=1, method="instance-wise", goal="relabel", learning_rate=0.5, adversarial=True, max_steps=7
            ),
        ),
    ],
)
def test_a_request_is_added_as_it_was_typed(
    folder: Path, capsys: pytest.CaptureFixture[str], options: list[str], expected: ForgetRequest
) -> None:
    assert run_command(["request", "add", "queue.db", *options]) == 0
    assert lines(capsys) == ["r1"]
    ledger = Ledger(folder / "queue.db", create=False)
    (entry,) = ledger.entries()
    assert entry.status is Status.RECEIVED and entry.request.asks_the_same(expected)
    assert (entry.request.priority, entry.request.deadline) == (expected.priority, expected.deadline)
    assert {name: type(value) for name, value in entry.request.parameters.items()} == {
        name: type(value) for name, value in expected.parameters.items()
    }
    ledger.close()


def test_put_twice_under_one_id_a_request_is_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert run_command(["request", "add", "queue.db", "--class", "3", "--id", "mine"]) == 0
    assert run_command(["request", "add", "queue.db", "--class", "4"]) == 0
    assert lines(capsys) == ["mine", "mine", "r2"]
    assert run_command(["request", "add", "queue.db", "--class", "4", "--id", "mine"]) == 2
    assert "request 'mine' is in the ledger already and asks for something else" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "nothing to forget was given; expected --class, or --client"),
        (["--samples", "3"], "nothing to forget was given"),
        (["--class", "3", "--client", "4"], "--class asks for a class everywhere; leave --client and samples out"),
        (["--class", "3", "--class", "3"], "classes (3, 3) name a class twice"),
        (["--class", "-1"], "class '-1': the names of the classes are not known here; expected an index from 0"),
        (["--class", "three"], "class 'three': the names of the classes are not known here"),
        (["--client", " "], "--client is empty"),
        (["--client", "4", "--samples", "2", "--sample-id", "x"], "names 1 ids and a count of 2"),
        (["--client", "4", "--of-class", "1"], "--of-class narrows --samples"),
        (["--client", "4", "--sample-id", "x", "--of-class", "1"], "--of-class narrows --samples"),
        (["--client", "4", "--samples", "0"], "0 is not in the range"),
        (["--class", "3", "--method", "boundary-shrnk"], "is unknown; did you mean boundary-shrink? known are"),
        (["--class", "3", "--method", "reset-and-relearn", "--parameter", "rounds=0"], "reset-and-relearn: rounds = 0"),
        (["--client", "3", "--method", "unlearning-cross-entropy"], "is unknown; known are bad-teacher,"),
        (["--class", "3", "--method", "delete", "--parameter", "stepps=3"], "'delete' has no parameter 'stepps'"),
        (["--class", "3", "--method", "delete", "--parameter", "learning_rate=fast"], "learning_rate"),
        (["--class", "3", "--method", "delete", "--parameter", "learning_rate=-1"], "learning_rate"),
        (["--class", "3", "--method", "delete", "--parameter", "learning-rate"], "expected NAME=VALUE"),
        (["--class", "3", "--method", "delete", "--parameter", "a=[1]"], "expected a number, a string, true or false"),
        (["--class", "3", "--parameter", "learning-rate=1"], "is of no method; name one with --method"),
        (["--client", "4", "--samples", "2", "--method", "delete"], "'delete' does not serve sample requests"),
        (["--class", "3", "--goal", "relabel"], "--goal relabel is of sample requests; this is a class request"),
        (["--client", "4", "--samples", "2", "--goal", "hide"], "'hide' is not one of"),
        (["--class", "3", "--deadline", "0001-01-01T00:00:00+14:00"], "expected a date in ISO 8601"),
        (["--class", "3", "--deadline", "tomorrow"], "--deadline 'tomorrow': expected a date in ISO 8601"),
        (["--class", "3", "--id", "a+b"], "--id 'a+b': expected at most 64 letters"),
        (["--class", "3", "--id", ""], "--id '': expected"),
        (["--class", "3", "--priority", "9223372036854775808"], "expected an integer of 64 bits"),
    ],
)
def test_what_is_no_request_is_one_line_and_makes_no_ledger(
    folder: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert run_command(["request", "add", "queue.db", *options]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert message in captured.err
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("method", ["retrain", "federaser", "fedosd", "projected-ascent"])
def test_methods_that_the_server_runs_are_known(folder: Path, method: str) -> None:
    assert run_command(["request", "add", "queue.db", "--client", "4", "--method", method]) == 0
    assert run_command(["request", "add", "queue.db", "--client", "4", "--method", "delete"]) == 2


COMMANDS = (
    ["request", "list", "PLACE"],
    ["request", "list", "PLACE", "--json"],
    ["request", "show", "PLACE", "r1"],
    ["request", "withdraw", "PLACE", "r1"],
    ["approve", "PLACE", "r1"],
    ["ledger", "show", "PLACE"],
    ["ledger", "verify", "PLACE"],
)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("none.db", "none.db: does not exist; the folder of a run or a ledger's file was expected"),
        ("none/ledger.db", "none/ledger.db: does not exist"),
        ("empty", "empty: holds no ledger.db; the folder of a run or a ledger's file was expected"),
        ("empty.db", "empty.db: not a ledger: an empty file"),
        ("notes.txt", "notes.txt: not a ledger"),
        ("other.db", "other.db: not a ledger: the database of another program"),
    ],
)
def test_what_is_no_ledger_stays_as_it_is(
    folder: Path, capsys: pytest.CaptureFixture[str], command: list[str], place: str, message: str
) -> None:
    (folder / "empty").mkdir()
    (folder / "empty.db").touch()
    (folder / "notes.txt").write_text("milk\n" * 300)
    connection = sqlite3.connect(folder / "other.db")
    connection.execute("CREATE TABLE events (text TEXT)")
    connection.close()
    before = files(folder)
    assert run_command([place if word == "PLACE" else word for word in command]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert message in captured.err
    assert files(folder) == before


@pytest.mark.parametrize("place", ["queue", "queue.sqlite", "none/queue.db", "empty", "notes.txt", "empty.db"])
def test_only_a_path_that_ends_in_db_becomes_a_ledger(
    folder: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    (folder / "empty").mkdir()
    (folder / "empty.db").touch()
    (folder / "notes.txt").write_text("milk\n" * 300)
    before = files(folder)
    assert run_command(["request", "add", place, "--class", "3"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert files(folder) == before and not (folder / "none").exists()


def test_a_run_folder_stands_for_its_ledger(folder: Path, ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["request", "add", ".", "--class", "9"]) == 0
    assert run_command(["request", "add", "ledger.db", "--class", "9"]) == 0
    assert lines(capsys) == ["r6", "r7"]
    assert [entry.id for entry in ledger.entries()][-2:] == ["r6", "r7"]


def test_the_list_has_a_line_for_each_request(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["request", "list", "."]) == 0
    heading, *rows = lines(capsys)
    cells = [[cell.strip() for cell in row.split("  ") if cell.strip()] for row in rows]
    assert heading.split() == [
        *("id", "scope", "target", "goal", "status", "evidence", "witnesses", "attempt", "method", "priority"),
        *("deadline", "reason"),
    ]
    assert cells == [
        ["r1", "class", "3, 5", "received", "0", "delete", "0", "1970-01-02 00:00:00 overdue"],
        ["four", "sample", "client clinic: 4 samples of class 1", "held", "0", "7", "asks for [60 %] of class 1"],
        ["r3", "client", "client ward\\x1b[31m9", "unlearning", "2", "fedosd", "0", "2096-10-02 07:06:40"],
        ["r4", "sample", "client clinic: scan-[1], scan-2", "received", "0", "0"],
        ["r5", "class", "8", "committed", "1", "0", "1970-01-02 00:00:00"],
    ]  # fmt: skip
    assert run_command(["request", "list", ".", "--status", "held"]) == 0
    assert [row.split()[0] for row in lines(capsys)[1:]] == ["four"]
    assert run_command(["request", "list", ".", "--status", "lost"]) == 2


def test_the_list_as_json_has_everything(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["request", "list", ".", "--json"]) == 0
    listed = json.loads("\n".join(lines(capsys)))
    assert [item["id"] for item in listed] == ["r1", "four", "r3", "r4", "r5"]
    assert [item["overdue"] for item in listed] == [True, False, False, False, False]
    assert listed[1] | {"received": 0} == {
        "id": "four",
        "scope": "sample",
        "target": {"client": "clinic", "samples": 4, "of_class": 1},
        "labels": [],
        "method": None,
        "parameters": {},
        "priority": 7,
        "deadline": None,
        "overdue": False,
        "status": "held",
        "evidence": None,
        "goal": None,
        "witnesses": None,
        "attempt": 0,
        "reason": "asks for [60 %] of class 1",
        "method_in_use": None,
        "approved": False,
        "ever_committed": False,
        "release_due": False,
        "received": 0,
        "owed": [],
        "outcome": None,
    }
    assert (listed[2]["method_in_use"], listed[2]["target"]) == ("fedosd", {"client": "ward\x1b[31m9"})
    assert (listed[4]["outcome"], listed[4]["owed"]) == ({"forget_accuracy": None, "passes": 12}, ["clinic"])
    assert run_command(["request", "list", ".", "--json", "--status", "withdrawn"]) == 0
    assert json.loads("\n".join(lines(capsys))) == []


def test_a_request_is_shown_with_its_events(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["request", "show", ".", "r5", "--json"]) == 0
    shown = json.loads("\n".join(lines(capsys)))
    steps = ["received", "unlearning", "auditing", "committing", "committed", "owed"]
    assert [event["name"] for event in shown["events"]] == steps
    assert shown["events"][-1]["facts"] == {"client": ledger.client_reference("clinic")}
    assert run_command(["request", "show", ".", "r5"]) == 0
    text = lines(capsys)
    assert text[:2] == ["request     r5", "scope       class"] and "owed to     clinic" in text
    events = text[text.index("") + 2 :]
    assert [line.split()[3] for line in events] == steps
    assert run_command(["request", "show", ".", "r77"]) == 2
    assert "request 'r77' is not in the ledger" in capsys.readouterr().err


def test_how_a_request_went_is_told_in_words(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    figures = {"forget_accuracy": 0.75, "membership_auc": None, "extra": {"mean-confidence": 0.5}}
    outcome = {
        **{"method": "instance-wise", "status": "committed", "attempts": 1, "reason": None, "repair_rounds": 2},
        **{"before": figures, "unlearned": None, "after": {**figures, "forget_accuracy": 0.0}, "seconds": 1.25},
        **{"traffic": {"messages": 7, "bytes_sent": 10}, "witnesses": 1, "evidence": "not measurable"},
        **{"goal": "indistinguishable", "left by others": [1]},
    }
    ledger.receive(ForgetRequest.for_samples("clinic", count=2, id="told", goal="misclassify"))
    assert run_command(["request", "list", "."]) == 0
    assert "to be misclassified  received" in lines(capsys)[-1]
    ledger.advance_all(["told"], Status.UNLEARNING, attempt=1)
    for status in (Status.AUDITING, Status.COMMITTING):
        ledger.advance("told", status, attempt=1)
    ledger.commit({"told": outcome}, "n" * 64, attempts={"told": 1})
    assert run_command(["request", "list", "."]) == 0
    row = [cell.strip() for cell in lines(capsys)[-1].split("  ") if cell.strip()]
    assert row == [
        *("told", "sample", "client clinic: 2 samples", "to look unseen", "committed", "not measurable", "1", "1", "0")
    ]
    assert run_command(["request", "show", ".", "told"]) == 0
    shown = lines(capsys)
    facts = {line[:12].strip(): line[12:] for line in shown[: shown.index("")]}
    assert facts | {"received": ""} == {
        **{
            "request": "told",
            "scope": "sample",
            "target": "client clinic: 2 samples",
            "parameters": "goal=misclassify",
        },
        **{"priority": "0", "received": "", "status": "committed, attempt 1", "evidence": "not measurable"},
        **{"goal": "to look unseen", "witnesses": "1: one client alone says so", "repair": "2 rounds"},
        "before": "forget accuracy 0.750, mean-confidence 0.500",
        "after": "forget accuracy 0.000, mean-confidence 0.500",
        **{"cost": "1.25 s, 7 messages, 10 bytes sent", "outcome": '{"left by others": [1]}'},
    }
    assert run_command(["request", "show", ".", "told", "--json"]) == 0
    body = json.loads("\n".join(lines(capsys)))
    assert (body["evidence"], body["goal"], body["witnesses"]) == ("not measurable", "indistinguishable", 1)
    assert body["outcome"]["seconds"] == 1.25


def test_nothing_is_printed_where_standard_output_is_closed(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)
    for command in (["request", "list", "."], ["request", "show", ".", "r5"], ["ledger", "show", "."]):
        assert run_command(command) == 0


def test_requests_are_withdrawn_and_approved(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["approve", ".", "four"]) == 0
    assert run_command(["request", "withdraw", ".", "r1"]) == 0
    assert lines(capsys) == ["four: approved", "r1: withdrawn"]
    assert (ledger.entry("four").status, ledger.entry("four").approved) == ("received", True)
    assert (ledger.entry("r1").status, [entry.id for entry in ledger.release_due()]) == ("withdrawn", ["r1"])
    for command, message in (
        (["request", "withdraw", ".", "r3"], "request 'r3' is unlearning; only requests that are held, received"),
        (["request", "withdraw", ".", "r77"], "request 'r77' is not in the ledger"),
        (["approve", ".", "r5"], "request 'r5' is committed; nothing is left to approve"),
    ):
        assert run_command(command) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


def test_the_ledger_is_shown(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["ledger", "show", ".", "--json"]) == 0
    shown = json.loads("\n".join(lines(capsys)))
    assert shown["served_model"] == "n" * 64 and shown["forgotten_classes"] == [8]
    assert shown["requests"] == {"received": 2, "held": 1, "unlearning": 1, "committed": 1}
    assert shown["clients"] == {"known": 1, "departed": 1, "owed": 1}
    assert [event["sequence"] for event in shown["events"]] == list(range(1, len(ledger.events()) + 1))
    assert shown["events"][-1]["digest"] == ledger.verify().head
    assert run_command(["ledger", "show", "."]) == 0
    text = lines(capsys)
    assert f"model      {'n' * 64}" in text and "forgotten  class 8" in text
    assert len(text) - text.index("") - 2 == len(ledger.events())


def test_an_edited_ledger_is_found(folder: Path, ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["ledger", "verify", "."]) == 0
    assert lines(capsys) == [f"intact: {len(ledger.events())} events, the last one sealed as {ledger.verify().head}"]
    connection = sqlite3.connect(folder / "ledger.db")
    connection.execute("DROP TRIGGER events_are_not_changed")
    connection.execute("UPDATE events SET time = time - 86400 WHERE sequence = 4")
    connection.commit()
    connection.close()
    assert run_command(["ledger", "verify", "."]) == 1
    assert lines(capsys) == [
        "broken: event 4: its columns are not those that its digest was made of",
        "broken: the schema was changed: trigger events_are_not_changed is missing",
    ]


def test_a_head_that_was_kept_is_part_of_the_chain_or_is_missed(
    folder: Path, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = ledger.verify().head
    ledger.note("later", {})
    now = ledger.verify().head
    for head in (kept, kept[:16].upper(), now):
        assert run_command(["ledger", "verify", ".", "--head", head]) == 0
        (line,) = lines(capsys)
        assert line.startswith(f"intact: {len(ledger.events())} events, and the given head is one of them")
    assert run_command(["ledger", "verify", ".", "--head", "0123456789abcdef" * 4]) == 1
    (line,) = lines(capsys)
    assert line.startswith("broken: no event has the digest 0123456789abcdef")
    for head in ("latest", kept[:15], "", "ab" * 40):
        assert run_command(["ledger", "verify", ".", "--head", head]) == 2
        assert "expected 16 to 64 hexadecimal digits" in capsys.readouterr().err


@pytest.mark.parametrize(
    "edit",
    [
        "UPDATE requests SET status = 'elsewhere' WHERE id = 'r5'",
        "UPDATE requests SET outcome = '[[[' WHERE id = 'r5'",
        "UPDATE requests SET reason = x'41' WHERE id = 'r5'",
        "UPDATE requests SET received = 'yesterday' WHERE id = 'r5'",
    ],
)
def test_an_edited_ledger_that_cannot_be_read_is_one_line(
    folder: Path, ledger: Ledger, capsys: pytest.CaptureFixture[str], edit: str
) -> None:
    ledger.close()
    with closing(sqlite3.connect(folder / "ledger.db", isolation_level=None)) as connection:
        connection.execute(edit)
    for command in (["request", "list", "."], ["request", "show", ".", "r5"], ["ledger", "show", "."]):
        for options in ((), ("--json",)):
            code = run_command([*command, *options])
            captured = capsys.readouterr()
            assert code in (0, 2)
            if code == 2:
                assert captured.err.count("\n") == 1 and "ledger" in captured.err
    assert run_command(["ledger", "verify", "."]) == 1


def test_a_backup_is_whole_private_and_never_in_the_place_of_another_file(
    folder: Path, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    with ledger.transaction():
        ledger.set_state("large", "x" * 100_000)  # in the write-ahead log, not yet in ledger.db
    assert run_command(["ledger", "backup", ".", "copy.db"]) == 0
    (line,) = lines(capsys)
    assert line == f"copy.db: {len(ledger.events())} events, head {ledger.verify().head}; its key is ledger.key"
    assert (folder / "copy.db").stat().st_mode & 0o777 == 0o600
    assert run_command(["ledger", "verify", "copy.db"]) == 2
    assert "copy.key: the ledger's key is missing" in capsys.readouterr().err
    assert run_command(["ledger", "verify", "copy.db", "--key", "ledger.key", "--head", ledger.verify().head]) == 0
    capsys.readouterr()
    before = (folder / "copy.db").read_bytes()
    assert run_command(["ledger", "backup", ".", "copy.db"]) == 2
    assert "copy.db: the file exists" in capsys.readouterr().err
    assert (folder / "copy.db").read_bytes() == before
    assert run_command(["ledger", "backup", ".", "nowhere/copy.db"]) == 2
    assert sorted(file.name for file in folder.iterdir() if "copy" in file.name) == ["copy.db"]


def test_an_operator_names_the_key(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["request", "add", "own.db", "--class", "3", "--key", "safe.key"]) == 0
    assert not (folder / "own.key").exists() and (folder / "safe.key").stat().st_mode & 0o777 == 0o600
    assert run_command(["ledger", "verify", "own.db", "--key", "safe.key"]) == 0
    assert run_command(["approve", "own.db", "r1", "--key", "safe.key"]) == 0
    assert run_command(["request", "list", "own.db"]) == 2
    assert "own.key: the ledger's key is missing" in capsys.readouterr().err


# What a server does all day, only faster.
SERVER = """
import sys, time
from pathlib import Path
from fed_unlearn.ledger import Ledger
from fed_unlearn.ledger.lifecycle import Status
ledger, rounds = Ledger(sys.argv[1]), 0
print("ready", flush=True)
while not Path(sys.argv[2]).exists() or ledger.open_ids():
    for entry in ledger.pending():
        if entry.status is Status.RECEIVED:
            try:
                ledger.advance(entry.id, Status.UNLEARNING, attempt=1)
            except Exception as error:
                assert "withdrawn" in str(error), error
                continue
            for status in (Status.AUDITING, Status.COMMITTING):
                with ledger.transaction():
                    ledger.advance(entry.id, status, attempt=1)
                    time.sleep(0.002)
            ledger.commit({entry.id: {}}, f"model-{entry.id}", attempts={entry.id: 1})
    ledger.note("round", {"number": rounds})
    rounds += 1
    time.sleep(0.005)
"""


def test_the_commands_work_beside_a_server(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Ledger(folder / "ledger.db").close()
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, "ledger.db", "stop"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert server.stdout is not None and server.stdout.readline() == "ready\n"
    withdrawn = set()
    for number in range(1, 16):
        assert run_command(["request", "add", ".", "--class", str(number)]) == 0
        if number % 3 == 0 and run_command(["request", "withdraw", ".", f"r{number}"]) == 0:
            withdrawn.add(f"r{number}")
        for command in (["request", "list", "."], ["request", "show", ".", "r1"], ["ledger", "verify", "."]):
            assert run_command(command) == 0
    (folder / "stop").touch()
    _, errors = server.communicate(timeout=60)
    assert server.returncode == 0, errors
    assert "locked" not in capsys.readouterr().err
    ledger = Ledger(folder / "ledger.db")
    ended = {entry.id: entry.status for entry in ledger.entries()}
    assert list(ended) == [f"r{number}" for number in range(1, 16)]
    assert {name for name, status in ended.items() if status is Status.WITHDRAWN} == withdrawn
    assert {name for name, status in ended.items() if status is Status.COMMITTED} == set(ended) - withdrawn
    models = [event.facts["after"] for event in ledger.events() if event.name == "model-accepted"]
    assert sorted(map(str, models)) == sorted(set(ended) - withdrawn)
    assert ledger.verify().problem is None
    ledger.close()


def test_no_command_imports_more_than_it_needs(folder: Path) -> None:
    script = """
import sys
from fed_unlearn.simulations.cli import run_command
for command in (["request", "add", "q.db", "--class", "3"], ["request", "list", "q.db"], ["request", "show", "q.db", "r1"],
                ["ledger", "show", "q.db"], ["ledger", "verify", "q.db"], ["approve", "q.db", "r1"],
                ["request", "withdraw", "q.db", "r1"]):
    assert run_command(command) == 0
assert run_command(["request", "list", "none.db"]) == 2
print(sorted({"torch", "flwr", "numpy", "pydantic", "ray"} & set(sys.modules)))
"""
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert output.splitlines()[-1] == "[]"
