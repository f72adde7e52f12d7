"""What a client identified with is remembered: lost quarantines keep it out, and larger claims are shown."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from federation import Federation, digits_of, initial_arrays, make_federation
from flwr.app import Context, Message
from hostile import Honest, hostile_federation, with_metrics
from lies import claiming
from stores import stored_requests

from fed_unlearn import protocol
from fed_unlearn.client import store as client_store
from fed_unlearn.gate import Gate, Thresholds
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies import ContinualUnlearning, UnlearningPlan

SAMPLES = ForgetRequest.for_samples(1, count=5, id="f")
CLOSED = Thresholds(max_forget_accuracy=0.0, max_retain_drop=0.0, max_total_retain_drop=0.0)
CLOSED_GATE = Gate(class_thresholds=CLOSED, sample_thresholds=CLOSED, max_attempts=1, max_repair_rounds=0)
PLAN = UnlearningPlan(
    parameters={"instance-wise": {"max_steps": 2, "consolidation_steps": 1, "retained_anchors": 4}},
    repair_rounds=0,
    alternations=1,
    backoff_seconds=0.0,
)


@pytest.fixture
def failed(tmp_path: Path) -> tuple[Federation, ContinualUnlearning]:
    """A federation with a failed request: client 1 has 5 samples in quarantine."""
    federation = make_federation(tmp_path)
    strategy = federation.strategy(gate=CLOSED_GATE, plan=PLAN)
    strategy.start(federation.grid, initial_arrays(), num_rounds=2)
    strategy.submit(SAMPLES)
    strategy.start(federation.grid, num_rounds=0)
    assert strategy.ledger.entry("f").status is Status.FAILED
    federation.task.trained_ids.clear()
    return federation, strategy


def lose(federation: Federation) -> None:
    shutil.rmtree(federation.folder / "clients" / "1")
    client_store._opened.clear()


def trained_at_one(federation: Federation) -> frozenset[str]:
    return frozenset().union(*federation.task.trained_ids) & set(digits_of(1).train.ids)


def test_a_store_that_lost_the_quarantine_of_a_failed_request_keeps_its_client_out(
    failed: tuple[Federation, ContinualUnlearning], caplog: pytest.LogCaptureFixture
) -> None:
    federation, strategy = failed
    lose(federation)
    strategy.start(federation.grid, num_rounds=1)
    assert not trained_at_one(federation)
    assert "client 1 is left out: its store excludes fewer samples" in caplog.text and "restore" in caplog.text


def test_it_comes_back_with_its_store(failed: tuple[Federation, ContinualUnlearning]) -> None:
    federation, strategy = failed
    shutil.copytree(federation.folder / "clients" / "1", federation.folder / "copy")
    kept = set(stored_requests(federation.folder / "copy" / "state.json")["f"]["sample_ids"])
    lose(federation)
    strategy.start(federation.grid, num_rounds=1)
    shutil.rmtree(federation.folder / "clients" / "1", ignore_errors=True)
    shutil.copytree(federation.folder / "copy", federation.folder / "clients" / "1")
    client_store._opened.clear()
    strategy.start(federation.grid, num_rounds=1)
    assert trained_at_one(federation) == set(digits_of(1).train.ids) - kept


def test_it_comes_back_when_the_same_is_asked_for_again(failed: tuple[Federation, ContinualUnlearning]) -> None:
    federation, strategy = failed
    lose(federation)
    strategy.submit(ForgetRequest.for_samples(1, count=5, id="again"))
    strategy.start(federation.grid, num_rounds=0)
    federation.task.trained_ids.clear()  # guarded repair has trained on the samples under other labels
    strategy.start(federation.grid, num_rounds=1)
    kept = set(stored_requests(federation.folder / "clients" / "1" / "state.json")["again"]["sample_ids"])
    assert len(kept) == 5 and trained_at_one(federation) == set(digits_of(1).train.ids) - kept


def test_asking_again_does_not_count_where_it_was_withdrawn(
    failed: tuple[Federation, ContinualUnlearning], caplog: pytest.LogCaptureFixture
) -> None:
    federation, strategy = failed
    lose(federation)
    again = strategy.submit(ForgetRequest.for_samples(1, count=5, id="again"))
    strategy.ledger.withdraw(again)
    strategy.start(federation.grid, num_rounds=1)
    assert not trained_at_one(federation)
    assert "client 1 is left out: its store excludes fewer samples" in caplog.text


def test_samples_whose_quarantine_is_lost_before_the_tombstones_are_not_committed(tmp_path: Path) -> None:
    def forgetful(message: Message, context: Context, honest: Honest) -> Message:
        if message.metadata.message_type == protocol.CONFIRM:
            lose(federation)
        return honest()

    federation = hostile_federation(tmp_path, {1: forgetful})
    strategy = federation.strategy(gate=Gate(sample_thresholds=replace(CLOSED, max_forget_accuracy=1.0)), plan=PLAN)
    strategy.start(federation.grid, initial_arrays(), num_rounds=2)
    strategy.submit(SAMPLES)
    [outcome] = strategy.start(federation.grid, num_rounds=0).requests
    assert (outcome.status, outcome.evidence) == (Status.FAILED, None)
    assert outcome.reason == "clients 1 did not confirm their tombstones"
    federation.task.trained_ids.clear()
    strategy.start(federation.grid, num_rounds=1)
    assert not trained_at_one(federation)


def test_the_store_of_another_client_excludes_nothing_of_this_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    federation = make_federation(tmp_path)
    strategy = federation.strategy(gate=CLOSED_GATE, plan=PLAN)
    strategy.start(federation.grid, initial_arrays(), num_rounds=1)
    for request in (SAMPLES, ForgetRequest.for_samples(2, count=5, id="other")):
        strategy.submit(request)
    strategy.start(federation.grid, num_rounds=0)
    lose(federation)
    shutil.copytree(federation.folder / "clients" / "2", federation.folder / "clients" / "1")
    federation.task.trained_ids.clear()
    strategy.start(federation.grid, num_rounds=1)
    assert not trained_at_one(federation)
    assert "client 1 is left out: its store excludes fewer samples" in caplog.text


def empty(federation: Federation) -> None:
    """Take all requests out of the store of client 1, and leave its key."""
    path = federation.folder / "clients" / "1" / "state.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "requests": {}}))


def test_a_store_that_is_emptied_between_two_rounds_is_noticed(
    failed: tuple[Federation, ContinualUnlearning], caplog: pytest.LogCaptureFixture
) -> None:
    federation, strategy = failed
    rounds: list[int] = []

    def step(event: object) -> None:
        if getattr(event, "kind", "") == "training-round":
            rounds.append(1)
            if len(rounds) == 1:
                empty(federation)

    strategy.observer = step  # type: ignore[assignment]
    strategy.start(federation.grid, num_rounds=2)
    assert "client 1 is left out: its store excludes fewer samples" in caplog.text


def test_quarantines_of_other_ledgers_and_withdrawn_requests_are_no_loss(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    federation = make_federation(tmp_path)
    first, second = (
        federation.strategy(gate=CLOSED_GATE, plan=PLAN, name="one"),
        federation.strategy(gate=CLOSED_GATE, plan=PLAN, name="two"),
    )
    for strategy in (first, second):
        strategy.start(federation.grid, initial_arrays(), num_rounds=1)
    second.submit(ForgetRequest.for_class(3))
    second.start(federation.grid, num_rounds=0)
    first.submit(SAMPLES)
    first.start(federation.grid, num_rounds=1)
    for strategy in (second, first):
        strategy.start(federation.grid, num_rounds=1)
    assert "its store excludes fewer" not in caplog.text


def test_a_larger_claim_is_shown_without_the_clients_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    claimed = [0]

    def more(message: Message, context: Context, honest: Honest) -> Message:
        reply = honest()
        if message.metadata.message_type != protocol.IDENTIFY:
            return reply
        return with_metrics(reply, lambda found: {**found, "class-samples": [9 + claimed[0]] * 10})

    federation = hostile_federation(tmp_path, {2: more})
    strategy = federation.strategy()
    strategy.start(federation.grid, initial_arrays(), num_rounds=0)
    assert strategy.ledger.claims_of("2") == {"class-samples": [9] * 10, "excluded-samples": 0}
    assert not [event for event in strategy.ledger.events() if event.name == "claims-raised"]
    claimed[0] = 1
    strategy.start(federation.grid, num_rounds=0)
    [event] = [event for event in strategy.ledger.events() if event.name == "claims-raised"]
    assert event.facts == {"client": strategy.ledger.client_reference("2"), "samples": 100, "before": 90}
    assert "client 2 claims 100 training samples, and claimed 90 before" in caplog.text


def test_a_claim_over_its_share_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With a share of a half, a client counts as if it held as many samples as the three others together."""
    honest = hostile_federation(tmp_path / "honest", {}).strategy()
    federation = hostile_federation(tmp_path / "lying", {2: claiming(10**6)})
    strategy = federation.strategy()
    strategy.start(federation.grid, initial_arrays(), num_rounds=0)
    others = sum(sum(strategy.ledger.claims_of(client)["class-samples"]) for client in ("0", "1", "3"))
    said = "client 2 says that it holds 1000000 samples, over its share; it counts as if it held"
    assert [text for text in caplog.messages if "over its share" in text] == [f"{said} {others}"]
    caplog.clear()
    honest.start(hostile_federation(tmp_path / "honest", {}).grid, initial_arrays(), num_rounds=0)
    assert "over its share" not in caplog.text
