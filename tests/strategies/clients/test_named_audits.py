"""An audit of another package travels by name from the clients to the figures of a request."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from confidence_audit import NAME, install
from fault_trials import CLASS, SAMPLES, few_digits, trained
from faulty_grid import metric
from flwr.app import Message, MetricRecord

from fed_unlearn import protocol
from fed_unlearn.arrays import Arrays, unpack
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.strategies.clients import audit


def confidence_of(model: Arrays, clients: tuple[int, ...]) -> float:
    """Mean probability of class 3, over what these clients have of it to train on."""
    values: list[float] = []
    for client in clients:
        images, _ = few_digits(client).train.of_classes({3}).batch()
        hidden = np.maximum(images.flatten(1).numpy() @ model["1.weight"].T + model["1.bias"], 0)
        powers = np.exp((hidden @ model["3.weight"].T + model["3.bias"]).astype(np.float64))
        values += (powers / powers.sum(1, keepdims=True))[:, 3].tolist()
    return float(np.mean(values))


def test_the_figure_is_that_of_all_holders_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    trial = trained(tmp_path)
    before = unpack(trial.train(0).arrays)
    result = trial.serve(CLASS)
    [outcome] = result.requests
    assert outcome.status is Status.COMMITTED and outcome.before is not None and outcome.after is not None
    assert outcome.before.extra[NAME] == pytest.approx(confidence_of(before, (0, 1, 2, 3)), abs=1e-5)
    assert outcome.after.extra[NAME] == pytest.approx(confidence_of(unpack(result.arrays), (0, 1, 2, 3)), abs=1e-5)
    facts = [event.facts for event in trial.strategy.ledger.events() if NAME in event.facts]
    assert [event[NAME] for event in facts] == [outcome.after.extra[NAME]]


def test_clients_without_the_audit_say_so_and_are_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    install(monkeypatch)
    monkeypatch.setattr(audit, "extra_audits", lambda scope: (NAME, "of-nobody"))
    [outcome] = trained(tmp_path).serve(CLASS).requests
    assert outcome.status is Status.COMMITTED and outcome.after is not None
    assert set(outcome.after.extra) == {NAME}
    assert "audit of-nobody: clients 0, 1, 2, 3 do not count it; their logs say why" in caplog.messages


@pytest.mark.parametrize("value", [[1, 2, 3], [-1] * 10, float("nan")])
def test_counts_that_cannot_be_leave_the_client_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float | list[int]
) -> None:
    install(monkeypatch)
    trial = trained(tmp_path)
    trial.grid.spoil(metric(f"audit/{NAME}/by_class/r1", value), 2, protocol.AUDIT)
    result = trial.serve(CLASS)
    [outcome] = result.requests
    assert outcome.status is Status.COMMITTED and outcome.after is not None
    assert outcome.after.extra[NAME] == pytest.approx(confidence_of(unpack(result.arrays), (0, 1, 3)), abs=1e-5)


def test_requests_that_no_such_audit_is_about_have_messages_as_ever(tmp_path: Path) -> None:
    trial = trained(tmp_path)
    keys, audits = set[str](), set[str]()

    def note(client: int, reply: Message) -> None:
        assert set(reply.content) == {protocol.METRICS_KEY, protocol.STAMP_KEY}
        record = reply.content[protocol.METRICS_KEY]
        assert isinstance(record, MetricRecord)
        keys.update(key.split("/")[0] for key in record)
        audits.update(key.split("/")[1] for key in record if key.startswith("audit/"))

    trial.grid.watch(protocol.AUDIT, note)
    trial.serve(SAMPLES)
    assert keys == {"retain", "validation", "test", "target", "audit", "forward-passes"}
    assert audits == {"above_reference"}
    instruction = protocol.AuditInstruction(parts=(), targets=(), retain_limit=0, seed=0)
    assert "audits" not in str(instruction.to_record())
