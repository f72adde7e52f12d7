"""Whatever one client of four says, no call raises anything foreign, the others' work goes on, and it is named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from federation import OPEN_GATE, DigitsTask, digits_of, initial_arrays
from hostile import accuracy, hostile_federation
from hostile_replies import HARMLESS, REPLIES, metrics

from fed_unlearn import protocol
from fed_unlearn.gate import Gate
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies import Holds, UnlearningPlan

PLAN = UnlearningPlan(
    parameters={"boundary-shrink": {"epochs": 4, "learning_rate": 0.02}, "instance-wise": {"max_steps": 10}},
    repair_rounds=1,
    retention_days=1.0,
    backoff_seconds=0.0,
    retries=0,
)
GATE = Gate(
    class_thresholds=OPEN_GATE.class_thresholds,
    sample_thresholds=OPEN_GATE.sample_thresholds,
    max_repair_rounds=0,
    max_attempts=1,
)


@pytest.mark.parametrize("kind", REPLIES)
def test_a_lying_client_stops_nobody(tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    task = DigitsTask(data_of=lambda client: digits_of(client, size=320))
    federation = hostile_federation(tmp_path, {2: REPLIES[kind]}, task=task)
    strategy = federation.strategy(gate=GATE, plan=PLAN)
    with caplog.at_level("INFO"):
        strategy.start(federation.grid, initial_arrays(), num_rounds=2, timeout=5)
        for request in (ForgetRequest.for_class(3, id="c"), ForgetRequest.for_samples(2, count=2, id="h")):
            strategy.submit(request)
        strategy.start(federation.grid, num_rounds=1, timeout=5)
    trained = {sample_id for batch in task.trained_ids for sample_id in batch}
    for client in (0, 1, 3):
        assert trained & set(task._data[client].train.ids), f"client {client} was left out for client 2"
    lines = [record.getMessage() for record in caplog.records if record.name in ("flwr", "fed_unlearn.strategies")]
    assert kind in HARMLESS or any("client 2" in line or "node 3" in line for line in lines)
    texts = [*lines, *(entry.reason or "" for entry in strategy.ledger.entries())]
    texts += [json.dumps(event.facts, ensure_ascii=False) for event in strategy.ledger.events()]
    for text in texts:
        assert "\x1b" not in text and "\r" not in text and len(text) < 3000
    assert strategy.ledger.verify().problem is None
    assert strategy.served is not None
    assert accuracy(strategy.served.arrays, without=[3]) > 0.35, "three clients alone come to 0.41"
    if strategy.ledger.entry("c").status is Status.COMMITTED:
        assert accuracy(strategy.served.arrays, only=[3]) < 0.3
    strategy.ledger.close()


def test_a_claim_of_a_thousand_million_samples_does_not_switch_holds_off(tmp_path: Path) -> None:
    lie = metrics((protocol.IDENTIFY,), class_samples=[0] * 9 + [10**9])
    federation = hostile_federation(tmp_path, {2: lie})
    strategy = federation.strategy(gate=GATE, plan=replace(PLAN, holds=Holds(data=0.3)))
    for index in range(6):
        strategy.submit(ForgetRequest.for_class(index, id=f"c{index}"))
    strategy.start(federation.grid, initial_arrays(), num_rounds=0)
    held = [entry.id for entry in strategy.ledger.entries() if entry.status is Status.HELD]
    assert {"c4", "c5"} <= set(held), "more than 0.3 of the data is asked for with the fourth class"
