"""What a node is told of its owner's requests: nothing of other clients, and always something that it can read."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fault_trials import PLAN, Trial, trained
from flwr.app import Message

from fed_unlearn import protocol
from fed_unlearn.ledger import LedgerEntry
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.owner import OwnerAnswer, OwnerQueue, new_request
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies import Holds
from fed_unlearn.strategies.clients.messages.owners import MadeAnswers
from fed_unlearn.strategies.serving.owner_answers import figures_of, reason_for


def queue_of(trial: Trial, client: int) -> OwnerQueue:
    return OwnerQueue(trial.folder / "clients" / str(client))


def told(queue: OwnerQueue) -> OwnerAnswer:
    """What the only server made of the only request."""
    [request] = queue.requests()
    [answer] = request.answers.values()
    return answer


def held(trial: Trial, client: int, count: int = 2) -> OwnerQueue:
    """Queue a request, and let the server hold it."""
    queue = queue_of(trial, client)
    queue.add(new_request("samples", sorted(trial.ids_of(client))[:count]))
    trial.serve()
    return queue


def let_fail(trial: Trial, reason: str, method: str = "instance-wise", **outcome: object) -> None:
    """End the only request as a server might, with a reason and figures of any kind."""
    [entry] = trial.strategy.ledger.entries()
    ledger = trial.strategy.ledger
    ledger.approve(entry.id)
    ledger.advance(entry.id, Status.UNLEARNING, attempt=1, method=method)
    ledger.advance(entry.id, Status.ROLLED_BACK, attempt=1, reason=reason)
    ledger.finish(entry.id, Status.FAILED, attempt=1, reason=reason, outcome=outcome)


@pytest.mark.parametrize("reason", ["x" * 20_000, "\x1b" * 5000, "client 2: " + "é" * 5000, "client 2: \u202e" * 999])
def test_no_reason_of_the_ledger_ends_the_server(tmp_path: Path, reason: str) -> None:
    trial = trained(tmp_path, plan=replace(PLAN, holds=Holds(of_client=0.0)))
    queue = held(trial, 2)
    figures = {"forget_accuracy": math.inf, "x" * 500: 1.0, "no": "number", "yes": True, "big": 10**400, "fine": 0.5}
    let_fail(trial, reason, "m" * 500, evidence="\x07" * 60, before=figures, after={"forget_accuracy": math.nan})
    trial.serve()
    trial.restart()
    trial.train(1)
    answer = told(queue)
    assert answer.status == "failed" and len(answer.reason) <= 400 and answer.reason.isprintable()
    assert answer.figures["before/fine"] == 0.5 and len(answer.figures) == 2
    assert len(answer.method) == 64 and answer.evidence.isprintable()


def test_an_answer_that_cannot_be_made_does_not_hide_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = trained(tmp_path, plan=replace(PLAN, holds=Holds(of_client=0.0)))
    queue = queue_of(trial, 2)
    first, second = (queue.add(new_request("samples", [name])) for name in sorted(trial.ids_of(2))[:2])
    bad = trial.strategy.ledger.client_reference("2") + "-" + first
    entry_of = type(trial.strategy.ledger).entry

    def entry(ledger: object, name: str) -> LedgerEntry:
        found = entry_of(ledger, name)  # type: ignore[arg-type]
        return replace(found, attempt=-1) if name.endswith(bad) else found

    monkeypatch.setattr(type(trial.strategy.ledger), "entry", entry)
    trial.serve()
    answers = {request.id: next(iter(request.answers.values())) for request in queue.requests()}
    assert {name: answer.status for name, answer in answers.items()} == {first: "held", second: "held"}
    assert "the operator sees it" in answers[first].reason and "needs approval" in answers[second].reason


def recorded_answers(trial: Trial, client: int) -> list[str]:
    """A list that fills with all that goes to a client about its owner's requests from now on."""
    found: list[str] = []
    send = trial.grid.send_and_receive

    def noting(messages: list[Message], *, timeout: float | None = None) -> object:
        sent = list(messages)
        for message in sent:
            if message.metadata.dst_node_id == client + 1 and protocol.ANSWERS_KEY in message.content:
                found.append(str(dict(message.content[protocol.ANSWERS_KEY])))
        return send(sent, timeout=timeout)

    trial.grid.send_and_receive = noting  # type: ignore[method-assign,assignment]
    return found


def refuses_with(text: str) -> Callable[[Message], None]:
    """Let a reply be an error of a client that tells what nobody else should read."""

    def changed(reply: Message) -> None:
        refusal = protocol.Refusal(reason=text, invalid_request=False)
        reply.content = protocol.refuse(reply, refusal).content

    return changed


@pytest.mark.parametrize("message_type", [protocol.UNLEARN, protocol.CONFIRM, protocol.AUDIT])
@pytest.mark.parametrize("kind", ["tells", "silent", "gone"])
def test_what_another_client_says_or_does_reaches_no_node(tmp_path: Path, message_type: str, kind: str) -> None:
    """Two owners' requests share one attempt, and one of the two clients fails in the middle of it."""
    trial = trained(tmp_path)
    queues = {client: queue_of(trial, client) for client in (1, 2)}
    for client, queue in queues.items():
        queue.add(new_request("samples", sorted(trial.ids_of(client))[:2]))
    sent = recorded_answers(trial, 2)
    if kind == "tells":
        trial.grid.spoil(refuses_with("CANARY of client 1"), 1, message_type)
    else:
        trial.grid.fault("silent" if kind == "silent" else "leaves", 1, message_type)
    for _ in range(2):
        try:
            trial.serve()
        except Exception as error:  # that nobody can be audited is the operator's to see
            assert "CANARY" in str(error) or "client" in str(error)
        trial.restart()
        trial.grid.gone.clear()
    assert sent, "something was told"
    for text in sent:
        assert "CANARY" not in text and "client 1" not in text and "clients" not in text


def entry_with(status: Status, reason: str, attempt: int = 0) -> LedgerEntry:
    return LedgerEntry(ForgetRequest.for_samples("2", count=1, id="r"), status, attempt, reason)


@pytest.mark.parametrize("status", list(Status))
@pytest.mark.parametrize(
    "reason",
    [
        "client site-b: no GPU at /home/b",
        "no client could be audited; client site-b: secret",
        "client 2: fails; client site-b: secret",
        "client 2 is not reachable; client site-b is not reachable",
        "the figures of clients site-b are doubted",
        "client 22 is not reachable: site-b",
    ],
)
def test_reasons_with_other_clients_become_phrases(status: Status, reason: str) -> None:
    shown = reason_for(entry_with(status, reason, attempt=1), "2")
    if status is Status.REJECTED and reason.startswith("client 2: "):  # the client's own words, which only it can write
        assert shown == reason
        return
    assert (
        "site-b" not in shown
        and "22" not in shown
        and shown.endswith(("the operator sees why", "for what", "operator"))
    )


def test_reasons_of_the_own_client_stay() -> None:
    own = "client 2: the owner has withdrawn request r"
    assert reason_for(entry_with(Status.REJECTED, own), "2") == own
    assert reason_for(entry_with(Status.WAITING, "client 2 is not reachable"), "2") == "client 2 is not reachable"
    assert reason_for(entry_with(Status.COMMITTED, ""), "2") == ""


def test_figures_that_are_no_finite_numbers_are_left_out() -> None:
    figures = {"a": math.nan, "b": -math.inf, "c": True, "d": "1", "e": 10**400, "f": 1}
    assert figures_of({"after": figures, "before": [1.0]}) == {"after/f": 1.0}


def test_what_has_ended_and_is_known_is_not_looked_up_again(tmp_path: Path) -> None:
    trial = trained(tmp_path)
    queue = queue_of(trial, 2)
    queue.add(new_request("samples", sorted(trial.ids_of(2))[:2]))
    trial.serve()
    looked_up: list[str] = []
    made = MadeAnswers()
    [entry] = trial.strategy.ledger.entries()

    def make() -> OwnerAnswer:
        looked_up.append(entry.id)
        return OwnerAnswer(owner_request="0" * 16, status="committed", attempts=len(looked_up))

    ledger = trial.strategy.ledger
    first = made.digest(ledger, entry.id, make)
    ledger.note("of-something-else", {})
    ledger.note("relapsed", {}, request_id="another")
    assert made.digest(ledger, entry.id, make) == first and len(looked_up) == 1
    ledger.note("relapsed", {}, request_id=entry.id)
    assert made.digest(ledger, entry.id, make) != first and len(looked_up) == 2
    made.digest(ledger, entry.id, make)
    assert len(looked_up) == 2


def test_what_an_undone_transaction_had_said_is_made_anew(tmp_path: Path) -> None:
    trial = trained(tmp_path, plan=replace(PLAN, holds=Holds(of_client=0.0)))
    held(trial, 2)
    ledger, made = trial.strategy.ledger, MadeAnswers()
    [entry] = ledger.entries()

    def make() -> OwnerAnswer:
        return OwnerAnswer(owner_request="0" * 16, status=str(ledger.entry(entry.id).status))

    before = made.digest(ledger, entry.id, make)
    with pytest.raises(KeyboardInterrupt), ledger.transaction():
        ledger.withdraw(entry.id)
        assert made.digest(ledger, entry.id, make) != before
        raise KeyboardInterrupt
    assert made.digest(ledger, entry.id, make) == before
    with pytest.raises(KeyboardInterrupt), ledger.transaction():
        ledger.withdraw(entry.id)
        assert made.digest(ledger, entry.id, make) != before
        raise KeyboardInterrupt
    ledger.note("of-something-else", {})
    assert made.digest(ledger, entry.id, make) == before, "the same number of events, and another event"


def test_a_relapse_is_told_though_the_end_was(tmp_path: Path) -> None:
    trial = trained(tmp_path)
    queue = queue_of(trial, 2)
    queue.add(new_request("samples", sorted(trial.ids_of(2))[:2]))
    trial.serve()
    assert (told(queue).status, told(queue).relapses) == ("committed", 0)
    [entry] = trial.strategy.ledger.entries()
    trial.strategy.ledger.note("relapsed", {}, request_id=entry.id)
    trial.serve()
    assert (told(queue).status, told(queue).relapses) == ("committed", 1)


@pytest.mark.parametrize("of_class", [False, True])
def test_after_the_commit_only_the_store_has_the_ids_and_a_relapse_is_mended(tmp_path: Path, of_class: bool) -> None:
    trial = trained(tmp_path)
    queue, ids = queue_of(trial, 2), set(sorted(trial.ids_of_class(2, 3))[: None if of_class else 2])
    request_id = (
        queue.add(new_request("class", of_class=3)) if of_class else queue.add(new_request("samples", sorted(ids)))
    )
    trial.serve()
    trial.trained_on()
    trial.train(1)
    request = queue.find(request_id)
    assert told(queue).status == "committed" and (request.sample_ids, request.count) == ((), len(ids))
    assert not trial.trained_on() & ids
    [entry] = trial.strategy.ledger.entries()
    trial.strategy.ledger.advance(entry.id, Status.REOPENED, attempt=entry.attempt, reason="it has relapsed")
    trial.serve()
    assert trial.status(entry.id) is Status.COMMITTED and told(queue).attempts == 2
    assert set(trial.stored(2)[entry.id]["sample_ids"]) == ids  # type: ignore[call-overload]
    trial.trained_on()
    trial.train(1)
    assert not trial.trained_on() & ids
