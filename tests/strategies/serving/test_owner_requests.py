"""Owners of clients' data ask at their nodes: real messages, real stores, and every request once, whatever fails."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from fault_trials import PLAN, Trial, trained
from faulty_grid import Change
from flwr.app import ConfigRecord, Message
from shared_requests import asked, second_ledger, statuses

from fed_unlearn import protocol
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.owner import OwnerAnswer, OwnerQueue, OwnerRequest, QueuedRequest, new_request
from fed_unlearn.protocol.owners import OwnerNote
from fed_unlearn.requests import ClientScope, ForgetRequest, SampleScope
from fed_unlearn.simulations.report.owner_tables import reason_text
from fed_unlearn.strategies import Holds, OwnerLimits


def queue_of(trial: Trial, client: int) -> OwnerQueue:
    """The queue as the owner's command opens it: nothing is remembered."""
    return OwnerQueue(trial.folder / "clients" / str(client))


def some_ids(trial: Trial, client: int, count: int = 2) -> list[str]:
    return sorted(trial.ids_of(client))[:count]


def only(queue: OwnerQueue) -> OwnerRequest:
    [request] = queue.requests()
    return request


def told(queue: OwnerQueue) -> OwnerAnswer:
    """What the only server made of the only request."""
    [answer] = only(queue).answers.values()
    return answer


def saying(*items: QueuedRequest) -> Change:
    """Let a reply say that its owner has queued this."""

    def changed(reply: Message) -> None:
        protocol.write_owner_note(reply, OwnerNote(queued=items))

    return changed


def test_samples_are_forgotten_and_the_node_has_the_figures(tmp_path: Path) -> None:
    trial = trained(tmp_path)
    ids, queue = some_ids(trial, 2), queue_of(trial, 2)
    request_id = queue.add(new_request("samples", ids))
    trial.trained_on()
    asked(trial)
    trial.train(1)
    assert not trial.trained_on() & set(ids), "out of training from the first message on"
    [entry] = trial.strategy.ledger.entries()
    assert entry.status is Status.COMMITTED
    assert entry.request.scope == SampleScope("2", count=2, queued=request_id)
    stored = trial.stored(2)[entry.id]
    assert sorted(stored["sample_ids"]) == ids and stored["tombstoned"]  # type: ignore[call-overload]
    answer, outcome = told(queue), entry.outcome or {}
    assert (answer.status, answer.request, answer.attempts) == ("committed", entry.id, 1)
    assert answer.figures["after/forget_accuracy"] == outcome["after"]["forget_accuracy"]  # type: ignore[index]
    assert answer.figures["before/retain_accuracy"] == outcome["before"]["retain_accuracy"]  # type: ignore[index]
    assert trial.strategy.ledger.verify().problem is None


def test_it_costs_one_message_more_and_nothing_where_nobody_asks(tmp_path: Path) -> None:
    trial = trained(tmp_path)
    asked(trial)
    trial.train(1)
    assert asked(trial)[protocol.REQUESTS] == 0
    queue_of(trial, 1).add(new_request("samples", some_ids(trial, 1)))
    trial.serve()
    assert asked(trial)[protocol.REQUESTS] == 1, "the end is told at once"
    trial.serve()
    assert asked(trial)[protocol.REQUESTS] == 0, "and only once"


def test_a_class_is_forgotten_at_the_owners_client_alone(tmp_path: Path) -> None:
    trial = trained(tmp_path)
    queue = queue_of(trial, 1)
    queue.add(new_request("class", of_class=3, goal="relabel"))
    trial.trained_on()
    trial.train(1)
    seen = trial.trained_on()
    assert not seen & trial.ids_of_class(1, 3) and trial.ids_of_class(0, 3) <= seen
    [entry] = trial.strategy.ledger.entries()
    assert entry.status is Status.COMMITTED and entry.request.parameters["goal"] == "relabel"
    assert entry.request.scope == SampleScope("1", (), len(trial.ids_of_class(1, 3)), 3, only(queue).id)
    assert trial.strategy.ledger.forgotten_classes() == frozenset()
    assert told(queue).status == "committed"


def test_a_client_leaves_at_its_owners_word_and_is_told_so(tmp_path: Path) -> None:
    trial = trained(tmp_path)
    queue = queue_of(trial, 3)
    queue.add(new_request("all"))
    trial.trained_on()
    trial.train(1)
    [entry] = trial.strategy.ledger.entries()
    assert entry.request.scope == ClientScope("3") and entry.status is Status.COMMITTED
    assert trial.strategy.ledger.departed() == {"3"}
    answer = told(queue)
    assert answer.status == "committed" and answer.figures["after/forget_accuracy"] is not None
    again = queue.add(new_request("class", of_class=1))
    trial.restart()
    trial.train(1)
    assert "forgotten already" in next(iter(queue.find(again).answers.values())).reason


def test_unknown_ids_are_refused_at_both_ends_and_named_to_the_owner_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trial = trained(tmp_path)
    queue = queue_of(trial, 2)
    queue.add(new_request("samples", [*some_ids(trial, 2), "no-such-sample"]))
    trial.serve()
    assert trial.strategy.ledger.entries() == []
    [event] = [event for event in trial.strategy.ledger.events() if event.name == "owner-request-refused"]
    assert event.facts["owner-request"] == only(queue).id
    assert (told(queue).status, told(queue).reason) == (
        "refused",
        "1 of its 3 sample ids are no training samples of this client",
    )
    assert not [record for record in caplog.records if "no-such-sample" in record.getMessage()]
    assert "fed-unlearn forget --status names them" in caplog.text
    assert only(queue).unknown_ids == ("no-such-sample",)
    assert "unknown: 'no-such-sample'" in reason_text(only(queue), told(queue))
    assert "no-such-sample" not in (tmp_path / "server" / "ledger.db").read_bytes().decode("latin-1")
    trial.trained_on()
    trial.train(1)
    assert set(some_ids(trial, 2)) <= trial.trained_on(), "nothing of it is taken out of training"


def test_samples_that_are_forgotten_already_count_as_done(tmp_path: Path) -> None:
    trial = trained(tmp_path)
    ids, queue = some_ids(trial, 2, 4), queue_of(trial, 2)
    queue.add(new_request("samples", ids[:2]))
    trial.serve()
    again = queue.add(new_request("samples", ids))
    trial.serve()
    [_, entry] = trial.strategy.ledger.entries()
    assert entry.status is Status.COMMITTED and (entry.outcome or {})["already_forgotten"] == 2
    [answer] = queue.find(again).answers.values()
    assert answer.status == "committed" and answer.reason == "2 of its 4 samples were forgotten already"
    assert sorted(trial.stored(2)[entry.id]["sample_ids"]) == ids[2:]  # type: ignore[call-overload]
    queue.add(third := new_request("samples", ids[1:3]))
    trial.serve()
    assert trial.strategy.ledger.entries()[-1].status is Status.REJECTED
    [answer] = queue.find(third.id).answers.values()
    assert answer.reason.endswith("are all forgotten already")
    trial.trained_on()
    trial.train(1)
    assert not trial.trained_on() & set(ids)


def test_what_waits_for_approval_says_so_at_the_node(tmp_path: Path) -> None:
    trial = trained(tmp_path, plan=replace(PLAN, holds=Holds(of_client=0.01)))
    queue = queue_of(trial, 2)
    queue.add(new_request("samples", some_ids(trial, 2, 5)))
    trial.serve()
    assert told(queue).status == "held" and "needs approval" in told(queue).reason
    [entry] = trial.strategy.ledger.entries()
    with second_ledger(trial) as ledger:
        ledger.approve(entry.id)
    trial.serve()
    assert told(queue).status == "committed"


def test_a_withdrawn_request_is_used_again(tmp_path: Path) -> None:
    trial = trained(tmp_path, plan=replace(PLAN, holds=Holds(of_client=0.01)))
    ids, queue = some_ids(trial, 2, 5), queue_of(trial, 2)
    request_id = queue.add(new_request("samples", ids))
    trial.serve()
    trial.trained_on()
    trial.train(1)
    assert not trial.trained_on() & set(ids), "the node knows what its owner wants, approved or not"
    queue.withdraw(request_id)
    trial.restart()  # the next messages ask who is there: the reply says that it is withdrawn
    trial.serve()
    assert told(queue).status == "withdrawn" and set(statuses(trial).values()) == {"withdrawn"}
    trial.train(1)
    assert set(ids) <= trial.trained_on()


def test_more_than_a_client_may_ask_for_is_refused_at_both_ends(tmp_path: Path) -> None:
    limits = OwnerLimits(open=2, per_day=3)
    trial = trained(tmp_path, plan=replace(PLAN, holds=Holds(of_client=0.0), owners=limits))
    queue, ids = queue_of(trial, 2), sorted(trial.ids_of(2))
    for position in range(3):
        queue.add(new_request("samples", [ids[position]]))
    trial.serve()
    answers = [next(iter(request.answers.values())) for request in queue.requests()]
    assert [answer.status for answer in answers] == ["held", "held", "refused"]
    assert "2 requests of this client's owner are open, and 2 are allowed" in answers[2].reason
    for entry in trial.strategy.ledger.entries():
        trial.strategy.ledger.withdraw(entry.id)
    late = queue.add(new_request("samples", [ids[4]]))
    trial.restart()
    trial.serve()
    assert "3 are allowed" in next(iter(queue.find(late).answers.values())).reason
    names = [event.name for event in trial.strategy.ledger.events() if event.name.startswith("owner-request")]
    assert names == ["owner-request-received"] * 2 + ["owner-request-refused"] * 2


@pytest.mark.parametrize("kind", ["raises", "silent", "late", "twice"])
@pytest.mark.parametrize("message_type", [protocol.IDENTIFY, protocol.UNLEARN, protocol.CONFIRM, protocol.REQUESTS])
def test_whatever_answer_is_lost_the_request_is_served_once(tmp_path: Path, kind: str, message_type: str) -> None:
    trial = trained(tmp_path)
    queue = queue_of(trial, 2)
    queue.add(new_request("samples", some_ids(trial, 2)))
    trial.restart()
    trial.grid.fault(kind, 2, message_type, times=1)
    for _ in range(3):
        trial.serve()
        trial.restart()
    trial.grid.heal()
    trial.serve()
    events = [event.name for event in trial.strategy.ledger.events()]
    assert events.count("received") == events.count("committed") == events.count("owner-request-received") == 1
    assert told(queue).status == "committed"


def test_a_crash_between_the_ledger_and_the_answer_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """The server dies in the transaction that takes the request in, then right after it; the node dies too."""
    trial = trained(tmp_path)
    queue = queue_of(trial, 2)
    queue.add(new_request("samples", some_ids(trial, 2)))
    ledger, save = trial.strategy.ledger, trial.strategy.ledger.set_state

    def dies(name: str, value: object) -> None:
        if name.startswith("owner-requests"):
            raise KeyboardInterrupt
        save(name, value)

    ledger.set_state = dies  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        trial.serve()
    assert ledger.entries() == [], "all of it or nothing"
    trial.restart()
    trial.grid.fault("deaf", 2, protocol.UNLEARN)
    trial.grid.fault("deaf", 2, protocol.REQUESTS)
    trial.serve()
    assert [entry.status for entry in trial.strategy.ledger.entries()] == [Status.WAITING]
    trial.grid.heal()
    trial.restart()
    trial.serve()
    assert told(queue).status == "committed"
    assert [event.name for event in trial.strategy.ledger.events()].count("received") == 1


def test_an_older_copy_of_the_ledger_hears_of_what_is_open_again(tmp_path: Path) -> None:
    trial = trained(tmp_path, plan=replace(PLAN, holds=Holds(of_client=0.0)))
    path = trial.strategy.ledger.path
    copy = trial.strategy.ledger.backup(path.with_name("older.db"))
    queue = queue_of(trial, 2)
    queue.add(new_request("samples", some_ids(trial, 2)))
    trial.serve()
    before = trial.strategy.ledger.entries()[0].id
    trial.strategy.ledger.close()
    for leftover in path.parent.glob("ledger.db-*"):
        leftover.unlink()
    copy.replace(path)
    trial.restart()
    assert trial.strategy.ledger.entries() == []
    trial.serve()
    assert [entry.id for entry in trial.strategy.ledger.entries()] == [before]


def test_nobody_asks_in_the_name_of_another(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A node's letter speaks for the client that the node is; the same ids at two clients are two requests."""
    trial = trained(tmp_path, plan=replace(PLAN, holds=Holds(of_client=0.0)))
    item = QueuedRequest(owner_request="0" * 16, kind="all")
    trial.restart()
    for client in (1, 3):
        trial.grid.spoil(saying(item), client, protocol.IDENTIFY)
    trial.serve()
    entries = trial.strategy.ledger.entries()
    assert [entry.request.scope for entry in entries] == [ClientScope("1"), ClientScope("3")]
    references = [trial.strategy.ledger.client_reference(client) for client in ("1", "3")]
    assert [entry.id for entry in entries] == [f"owner-{reference}-{'0' * 16}" for reference in references]

    def claims_another(reply: Message) -> None:
        saying(QueuedRequest(owner_request="1" * 16, kind="all"))(reply)
        reply.content[protocol.STAMP_KEY] = ConfigRecord({**reply.content[protocol.STAMP_KEY], "client_id": "2"})

    trial.grid.heal()
    trial.grid.spoil(claims_another, 1, protocol.AUDIT)
    trial.serve(ForgetRequest.for_samples(0, count=1, id="of-the-operator"))
    assert len(trial.strategy.ledger.entries()) == 3, "a reply in another's name asks for nothing"


HOSTILE = {
    "a count beyond what it holds": saying(QueuedRequest(owner_request="a" * 16, kind="samples", count=10**9)),
    "a class beyond the data": saying(QueuedRequest(owner_request="a" * 16, kind="class", of_class=77, count=3)),
    "more of a class than it holds": saying(QueuedRequest(owner_request="a" * 16, kind="class", of_class=1, count=60)),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_cannot_be_true_is_refused(tmp_path: Path, kind: str) -> None:
    trial = trained(tmp_path)
    trial.restart()
    trial.grid.spoil(HOSTILE[kind], 2, protocol.IDENTIFY)
    trial.serve()
    assert trial.strategy.ledger.entries() == []
    assert [event.name for event in trial.strategy.ledger.events()].count("owner-request-refused") == 1


def test_what_cannot_be_read_is_named_and_stops_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trial = trained(tmp_path)

    def spoiled(reply: Message) -> None:
        body = {"queued": [{"owner_request": "x", "kind": "all\x1b", "sample_ids": ["canary"]}] * 99}
        reply.content[protocol.QUEUED_KEY] = ConfigRecord({"note": json.dumps(body)})

    for message_type in (protocol.IDENTIFY, protocol.TRAIN, protocol.AUDIT):
        trial.grid.spoil(spoiled, 2, message_type)
    trial.restart()
    trial.trained_on()
    trial.train(1)
    assert trial.strategy.ledger.entries() == [] and trial.ids_of(2) <= trial.trained_on()
    lines = [line for line in caplog.messages if "cannot be read of its owner's requests" in line]
    assert len(lines) == 1 and "canary" not in lines[0] and "client 2" in lines[0]


def test_a_flood_of_refused_requests_ends(tmp_path: Path) -> None:
    trial = trained(tmp_path, plan=replace(PLAN, owners=OwnerLimits(open=0, per_day=4)))
    for wave in range(3):
        items = [QueuedRequest(owner_request=f"{wave:x}{number:015x}", kind="all") for number in range(32)]
        trial.restart()
        trial.grid.heal()
        trial.grid.spoil(saying(*items), 2, protocol.IDENTIFY)
        trial.serve()
    names = [event.name for event in trial.strategy.ledger.events()]
    assert names.count("owner-request-refused") == 4 and trial.strategy.ledger.entries() == []


def test_a_request_whose_queue_was_lost_is_rejected_and_nothing_else_is_forgotten(tmp_path: Path) -> None:
    trial = trained(tmp_path)
    queue = queue_of(trial, 2)
    queue.add(new_request("samples", some_ids(trial, 2)))
    trial.restart()

    def lose(client: int, reply: Message) -> None:
        if client == 2:
            (tmp_path / "clients" / "2" / "owner.json").unlink(missing_ok=True)

    trial.grid.watch(protocol.IDENTIFY, lose)
    trial.serve()
    [entry] = trial.strategy.ledger.entries()
    assert entry.status is Status.REJECTED and "is not queued at this client" in (entry.reason or "")
    assert trial.stored(2) == {}
