import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fed_unlearn.errors import FedUnlearnError, InvalidParameterError, InvalidRequestError, TransitionError
from fed_unlearn.ledger import Ledger
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.requests import ForgetRequest


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(tmp_path / "ledger.db")
    yield opened
    opened.close()


def received(ledger: Ledger, *ids: str) -> list[str]:
    return [ledger.receive(ForgetRequest.for_class(3, id=request_id)) for request_id in ids]


def committing(ledger: Ledger, *ids: str) -> None:
    received(ledger, *ids)
    for status in (Status.UNLEARNING, Status.AUDITING, Status.COMMITTING):
        ledger.advance_all(ids, status, attempt=1)


def dump(path: Path) -> list[str]:
    """Everything in the file, read by SQLite itself."""
    connection = sqlite3.connect(path)
    lines = list(connection.iterdump())
    connection.close()
    return lines


def test_pending_goes_by_priority_then_deadline_then_arrival(ledger: Ledger) -> None:
    orders: dict[str, tuple[int, float | None]] = {
        "late": (0, 200.0),
        "plain": (0, None),
        "soon": (0, 100.0),
        "urgent": (5, None),
        "plain-2": (0, None),
        "low": (-1, 1.0),
        "urgent-soon": (5, 300.0),
    }
    for request_id, (priority, deadline) in orders.items():
        ledger.receive(ForgetRequest.for_class(3, id=request_id, priority=priority, deadline=deadline))
    expected = ["urgent-soon", "urgent", "soon", "late", "plain", "plain-2", "low"]
    assert [entry.id for entry in ledger.pending()] == ledger.open_ids() == expected
    assert [entry.id for entry in ledger.entries()] == list(orders)
    assert {entry.id: (entry.request.priority, entry.request.deadline) for entry in ledger.entries()} == orders


def test_the_order_of_a_request_is_no_part_of_what_it_asks_for(ledger: Ledger) -> None:
    ledger.receive(ForgetRequest.for_class(3, id="mine", priority=1, deadline=5.0))
    assert ledger.receive(ForgetRequest.for_class(3, id="mine", priority=9)) == "mine"
    (entry,) = ledger.entries()
    assert (entry.request.priority, entry.request.deadline) == (1, 5.0)


def test_automatic_ids_step_over_given_ones_only_once(ledger: Ledger) -> None:
    given = received(ledger, *(f"r{number}" for number in range(61, 121)))
    statements: list[str] = []
    ledger._connection.set_trace_callback(statements.append)
    automatic = [ledger.receive(ForgetRequest.for_class(3)) for _ in range(60)]
    probes = sum("SELECT 1 FROM requests" in statement for statement in statements)
    assert automatic == [f"r{number}" for number in range(121, 181)] and not set(given) & set(automatic)
    assert probes == 60 + 60


def test_a_commit_of_several_is_one_model_and_one_transaction(ledger: Ledger) -> None:
    committing(ledger, "a", "b")
    received(ledger, "c")
    before = dump(ledger.path)
    with pytest.raises(TransitionError, match="request c: received -> committed"):
        ledger.commit({"a": {"x": 1}, "b": {}, "c": {}}, "model", attempts={"a": 1, "b": 1, "c": 1})
    assert dump(ledger.path) == before and ledger.served_model() is None
    figures = {"after": {"forget_accuracy": 0.0, "retain_accuracy": 0.97}, "passes": 12, "seconds": [1.5]}
    ledger.commit({"a": figures, "b": {}}, "model", attempts={"a": 1, "b": 2})
    assert (ledger.entry("a").outcome, ledger.entry("b").outcome, ledger.entry("c").outcome) == (figures, {}, None)
    assert [(entry.id, entry.attempt, entry.ever_committed) for entry in ledger.committed()] == [
        ("a", 1, True),
        ("b", 2, True),
    ]
    assert ledger.served_model() == "model"
    assert dict(ledger.events()[-1].facts) == {"digest": "model", "after": "a+b"}
    assert ledger._connection.execute("SELECT digest, accepted_after FROM models").fetchall() == [("model", "a+b")]


def test_a_relapsed_request_is_tried_again_and_stays_forgotten(ledger: Ledger) -> None:
    committing(ledger, "a")
    ledger.commit({"a": {"passes": 1}}, "first", attempts={"a": 1})
    ledger.advance("a", Status.REOPENED, attempt=2, reason="class 3 came back")
    assert ledger.open_ids() == ["a"] and ledger.forgotten_classes() == {3}
    assert [entry.status for entry in ledger.committed()] == ["reopened"]
    ledger.advance("a", Status.COMMITTED, attempt=2)
    assert ledger.open_ids() == [] and ledger.entry("a").outcome == {"passes": 1}
    assert ledger.verify().problem is None


@pytest.mark.parametrize("status", [Status.FAILED, Status.REJECTED])
def test_a_request_that_ends_otherwise_keeps_its_figures(ledger: Ledger, status: Status) -> None:
    received(ledger, "a")
    ledger.advance("a", Status.UNLEARNING, attempt=1, method="delete")
    if status is Status.FAILED:
        ledger.advance("a", Status.ROLLED_BACK, attempt=1)
    ledger.finish("a", status, attempt=1, reason="no method did it", outcome={"forget_accuracy": 0.4})
    entry = ledger.entry("a")
    assert (entry.status, entry.reason, entry.outcome) == (status, "no method did it", {"forget_accuracy": 0.4})
    assert (entry.ever_committed, entry.method, ledger.open_ids()) == (False, "delete", [])
    with pytest.raises(InvalidParameterError, match="status committed was given; expected failed or rejected"):
        ledger.finish("a", Status.COMMITTED, attempt=1, reason="", outcome={})


def test_steps_of_several_are_taken_by_all_or_none(ledger: Ledger) -> None:
    received(ledger, "a", "b")
    ledger.advance_all(["a", "b"], Status.UNLEARNING, attempt={"a": 1, "b": 4}, facts={"round": 2}, method="delete")
    assert [(entry.attempt, entry.method) for entry in ledger.entries()] == [(1, "delete"), (4, "delete")]
    assert [(event.request_id, event.attempt, event.facts["round"]) for event in ledger.events()[-2:]] == [
        ("a", 1, 2),
        ("b", 4, 2),
    ]
    ledger.advance("a", Status.AUDITING, attempt=1)
    assert ledger.entry("a").method == "delete"
    before = dump(ledger.path)
    with pytest.raises(TransitionError, match="request b: unlearning -> committing"):
        ledger.advance_all(["a", "b"], Status.COMMITTING, attempt=1)
    assert dump(ledger.path) == before


def test_an_exception_takes_the_whole_transaction_back(ledger: Ledger) -> None:
    received(ledger, "a")
    before = dump(ledger.path)
    with pytest.raises(KeyboardInterrupt), ledger.transaction():
        ledger.advance("a", Status.UNLEARNING, attempt=1)
        ledger.accept_model("m", "train:1")
        ledger.set_state("round", 3)
        ledger.owe("a", ["7"])
        with ledger.transaction():
            ledger.note("inner", {})
        raise KeyboardInterrupt
    assert dump(ledger.path) == before
    ledger.advance("a", Status.UNLEARNING, attempt=1)
    assert ledger.verify().problem is None


def test_a_transaction_is_one_for_other_readers(ledger: Ledger) -> None:
    reader = Ledger(ledger.path)
    with ledger.transaction():
        received(ledger, "a")
        with ledger.transaction():
            ledger.set_state("round", 1)
        assert reader.open_ids() == [] and reader.state("round") is None
    assert reader.open_ids() == ["a"] and reader.state("round") == 1
    reader.close()


def test_an_exception_that_is_caught_inside_takes_back_the_inner_part_alone(ledger: Ledger) -> None:
    received(ledger, "a")
    with ledger.transaction():
        ledger.set_state("kept", 1)
        with pytest.raises(TransitionError), ledger.transaction():
            ledger.set_state("gone", 1)
            ledger.advance("a", Status.COMMITTED, attempt=1)
        ledger.note("went-on", {})
    assert (ledger.state("kept"), ledger.state("gone")) == (1, None)
    assert ledger.events()[-1].name == "went-on" and ledger.verify().problem is None


WITHDRAWABLE: dict[str, list[Status]] = {
    "received": [],
    "waiting": [Status.WAITING],
    "held": [Status.HELD],
    "rolled-back": [Status.UNLEARNING, Status.ROLLED_BACK],
}


@pytest.mark.parametrize("state", WITHDRAWABLE)
def test_a_request_is_withdrawn_before_anything_is_made_of_it(ledger: Ledger, state: str) -> None:
    received(ledger, "a", "b")
    for step in WITHDRAWABLE[state]:
        ledger.advance("a", step, attempt=1)
    ledger.withdraw("a")
    entry = ledger.entry("a")
    assert (entry.status, entry.release_due, ledger.open_ids()) == ("withdrawn", True, ["b"])
    assert [due.id for due in ledger.release_due()] == ["a"]
    ledger.released("a")
    ledger.released("a")
    assert ledger.release_due() == [] and [event.name for event in ledger.events("a")].count("released") == 1
    with pytest.raises(InvalidRequestError, match="request 'a' is withdrawn; only requests that are held, received"):
        ledger.withdraw("a")


@pytest.mark.parametrize(
    "steps", [["unlearning"], ["unlearning", "repairing"], ["unlearning", "auditing"], ["rejected"]]
)
def test_a_request_in_work_or_ended_is_not_withdrawn(ledger: Ledger, steps: list[str]) -> None:
    received(ledger, "a")
    for step in steps:
        ledger.advance("a", Status(step), attempt=1)
    with pytest.raises(
        InvalidRequestError, match=f"is {steps[-1]}; only requests that are held, received, rolled-back"
    ):
        ledger.withdraw("a")
    assert (ledger.entry("a").status, ledger.release_due()) == (steps[-1], [])


def test_a_held_request_goes_on_when_it_is_approved(ledger: Ledger) -> None:
    received(ledger, "held", "early", "ended")
    ledger.advance("held", Status.HELD, attempt=0, reason="asks for 60 % of class 3")
    ledger.approve("held")
    ledger.approve("early")
    ledger.approve("early")
    assert [(entry.id, entry.status, entry.approved) for entry in ledger.entries()] == [
        ("held", "received", True),
        ("early", "received", True),
        ("ended", "received", False),
    ]
    assert [event.name for event in ledger.events("early")] == ["received", "approved"]
    ledger.withdraw("ended")
    with pytest.raises(InvalidRequestError, match="request 'ended' is withdrawn; nothing is left to approve"):
        ledger.approve("ended")


@pytest.mark.parametrize("act", [Ledger.withdraw, Ledger.approve, Ledger.released, Ledger.entry])
def test_a_request_that_is_not_there(ledger: Ledger, act: Callable[[Ledger, str], object]) -> None:
    with pytest.raises(InvalidRequestError, match="request 'r7' is not in the ledger"):
        act(ledger, "r7")


def test_state_is_kept_and_is_no_event(ledger: Ledger) -> None:
    value = {"z": [1, 2.5, None, "ü"], "a": {"nested": True}}
    ledger.set_state("timeline", value)
    ledger.set_state("other", 0)
    reopened = Ledger(ledger.path)
    assert reopened.state("timeline") == value and list(value) == ["z", "a"] and reopened.state("other") == 0
    reopened.set_state("timeline", None)
    reopened.close()
    assert ledger.state("timeline") is None and ledger.state("never") is None and ledger.events() == []


def test_clients_are_met_once_and_depart_for_good(ledger: Ledger) -> None:
    ledger.meet(["7", "12", "7"])
    ledger.meet(["12", "clinic"])
    ledger.depart("12")
    ledger.depart("12")
    ledger.depart("never met")
    ledger.confirm_tombstones("7", "old")
    ledger.confirm_tombstones("new", "digest")
    ledger.confirm_tombstones("7", "young")
    assert ledger.known_clients() == ["12", "7", "clinic", "never met", "new"]
    assert ledger.departed() == {"12", "never met"}
    assert ledger.confirmed_tombstones() == {"7": "young", "new": "digest"}
    assert [event.name for event in ledger.events()] == ["client-departed"] * 2 + ["tombstones-confirmed"] * 3


def test_holders_that_were_offline_are_owed_until_they_know(ledger: Ledger) -> None:
    received(ledger, "b", "a")
    ledger.owe("b", ["9", "10"])
    ledger.owe("b", ["10"])
    ledger.owe("a", ["10"])
    assert (ledger.owed_requests("10"), ledger.owed_requests("9"), ledger.owed_requests("1")) == (["b", "a"], ["b"], [])
    assert {entry.id: entry.owed for entry in ledger.entries()} == {"b": ("10", "9"), "a": ("10",)}
    ledger.settle_owed("b", "10")
    ledger.settle_owed("b", "10")
    assert (ledger.owed_requests("10"), ledger.entry("b").owed) == (["a"], ("9",))
    assert [event.name for event in ledger.events("b")] == ["received", "owed", "owed", "owed-settled"]
    with pytest.raises(InvalidRequestError, match="request 'zzz' is not in the ledger"):
        ledger.owe("zzz", ["9"])


@pytest.mark.parametrize("name", ["committed", "received", "approved", "model-accepted"])
def test_what_the_ledger_writes_itself_is_not_noted(ledger: Ledger, name: str) -> None:
    with pytest.raises(InvalidParameterError, match=f"event name '{name}' was given; the ledger writes"):
        ledger.note(name, {})
    assert ledger.events() == []


def test_another_thread_is_refused(ledger: Ledger) -> None:
    caught: list[BaseException] = []

    def use() -> None:
        try:
            ledger.receive(ForgetRequest.for_class(1))
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert isinstance(caught[0], FedUnlearnError) and "thread" in str(caught[0])
    assert ledger.entries() == []


def test_a_ledger_that_must_be_there_already_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(FedUnlearnError, match="not a ledger"):
        Ledger(tmp_path / "none" / "ledger.db", create=False)
    (tmp_path / "empty.db").touch()
    with pytest.raises(FedUnlearnError, match=r"empty\.db: not a ledger: an empty file"):
        Ledger(tmp_path / "empty.db", create=False)
    assert [path.name for path in tmp_path.iterdir()] == ["empty.db"]
    assert (tmp_path / "empty.db").stat().st_size == 0
    Ledger(tmp_path / "empty.db").close()
    Ledger(tmp_path / "empty.db", create=False).close()


def test_the_file_is_as_durable_as_it_says(ledger: Ledger) -> None:
    pragmas = [ledger._connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
    assert pragmas == ["wal", 2]
    assert sqlite3.connect(ledger.path).execute("PRAGMA user_version").fetchone() == (3,)


def test_an_id_belongs_to_the_key_that_showed_it_first_until_it_is_rebound(ledger: Ledger) -> None:
    assert ledger.client_key("charite") is None
    ledger.bind_client("charite", "ab" * 32)
    ledger.bind_client("charite", "ab" * 32)
    with pytest.raises(InvalidParameterError, match="client 'charite' is bound to the key abababababab"):
        ledger.bind_client("charite", "cd" * 32)
    assert ledger.client_key("charite") == "ab" * 32
    ledger.rebind_client("charite", None)
    assert ledger.client_key("charite") is None and ledger.verify().problem is None
    ledger.bind_client("charite", "cd" * 32)
    ledger.rebind_client("charite", "ef" * 32)
    assert ledger.client_key("charite") == "ef" * 32 and ledger.verify().problem is None
    bound = [event.facts["key"] for event in ledger.events() if event.name == "client-bound"]
    assert bound == ["ab" * 32, None, "cd" * 32, "ef" * 32]
    with pytest.raises(FedUnlearnError, match="client 'nobody' is not in the ledger"):
        ledger.rebind_client("nobody", None)


def test_what_a_client_identified_with_is_kept(ledger: Ledger) -> None:
    assert ledger.claims_of("charite") is None
    ledger.note_claims("charite", {"samples": 40, "classes": [10, 30]})
    assert ledger.claims_of("charite") == {"samples": 40, "classes": [10, 30]}
    ledger.note_claims("charite", {"samples": 41})
    assert ledger.claims_of("charite") == {"samples": 41} and ledger.known_clients() == ["charite"]
