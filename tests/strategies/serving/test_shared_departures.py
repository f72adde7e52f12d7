"""Clients that leave at the same time are served by one pass, where the method allows it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fault_trials import PLAN, Trial, trained
from federation import DigitsTask
from shared_requests import asked, attempts, committed, statuses

from fed_unlearn import protocol
from fed_unlearn.arrays import unpack
from fed_unlearn.requests import ForgetRequest

FIRST, SECOND = ForgetRequest.for_client(1, id="a"), ForgetRequest.for_client(2, id="b")
ROUNDS = 2
NEGATION = replace(PLAN, client_method="weight-negation", parameters={"weight-negation": {"recovery_rounds": ROUNDS}})
UPDATE = replace(
    PLAN, client_method="negated-update", parameters={"negated-update": {"recovery_rounds": ROUNDS, "scale": 1.0}}
)


def ids_of(trial: Trial, client: int) -> frozenset[str]:
    return frozenset(trial.data_of(client).train.ids)


@pytest.mark.parametrize(
    ("plan", "unlearn", "repair"), [(NEGATION, 2, 2 * ROUNDS), (UPDATE, 4, 2 * (ROUNDS + 1))], ids=["not", "puf"]
)
def test_two_clients_leave_in_one_pass(tmp_path: Path, plan: object, unlearn: int, repair: int) -> None:
    trial = trained(tmp_path, plan=plan)  # type: ignore[arg-type]
    asked(trial)
    task: DigitsTask = trial.federation.task
    task.trained_ids.clear()
    result = trial.serve(FIRST, SECOND)
    assert committed(result) == ["a", "b"] and attempts(trial) == {"a": 1, "b": 1}
    sent = asked(trial)
    # Both are told of their requests; with a negated update each trains once more. The two others train each round.
    assert sent[protocol.UNLEARN] == unlearn and sent[protocol.REPAIR] == repair
    passes = [outcome.traffic.passes for outcome in result.requests]
    assert abs(passes[0] - passes[1]) <= 4, "what the pass costs is divided among them"
    again = trial.serve(ForgetRequest.for_samples(0, count=1, id="c"))
    assert committed(again) == ["c"]
    assert not any(ids & (ids_of(trial, 1) | ids_of(trial, 2)) for ids in task.trained_ids[-20:])


def test_one_pass_of_negation_is_that_of_either_client_without_the_other(tmp_path: Path) -> None:
    both, later = trained(tmp_path / "both", plan=NEGATION), trained(tmp_path / "later", plan=NEGATION)
    together = unpack(both.serve(FIRST, SECOND).arrays)
    alone = unpack(later.serve(FIRST).arrays)
    assert any(not np.array_equal(together[name], alone[name]) for name in alone), "client 2 trained on"


def test_a_client_that_is_away_holds_up_no_other(tmp_path: Path) -> None:
    trial = trained(tmp_path, plan=replace(UPDATE, escalation={"client": ("weight-negation",)}))
    trial.do("gone", 2, protocol.UNLEARN)
    result = trial.serve(FIRST, SECOND)
    assert {outcome.request.id: outcome.method for outcome in result.requests} == {
        "a": "negated-update",
        "b": "weight-negation",
    }
    assert committed(result) == ["a", "b"]


def test_the_last_client_stays(tmp_path: Path) -> None:
    trial = trained(tmp_path, plan=NEGATION)
    requests = [ForgetRequest.for_client(client, id=f"r{client}") for client in range(4)]
    result = trial.serve(*requests)
    assert committed(result) == ["r0", "r1", "r2"]
    assert statuses(trial)["r3"] == "rejected"
    assert "client 3 is the last one that is left" in str(trial.strategy.ledger.entry("r3").reason)


def test_requests_share_nothing_where_the_plan_says_so(tmp_path: Path) -> None:
    trial = trained(tmp_path, plan=replace(NEGATION, share_rounds=False))
    asked(trial)
    assert committed(trial.serve(FIRST, SECOND)) == ["a", "b"]
    assert asked(trial)[protocol.REPAIR] == (3 + 2) * ROUNDS, "three train after the first, two after the second"
