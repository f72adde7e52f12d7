"""Faults of clients: each has a defined result, none ends a call of ``start()``, and nothing is lost.

What a user sees. "Left out" is: of that round, named in the log, the others go on. "Failed": after ``retries`` with a
growing pause where there was an error, and the gate's attempts, with the reason; the served model is as it was, and the
samples stay in quarantine. "Waits": the request is ``waiting`` with the reason, others are served, and it is served by
this call or the next one as soon as that is possible. "Owes": the client is in no round until it has written the
tombstones, and is asked for them whenever requests are looked at.

=====================  ===================  ===================================================  ====================
what the client does   ordinary training    train.unlearn                                        train.repair
=====================  ===================  ===================================================  ====================
raises once            left out             asked again                                          asked again
raises always          left out             holder: failed; leaving client: forgotten without    left out
                                            its help, or the next method; others: left out
times out, never       left out             class: the others unlearn, it owes; the only holder, left out; nobody
comes back             (nobody: the model   or a sample request: waits; leaving client: as       answers: waits
                       stays as it was)     above
answers twice          the first counts     the first counts                                     the first counts
answers late           not used             not used, whatever the attempt                       not used
NaN or infinite,       left out             as "raises", without retries; once: next attempt     left out
shape, dtype, weight
0, no model
absurd norm            scaled down to ten   class: as in training; sample: to the usual norm;    scaled down to ten
                       times the usual      leaving client: the method's own bound               times the usual
=====================  ===================  ===================================================  ====================

=====================  ==================================  ====================================  ====================
what the client does   train.confirm                       evaluate.audit                        query.identify
=====================  ==================================  ====================================  ====================
raises once            asked again                         asked again                           asked again
raises always          the request fails: what others      left out, others judge; sample        left out of the call
                       wrote stays                         request's holder: failed
times out, never       asked again, then committed; the    left out; sample request's holder,    left out of the call
comes back             client owes                         or all holders of a class: waits
answers twice          the first counts                    the first counts                      the first counts
answers late           not used: as silent                 not used, even for the same question  not used
malformed              as "raises", without retries        as "raises", without retries          left out of the call
=====================  ==================================  ====================================  ====================

"Usual" is the larger one of the last training round's median norm and the round's own; robust and private strategies
bound changes by themselves. ``train.discard`` needs no answer: an attempt that is over is over.

Nobody is there: requests wait, and a training stays open, to be gone on with by the next call. So does one whose model
nobody audits. No client of all that were ever met holds a sample: the request is rejected. Only where no client has
ever said who it is, ``start()`` raises: then nothing is set up.

Here: what fails, and what all of it has in common. ``test_faults_training``, ``test_faults_unlearning``,
``test_faults_absence``, ``test_faults_rounds`` and ``test_faults_audits`` have the table, cell by cell.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from fault_trials import SCOPES, Trial, evaluating
from faulty_grid import SPOILED
from federation import OPEN_GATE, Federation, initial_arrays, make_federation, same_bytes
from flwr.app import Context, Message
from stores import stored_requests

from fed_unlearn import protocol
from fed_unlearn.gate import Gate
from fed_unlearn.ledger import Ledger
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies.clients.messages.exchange import ClientsFailedError


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return make_federation(tmp_path)


def fail_at(federation: Federation, message_type: str, client: int, times: int = 10**9) -> None:
    """Make one client raise on one type of message."""
    handler = federation.app._registered_funcs[message_type]
    left = times

    def failing(message: Message, context: Context) -> Message:
        nonlocal left
        if context.node_config["partition-id"] == client and left > 0:
            left -= 1
            raise ValueError("sample 17 has label 3")
        return handler(message, context)

    federation.app._registered_funcs[message_type] = failing


def stored(federation: Federation, client: int) -> dict[str, dict[str, object]]:
    return stored_requests(federation.folder / "clients" / str(client) / "state.json")


def test_a_holder_that_fails_to_unlearn_fails_the_request(federation: Federation) -> None:
    strategy = federation.strategy(gate=OPEN_GATE)
    before = strategy.start(federation.grid, initial_arrays(), num_rounds=2).arrays
    fail_at(federation, protocol.UNLEARN, 0)
    strategy.submit(ForgetRequest.for_class(3))
    result = strategy.start(federation.grid, num_rounds=0)
    [outcome] = result.requests
    assert outcome.status is Status.FAILED
    assert outcome.attempts == Gate().max_attempts
    assert same_bytes(result.arrays, before)
    assert stored(federation, 1)["r1"]["sample_ids"], "quarantine outlasts the failure"


@pytest.mark.parametrize(("times", "attempts"), [(1, 1), (2, 1), (3, 2)])
def test_a_holder_that_fails_for_a_while_is_asked_again(federation: Federation, times: int, attempts: int) -> None:
    strategy = federation.strategy(gate=OPEN_GATE)
    strategy.start(federation.grid, initial_arrays(), num_rounds=2)
    fail_at(federation, protocol.UNLEARN, 0, times=times)
    fail_at(federation, protocol.CONFIRM, 1, times=1)
    strategy.submit(ForgetRequest.for_class(3))
    [outcome] = strategy.start(federation.grid, num_rounds=0).requests
    assert outcome.status is Status.COMMITTED
    assert outcome.attempts == attempts
    assert all(stored(federation, client)["r1"]["tombstoned"] for client in range(4))


def test_no_commit_without_every_holders_tombstones(federation: Federation) -> None:
    strategy = federation.strategy(gate=OPEN_GATE)
    before = strategy.start(federation.grid, initial_arrays(), num_rounds=2).arrays
    fail_at(federation, protocol.CONFIRM, 2)
    strategy.submit(ForgetRequest.for_class(3))
    result = strategy.start(federation.grid, num_rounds=0)
    assert [outcome.status for outcome in result.requests] == [Status.FAILED]
    assert "client" in (result.requests[0].reason or "")
    assert same_bytes(result.arrays, before)


def test_a_client_without_its_tombstones_is_left_out_and_named(
    federation: Federation, caplog: pytest.LogCaptureFixture
) -> None:
    strategy = federation.strategy(gate=OPEN_GATE)
    strategy.start(federation.grid, initial_arrays(), num_rounds=2)
    strategy.submit(ForgetRequest.for_class(3))
    strategy.start(federation.grid, num_rounds=0)
    forgotten = set(stored(federation, 0)["r1"]["sample_ids"])  # type: ignore[call-overload]
    (federation.folder / "clients" / "0" / "state.json").unlink()
    federation.task.trained_ids.clear()
    with caplog.at_level("WARNING", logger="fed_unlearn"):
        strategy.start(federation.grid, num_rounds=1)
    assert any("client 0 is left out" in record.getMessage() for record in caplog.records)
    seen = frozenset().union(*federation.task.trained_ids)
    assert seen and not seen & forgotten


def test_a_commit_that_was_cut_short_goes_on(federation: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    strategy = federation.strategy(gate=OPEN_GATE)
    strategy.start(federation.grid, initial_arrays(), num_rounds=2)
    strategy.submit(ForgetRequest.for_class(3))

    def power_cut(*_: object, **__: object) -> None:
        raise SystemExit("power cut")

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(Ledger, "commit", power_cut)
        strategy.start(federation.grid, num_rounds=0)
    assert strategy.ledger.entry("r1").status is Status.COMMITTING
    digest = strategy.ledger.committing_model("r1")
    strategy.ledger.close()
    again = federation.strategy(gate=OPEN_GATE)
    [outcome] = again.start(federation.grid, initial_arrays(), num_rounds=0).requests
    assert outcome.status is Status.COMMITTED
    assert again.ledger.served_model() == digest
    assert again.ledger.forgotten_classes() == {3}


def test_errors_of_clients_travel_without_their_text(federation: Federation, caplog: pytest.LogCaptureFixture) -> None:
    strategy = federation.strategy(gate=OPEN_GATE)
    strategy.start(federation.grid, initial_arrays(), num_rounds=1)
    federation.task.train = None  # type: ignore[assignment, method-assign]
    with caplog.at_level("INFO"), pytest.raises(ClientsFailedError, match="client 3: train: TypeError at the client"):
        strategy.start(federation.grid, num_rounds=1)
    said = [record.getMessage() for record in caplog.records if record.name in ("flwr", "fed_unlearn.strategies")]
    assert any("TypeError at the client; its own log has the details" in line for line in said)
    assert not any("NoneType" in line for line in said)


MESSAGES = (
    protocol.TRAIN,
    protocol.UNLEARN,
    protocol.REPAIR,
    protocol.AUDIT,
    protocol.CONFIRM,
    protocol.DISCARD,
    protocol.IDENTIFY,
    "evaluate",
)


@pytest.mark.parametrize("message_type", MESSAGES)
def test_whatever_a_client_does_no_call_raises_and_every_request_comes_to_its_end(
    tmp_path: Path, message_type: str
) -> None:
    """One fault after the other at one client, over training and requests of all scopes; then all is well again."""
    trial = Trial(tmp_path, new_inner=evaluating)
    trial.train(1)
    for kind in ("raises", "deaf", *SPOILED, "twice", "late", "silent", "leaves"):
        trial.do(kind, 1, message_type, times=1)
    for number, label in enumerate((3, 4, 5, 6)):
        trial.strategy.submit(ForgetRequest.for_class(label, id=f"class-{number}"))
        trial.strategy.submit(ForgetRequest.for_samples(1, count=2, id=f"samples-{number}"))
        trial.train(2)
    trial.strategy.submit(SCOPES["client"])
    trial.train(1)
    entries = trial.strategy.ledger.entries()
    settled = (Status.COMMITTED, Status.WAITING, Status.FAILED)
    assert {entry.status for entry in entries} <= set(settled)
    assert all(entry.reason for entry in entries if entry.status is not Status.COMMITTED)
    trial.grid.heal()
    trial.restart()
    trial.trained_on()
    trial.train(1)
    entries = trial.strategy.ledger.entries()
    assert {entry.status for entry in entries} <= {Status.COMMITTED, Status.FAILED}
    assert not any(entry.owed for entry in entries)
    held = [trial.stored(client) for client in range(4)]
    kept = {name for stored in held for request in stored.values() for name in request["sample_ids"]}  # type: ignore[attr-defined]
    assert kept and not trial.trained_on() & kept
    assert trial.strategy.ledger.verify().problem is None
