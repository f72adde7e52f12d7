"""An owner asks that all of a client is forgotten: none of it is trained on from then on, and it can be unlearned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fault_trials import PLAN, Trial, evaluating, trained
from flwr.app import ConfigRecord, Message, RecordDict
from shared_requests import second_ledger

from fed_unlearn import protocol
from fed_unlearn.arrays import unpack
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.owner import OwnerAnswer, OwnerQueue, new_request
from fed_unlearn.requests import ClientScope, ForgetRequest
from fed_unlearn.strategies import Holds, OwnerLimits

HELD = replace(PLAN, holds=Holds(of_client=0.5))


def queue_of(trial: Trial, client: int) -> OwnerQueue:
    return OwnerQueue(trial.folder / "clients" / str(client))


def told(queue: OwnerQueue) -> OwnerAnswer:
    """What the only server made of the newest request."""
    [answer] = queue.requests()[-1].answers.values()
    return answer


def is_out(trial: Trial, client: int) -> bool:
    """Train once more, and say whether the client's samples were in no batch; all others train."""
    trial.trained_on()
    trial.train(1)
    seen = trial.trained_on()
    for other in {0, 1, 2, 3} - {client}:
        assert trial.ids_of(other) <= seen, f"client {other} trains"
    return not seen & trial.ids_of(client)


@pytest.mark.parametrize("method", ["retrain", "fedosd", "projected-ascent"])
def test_nothing_is_trained_on_while_it_is_held_and_it_is_served_when_approved(tmp_path: Path, method: str) -> None:
    plan = replace(HELD, client_method=method)
    trial = trained(tmp_path, plan=plan)
    queue = queue_of(trial, 2)
    queue.add(new_request("all"))
    assert is_out(trial, 2), "from the node's next message on"
    assert is_out(trial, 2), "while it is held"
    [entry] = trial.strategy.ledger.entries()
    assert entry.request.scope == ClientScope("2") and entry.status is Status.HELD and told(queue).status == "held"
    with second_ledger(trial) as ledger:
        ledger.approve(entry.id)
    assert is_out(trial, 2)
    assert told(queue).status == "committed", trial.reason(entry.id)
    assert trial.strategy.ledger.departed() == {"2"}
    stored = trial.stored(2)[entry.id]
    assert set(stored["sample_ids"]) == trial.ids_of(2) and stored["tombstoned"]  # type: ignore[call-overload]
    assert is_out(trial, 2), "and after"


def test_the_unlearning_itself_is_what_an_operators_request_would_bring(tmp_path: Path) -> None:
    """The way in which a request came makes no difference: leaving clients' samples are read, not trained on."""
    trial = trained(tmp_path / "owner", plan=replace(PLAN, client_method="fedosd"))
    queue_of(trial, 2).add(new_request("all"))
    trial.restart()
    of_owner = trial.serve().arrays
    [entry] = trial.strategy.ledger.entries()
    other = trained(tmp_path / "operator", plan=replace(PLAN, client_method="fedosd"))
    of_operator = other.serve(ForgetRequest.for_client(2, id=entry.id)).arrays
    assert entry.status is Status.COMMITTED and other.status(entry.id) is Status.COMMITTED
    owners, operators = unpack(of_owner), unpack(of_operator)
    assert all((owners[key] == operators[key]).all() for key in operators)


def test_a_server_that_has_not_heard_of_it_gets_no_model_either(tmp_path: Path) -> None:
    trial = trained(tmp_path, plan=HELD, new_inner=evaluating)
    queue_of(trial, 2).add(new_request("all"))
    replies: list[bool] = []
    trial.grid.watch(protocol.TRAIN, lambda client, reply: replies.append(bool(reply.content.array_records)))
    assert is_out(trial, 2)
    assert replies.count(False) == 1 and replies.count(True) == 3
    assert [entry.status for entry in trial.strategy.ledger.entries()] == [Status.HELD], "the reply told of it"


def test_it_trains_again_when_the_request_has_come_to_nothing(tmp_path: Path) -> None:
    trial = trained(tmp_path, plan=HELD)
    queue = queue_of(trial, 2)
    request_id = queue.add(new_request("all"))
    assert is_out(trial, 2)
    queue.withdraw(request_id)
    trial.restart()  # the next messages ask who is there: the reply says that it is withdrawn
    trial.serve()
    assert told(queue).status == "withdrawn" and not is_out(trial, 2)


def test_what_is_more_than_a_client_may_ask_for_is_used_again(tmp_path: Path) -> None:
    trial = trained(tmp_path, plan=replace(PLAN, owners=OwnerLimits(open=0, per_day=4)))
    queue = queue_of(trial, 2)
    queue.add(new_request("all"))
    trial.serve()
    assert told(queue).status == "refused" and not is_out(trial, 2)


def test_a_request_of_the_operator_is_served_meanwhile(tmp_path: Path) -> None:
    """The client's samples of a class are read to be forgotten, and none of its others is trained on for that."""
    trial = trained(tmp_path, plan=HELD)
    queue_of(trial, 2).add(new_request("all"))
    trial.serve()
    trial.trained_on()
    trial.serve(ForgetRequest.for_class(3, id="of-the-operator"))
    assert trial.status("of-the-operator") is Status.COMMITTED
    assert trial.trained_on() & trial.ids_of(2) <= trial.ids_of_class(2, 3), "under guard labels alone"
    assert set(trial.stored(2)["of-the-operator"]["sample_ids"]) == trial.ids_of_class(2, 3)  # type: ignore[call-overload]


def test_a_server_without_a_ledger_gets_an_error(tmp_path: Path) -> None:
    trial = trained(tmp_path, plan=HELD)
    queue_of(trial, 2).add(new_request("all"))
    content = RecordDict({"config": ConfigRecord({"server-round": 1})})
    [reply] = trial.federation.grid.send_and_receive([Message(content, 3, protocol.TRAIN)])
    assert reply.has_error() and "takes part in no training" in reply.error.reason


def test_samples_that_were_asked_for_before_are_forgotten_while_all_is_held(tmp_path: Path) -> None:
    trial = trained(tmp_path, plan=HELD)
    queue, ids = queue_of(trial, 2), sorted(trial.ids_of(2))[:2]
    first = queue.add(new_request("samples", ids))
    queue.add(new_request("all"))
    assert is_out(trial, 2)
    assert next(iter(queue.find(first).answers.values())).status == "committed" and told(queue).status == "held"


def test_samples_that_the_client_is_to_draw_are_refused_in_words_while_all_is_held(tmp_path: Path) -> None:
    trial = trained(tmp_path, plan=HELD)
    queue_of(trial, 2).add(new_request("all"))
    trial.serve()
    trial.serve(ForgetRequest.for_samples(2, count=2, id="drawn"))
    assert trial.status("drawn") is Status.REJECTED and trial.reason("drawn").startswith("client 2: ")
    assert "0 such samples are left here to train on" in trial.reason("drawn")
    assert trial.strategy.ledger.verify().problem is None
