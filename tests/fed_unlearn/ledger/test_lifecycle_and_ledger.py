import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from fed_unlearn.errors import FedUnlearnError, InvalidRequestError, TransitionError
from fed_unlearn.ledger import Ledger
from fed_unlearn.ledger.lifecycle import FINAL, Status
from fed_unlearn.requests import ForgetRequest

# Written out by hand from the life of a request: how to reach a state, and what may follow it.
PATHS = {
    "received": "",
    "waiting": "waiting",
    "held": "held",
    "unlearning": "unlearning",
    "repairing": "unlearning repairing",
    "auditing": "unlearning auditing",
    "committing": "unlearning auditing committing",
    "rolled-back": "unlearning rolled-back",
    "committed": "unlearning auditing committing committed",
    "reopened": "unlearning auditing committing committed reopened",
    "failed": "unlearning rolled-back failed",
    "rejected": "rejected",
    "withdrawn": "withdrawn",
}
FOLLOWING = {
    "received": "waiting held unlearning rejected withdrawn",
    "waiting": "received held withdrawn failed rejected unlearning",
    "held": "received withdrawn rejected",
    "unlearning": "unlearning repairing auditing rolled-back rejected",
    "repairing": "repairing unlearning auditing rolled-back",
    "auditing": "auditing repairing unlearning committing rolled-back",
    "committing": "committed rolled-back",
    "rolled-back": "unlearning waiting received held failed withdrawn",
    "committed": "reopened",
    "reopened": "unlearning waiting committed failed",
    "failed": "",
    "rejected": "",
    "withdrawn": "",
}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(tmp_path / "new" / "ledger.db")
    yield opened
    opened.close()


def request_in(ledger: Ledger, state: str, request: ForgetRequest | None = None) -> str:
    """A request that was taken to a state step by step."""
    request_id = ledger.receive(request or ForgetRequest.for_class(3))
    for step in PATHS[state].split():
        ledger.advance(request_id, Status(step), attempt=1, facts={"digest": "d"} if step == "committing" else None)
    return request_id


@pytest.mark.parametrize("state", PATHS)
def test_a_request_takes_every_legal_step_and_no_other(ledger: Ledger, state: str) -> None:
    allowed = set(FOLLOWING[state].split())
    refused_from = request_in(ledger, state)
    before = (ledger.entries(), ledger.events(), ledger.served_model())
    for step in set(PATHS) - allowed:
        with pytest.raises(TransitionError, match=f"request {refused_from}: {state} -> {step} is no step; after"):
            ledger.advance(refused_from, Status(step), attempt=9, reason="no", facts={"x": 1})
    assert (ledger.entries(), ledger.events(), ledger.served_model()) == before
    for step in allowed:
        request_id = request_in(ledger, state)
        ledger.advance(request_id, Status(step), attempt=2, reason="because", facts={"loss": 0.5})
        entry, event = ledger.entry(request_id), ledger.events()[-1]
        assert (entry.status, entry.attempt, entry.reason) == (step, 2, "because")
        assert (event.request_id, event.name, event.attempt) == (request_id, step, 2)
        assert event.facts["loss"] == 0.5 and "reason" not in event.facts


def test_the_record_of_a_request_is_its_path_in_order(ledger: Ledger) -> None:
    request_id = request_in(ledger, "committed")
    names = [event.name for event in ledger.events() if event.request_id == request_id]
    assert names == ["received", "unlearning", "auditing", "committing", "committed"]
    assert [event.sequence for event in ledger.events()] == [1, 2, 3, 4, 5]
    assert {status.value for status in FINAL} == {"committed", "failed", "rejected", "withdrawn"}


def test_a_commit_out_of_turn_changes_nothing(ledger: Ledger) -> None:
    ledger.accept_model("first", "train:1")
    request_id = request_in(ledger, "auditing")
    before = (ledger.entries(), ledger.events())
    with pytest.raises(TransitionError):
        ledger.commit({request_id: {}}, "second", attempts={request_id: 1})
    assert (ledger.entries(), ledger.events()) == before
    assert ledger.served_model() == "first"


def test_the_same_request_twice_is_one(ledger: Ledger) -> None:
    request = ForgetRequest.for_samples(4, ["a", "b"], id="mine", epochs=3)
    assert ledger.receive(request) == ledger.receive(ForgetRequest.from_json(request.to_json())) == "mine"
    ledger.advance("mine", Status.UNLEARNING, attempt=1)
    assert ledger.receive(request) == "mine"
    assert [(entry.request, entry.status) for entry in ledger.entries()] == [(request, Status.UNLEARNING)]


@pytest.mark.parametrize(
    "other",
    [
        ForgetRequest.for_class(4, id="mine"),
        ForgetRequest.for_client(3, id="mine"),
        ForgetRequest.for_class(3, id="mine", epochs=2),
        ForgetRequest.for_class(3, id="mine", method="mask-output"),
    ],
)
def test_an_id_is_not_given_to_another_request(ledger: Ledger, other: ForgetRequest) -> None:
    ledger.receive(ForgetRequest.for_class(3, id="mine"))
    before = (ledger.entries(), ledger.events())
    with pytest.raises(InvalidRequestError, match="'mine' is in the ledger already and asks for something else"):
        ledger.receive(other)
    assert (ledger.entries(), ledger.events()) == before


def test_automatic_ids_count_up_and_avoid_given_ones(ledger: Ledger) -> None:
    def receive(request_id: str | None = None) -> str:
        return ledger.receive(ForgetRequest.for_class(3, id=request_id))

    assert [receive(), receive()] == ["r1", "r2"]
    given = [receive("r4"), receive("r5")]
    automatic = [receive(), receive(), receive()]
    assert len({"r1", "r2", *given, *automatic}) == 7
    assert all(name.startswith("r") and name[1:].isdigit() for name in automatic)
    assert [entry.id for entry in ledger.entries()] == ["r1", "r2", "r4", "r5", *automatic]
    assert [entry.request.id for entry in ledger.entries()] == [entry.id for entry in ledger.entries()]


def test_an_unknown_request_is_named(ledger: Ledger) -> None:
    with pytest.raises(InvalidRequestError, match="request 'r7' is not in the ledger"):
        ledger.entry("r7")
    with pytest.raises(InvalidRequestError, match="request 'r7' is not in the ledger"):
        ledger.advance("r7", Status.UNLEARNING, attempt=1)
    ledger.receive(ForgetRequest.for_class(1))  # The failed transaction is over.


def test_everything_survives_reopening(ledger: Ledger) -> None:
    request_in(ledger, "committing", ForgetRequest.for_class(3, 5, epochs=2, learning_rate=0.25))
    ledger.commit({"r1": {"passes": 7}}, "model-1", attempts={"r1": 3})
    request_in(ledger, "failed", ForgetRequest.for_class(7, id="seven"))
    request_in(ledger, "repairing", ForgetRequest.for_samples(2, count=4, of_class=1))
    ledger.note("evaluated", {"accuracy": 0.5, "n": 3, "last": None, "ok": True}, "seven")
    ledger.confirm_tombstones("2", "old")
    ledger.confirm_tombstones("2", "new")
    expected = (ledger.entries(), ledger.events(), ledger.pending(), ledger.confirmed_tombstones())
    ledger.close()
    reopened = Ledger(ledger.path)
    assert (reopened.entries(), reopened.events(), reopened.pending(), reopened.confirmed_tombstones()) == expected
    assert [(entry.id, entry.status) for entry in reopened.entries()] == [
        ("r1", "committed"),
        ("seven", "failed"),
        ("r3", "repairing"),
    ]
    assert reopened.entry("r1").attempt == 3
    assert reopened.served_model() == "model-1"
    assert reopened.confirmed_tombstones() == {"2": "new"}
    reopened.close()


def test_a_second_reader_sees_every_step_at_once(ledger: Ledger) -> None:
    reader = Ledger(ledger.path)
    request_id = request_in(ledger, "committing")
    assert reader.entry(request_id).status is Status.COMMITTING
    ledger.commit({request_id: {}}, "digest", attempts={request_id: 1})
    assert (reader.entry(request_id).status, reader.served_model()) == (Status.COMMITTED, "digest")
    reader.close()


def test_pending_committed_and_forgotten_classes(ledger: Ledger) -> None:
    for number, state in enumerate(PATHS):
        request_in(ledger, state, ForgetRequest.for_class(number, id=state))
    request_in(ledger, "committed", ForgetRequest.for_class(20, 21, id="two"))
    request_in(ledger, "committed", ForgetRequest.for_samples(1, count=1, of_class=30, id="drawn"))
    request_in(ledger, "committed", ForgetRequest.for_client(40, id="whole"))
    ended = {"committed", "failed", "rejected", "withdrawn", "two", "drawn", "whole"}
    assert [entry.id for entry in ledger.pending()] == [state for state in PATHS if state not in ended]
    assert ledger.open_ids() == [entry.id for entry in ledger.pending()]
    assert [entry.id for entry in ledger.committed()] == ["committed", "reopened", "two", "drawn", "whole"]
    order = list(PATHS)
    assert ledger.forgotten_classes() == {order.index("committed"), order.index("reopened"), 20, 21}


def test_the_last_accepted_model_serves(ledger: Ledger) -> None:
    assert ledger.served_model() is None
    ledger.accept_model("a", "train:1")
    request_id = request_in(ledger, "committing")
    assert ledger.committing_model(request_id) == "d"
    assert ledger.served_model() == "a"
    ledger.commit({request_id: {}}, "b", attempts={request_id: 1})
    assert ledger.served_model() == "b"
    ledger.accept_model("a", "train:2")
    assert ledger.served_model() == "a"
    accepted = [dict(event.facts) for event in ledger.events() if event.name == "model-accepted"]
    assert accepted == [
        {"digest": "a", "after": "train:1"},
        {"digest": "b", "after": request_id},
        {"digest": "a", "after": "train:2"},
    ]
    assert ledger.committing_model(request_in(ledger, "auditing")) is None


def test_a_file_that_is_no_ledger_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("remember the milk\n" * 40)
    before = path.read_bytes()
    with pytest.raises(FedUnlearnError, match=r"notes\.txt: not a ledger"):
        Ledger(path)
    assert path.read_bytes() == before


def test_a_folder_is_no_ledger(tmp_path: Path) -> None:
    with pytest.raises(FedUnlearnError, match="not a ledger"):
        Ledger(tmp_path)


def test_a_place_below_a_file_is_no_ledger(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FedUnlearnError):
        Ledger(tmp_path / "file" / "ledger.db")


def test_a_ledger_of_another_version_is_refused(ledger: Ledger) -> None:
    ledger.close()
    with sqlite3.connect(ledger.path) as connection:
        connection.execute("PRAGMA user_version=7")
    connection.close()
    with pytest.raises(FedUnlearnError, match="a ledger of version 7; this library reads versions up to 3; update"):
        Ledger(ledger.path)


@pytest.mark.parametrize("table", ["notes", "requests"])
def test_the_database_of_another_program_is_refused_and_left_alone(tmp_path: Path, table: str) -> None:
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute(f"CREATE TABLE {table} (text TEXT)")
    connection.commit()
    with pytest.raises(FedUnlearnError, match="not a ledger"):
        Ledger(path)
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [(table,)]
    connection.close()
