"""``depth = "deep"``: a reset of the last blocks in place of a class method's own step and of guarded repair."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from federation import FAST_PLAN, OPEN_GATE, DigitsTask, Federation, digits_of, initial_arrays, make_federation
from flwr.app import ArrayRecord, Message
from flwr.serverapp.strategy import FedAvg

from fed_unlearn import protocol
from fed_unlearn.arrays import unpack
from fed_unlearn.client.kept_activations import HEAD_NAME, VALUES_NAME
from fed_unlearn.client.kept_features import FILE_NAME as FEATURES_NAME
from fed_unlearn.data.images import ClientData
from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.gate import Gate, Thresholds
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies import UnlearningPlan, UnlearningResult

LOWER = ("1.weight", "1.bias")
DEEP = {"blocks": 1, "rounds": 2, "epochs": 2, "learning_rate": 0.1}


def deep(**settings: object) -> UnlearningPlan:
    return UnlearningPlan(
        depth="deep", parameters={"reset-and-relearn": DEEP}, retention_days=1.0, backoff_seconds=0.0, **settings
    )


def sent_by(federation: Federation) -> list[Message]:
    """Grows by every message."""
    sent: list[Message] = []
    send = federation.grid.send_and_receive

    def noted(messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        messages = list(messages)
        sent.extend(map(copy.copy, messages))
        return send(messages, timeout=timeout)

    federation.grid.send_and_receive = noted  # type: ignore[method-assign]
    return sent


def served(
    federation: Federation, plan: UnlearningPlan, *requests: ForgetRequest, gate: Gate = OPEN_GATE
) -> tuple[ArrayRecord, UnlearningResult]:
    """The model before the requests, and what serving them gave."""
    strategy = federation.strategy(FedAvg(fraction_evaluate=0.0, min_available_nodes=2), plan=plan, gate=gate)
    before = strategy.start(federation.grid, initial_arrays(), num_rounds=3).arrays
    for request in requests:
        strategy.submit(request)
    return before, strategy.start(federation.grid, num_rounds=0)


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return make_federation(tmp_path)


def last_types(sent: list[Message]) -> list[str]:
    kinds = [message.metadata.message_type for message in sent]
    return list(dict.fromkeys(kinds[kinds.index(protocol.UNLEARN) :]))


def test_a_class_request_resets_the_last_blocks_and_nothing_below_them_moves(federation: Federation) -> None:
    sent = sent_by(federation)
    before, result = served(federation, deep(), ForgetRequest.for_class(3))
    [outcome] = result.requests
    assert (outcome.status, outcome.method, outcome.repair_rounds) == ("committed", "reset-and-relearn", 0)
    old, new = unpack(before), unpack(result.arrays)
    for name in LOWER:
        np.testing.assert_array_equal(new[name], old[name])
    assert not np.allclose(new["3.weight"], old["3.weight"], atol=0.05)
    expected = [
        protocol.UNLEARN,
        protocol.BLOCKS,
        protocol.STATISTICS,
        protocol.RELEARN,
        protocol.AUDIT,
        protocol.CONFIRM,
    ]
    assert last_types(sent) == expected
    [unlearn] = {str(m.content[protocol.INSTRUCTION_KEY]) for m in sent if m.metadata.message_type == protocol.UNLEARN}
    assert '"method":null' in unlearn.replace("\\", "")
    assert outcome.after is not None and outcome.after.forget_accuracy == 0
    assert outcome.traffic.parts.keys() == {"relearn", "statistics", "audit"}
    kept = [path for path in federation.folder.rglob("*") if path.name in (HEAD_NAME, VALUES_NAME, FEATURES_NAME)]
    assert kept == []  # confirmed at every client, so that all of it is dropped


def test_requests_that_are_pending_together_share_the_reset(federation: Federation) -> None:
    sent = sent_by(federation)
    _, result = served(federation, deep(), ForgetRequest.for_class(3), ForgetRequest.for_class(7))
    assert [outcome.status for outcome in result.requests] == ["committed", "committed"]
    rounds = [message for message in sent if message.metadata.message_type == protocol.RELEARN]
    assert len(rounds) == DEEP["rounds"] * 4
    told = protocol.RelearnInstruction.from_message(rounds[0])
    assert told.forgotten == (3, 7) and told.distillation == 0.7


def test_requests_that_name_different_methods_of_holders_share_the_reset(federation: Federation) -> None:
    sent = sent_by(federation)
    requests = [
        replace(ForgetRequest.for_class(index), method=name) for index, name in ((3, "delete"), (7, "finetune"))
    ]
    _, result = served(federation, deep(), *requests)
    assert [outcome.method for outcome in result.requests] == ["reset-and-relearn"] * 2
    assert sum(message.metadata.message_type == protocol.RELEARN for message in sent) == DEEP["rounds"] * 4


def test_escalation_does_not_reset_again_for_another_method_of_holders() -> None:
    request, escalation = ForgetRequest.for_class(3), {"class": ("delete", "retrain", "finetune")}
    assert deep(escalation=escalation).methods_of(request) == ("boundary-shrink", "retrain")
    assert replace(deep(escalation=escalation), depth="shallow").methods_of(request) == (
        "boundary-shrink",
        "delete",
        "retrain",
        "finetune",
    )


def test_the_gates_repair_is_another_round_of_the_last_blocks(federation: Federation) -> None:
    sent = sent_by(federation)
    asks_more = Gate(
        class_thresholds=Thresholds(max_forget_accuracy=None, max_retain_drop=0.0, max_total_retain_drop=None),
        max_repair_rounds=1,
        max_attempts=1,
    )
    slow = replace(
        deep(), parameters={"reset-and-relearn": {**DEEP, "learning_rate": 1e-4, "closed_form": False}}
    )  # it learns nothing
    _, result = served(federation, slow, ForgetRequest.for_class(3), gate=asks_more)
    [outcome] = result.requests
    assert (outcome.status, outcome.method, outcome.repair_rounds) == ("failed", "reset-and-relearn", 1)
    rounds = [message for message in sent if message.metadata.message_type == protocol.RELEARN]
    assert len(rounds) == 4 * (DEEP["rounds"] + 1)
    told = protocol.RelearnInstruction.from_message(rounds[-1])
    assert (told.round, told.position, told.positions) == (2, 1, 2)  # as the last one
    assert all(protocol.served_of(message) is None for message in rounds[4:])
    assert all(message.metadata.message_type != protocol.REPAIR for message in sent)


def test_without_it_class_requests_are_served_as_before(federation: Federation) -> None:
    sent = sent_by(federation)
    plan = UnlearningPlan(
        depth="shallow",
        parameters=FAST_PLAN.parameters,
        repair_rounds=1,
        backoff_seconds=0.0,
    )
    _, result = served(federation, plan, ForgetRequest.for_class(3))
    assert result.requests[0].traffic.parts.keys() >= {"unlearn", "repair"}
    assert protocol.RELEARN not in last_types(sent)


def test_requests_of_other_scopes_and_of_servers_methods_are_served_by_their_own(federation: Federation) -> None:
    sent = sent_by(federation)
    requests = ForgetRequest.for_class(3, method="retrain", id="a"), ForgetRequest.for_samples(1, count=2, id="b")
    _, result = served(federation, deep(), *requests)
    assert [(outcome.request.id, outcome.method) for outcome in result.requests] == [
        ("a", "retrain"),
        ("b", "instance-wise"),
    ]
    assert result.requests[0].status == "committed" and result.requests[0].traffic.parts.keys() == {"train", "audit"}
    assert protocol.RELEARN not in last_types(sent) and protocol.BLOCKS not in last_types(sent)


def test_another_word_is_refused() -> None:
    with pytest.raises(InvalidParameterError, match="depth = 'bottomless'; expected 'shallow' or 'deep'"):
        UnlearningPlan(depth="bottomless")  # type: ignore[arg-type]


def test_retraining_and_a_reset_serve_samples_that_are_to_look_unseen(federation: Federation) -> None:
    requests = [
        replace(ForgetRequest.for_samples(1, count=3, id=name), method=method)
        for name, method in (("a", "retrain"), ("b", "reset-and-relearn"))
    ]
    plan = UnlearningPlan(parameters={"reset-and-relearn": DEEP}, retention_days=1.0, backoff_seconds=0.0)
    _, result = served(federation, plan, *requests, gate=Gate())
    assert [(outcome.status, outcome.method) for outcome in result.requests] == [
        ("committed", "retrain"),
        ("committed", "reset-and-relearn"),
    ], [outcome.reason for outcome in result.requests]


def test_a_client_without_a_sample_left_costs_nobody_the_closed_form(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def data_of(client: int) -> ClientData:
        data = digits_of(client)
        return replace(data, train=data.train.of_classes({3})) if client == 0 else data

    federation = make_federation(tmp_path, task=DigitsTask(data_of=data_of))
    _, result = served(federation, deep(), ForgetRequest.for_class(3))
    assert result.requests[0].status == "committed"
    assert "the output layer stays as it is" not in caplog.text
