"""All that a holder's turns add together stays within the clip norm, and so do all requests between two trainings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from federation import OPEN_GATE, Federation, initial_arrays
from hostile import Lie, both, hostile_federation, on_audits, on_models

from fed_unlearn import protocol
from fed_unlearn.arrays import Arrays, difference, norm
from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.gate import Gate, Thresholds
from fed_unlearn.ledger import Ledger
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies import ContinualUnlearning, RequestBound, UnlearningPlan
from fed_unlearn.strategies.serving.attempts.allowance import Allowance, RequestBudget
from tests.trials import backdoor

QUICK = {"instance-wise": {"max_steps": 1, "consolidation_steps": 0, "retained_anchors": 8}}
PLAN = UnlearningPlan(retention_days=1.0, backoff_seconds=0.0, parameters=QUICK)
HOSTILE = 2


def allowance(clip_norm: float = 1.0, requests: int = 1, of_request: float = 1.0, budget: float = 9.0) -> Allowance:
    return Allowance("2", clip_norm, requests, of_request, budget)


def change(*values: float) -> Arrays:
    return {"weight": np.array(values, dtype=np.float32)}


def test_turns_within_the_bound_are_taken_as_they_are() -> None:
    held, turn = allowance(clip_norm=5.0), change(3.0, 4.0)
    assert held.take(turn) is turn
    assert held.used == 1.0
    assert not held.was_exceeded


def test_the_sum_of_turns_is_projected_and_not_the_turn() -> None:
    held = allowance()
    assert held.take(change(2.0, 0.0))["weight"].tolist() == [1.0, 0.0]
    half = np.sqrt(0.5)
    np.testing.assert_allclose(held.take(change(0.0, 1.0))["weight"], [half - 1.0, half])
    np.testing.assert_allclose(held.total["weight"], [half, half])
    back = change(-half, -half)
    assert held.take(back) is back
    assert held.used < 1e-6


def test_what_was_wanted_counts_before_clipping() -> None:
    held = allowance(clip_norm=2.0)
    held.take(change(6.0, 8.0))
    assert held.wanted == 10.0
    assert held.was_exceeded
    assert "at least 5 times the clip norm of 2" in (held.shortfall() or "")
    assert "the plan allows 1 times; raise max_request_norm" in (held.shortfall() or "")


def test_consent_adds_turns_and_not_longer_ones() -> None:
    held = allowance(of_request=3.0)
    for _ in range(3):
        np.testing.assert_allclose(held.take(change(9.0, 0.0))["weight"], [1.0, 0.0])
    np.testing.assert_allclose(held.take(change(9.0, 0.0))["weight"], [0.0, 0.0], atol=1e-12)
    assert held.used == pytest.approx(3.0)


def test_what_is_left_of_the_budget_bounds_too() -> None:
    held = allowance(requests=2, budget=0.5)
    held.take(change(9.0, 0.0))
    assert held.used == pytest.approx(0.5)
    assert held.lacks_budget


def test_bounds_of_the_plan_are_checked() -> None:
    with pytest.raises(InvalidParameterError, match="max_request_norm = 0; expected a number above 0 or None"):
        UnlearningPlan(max_request_norm=0)
    with pytest.raises(InvalidParameterError, match=r"client_budget = 0\.5; expected a number from 1"):
        UnlearningPlan(client_budget=0.5)
    assert UnlearningPlan(max_request_norm=6, client_budget=2).request_bound.between_trainings == 12.0


def test_the_budget_outlives_a_restart(tmp_path: Path) -> None:
    bound = RequestBound(max_request_norm=2.0)
    with closing(Ledger(tmp_path / "ledger.db")) as ledger:
        RequestBudget(ledger, bound).spend({"2": 0.75, "3": 0.0})
        RequestBudget(ledger, bound).spend({"2": 1.1})
    with closing(Ledger(tmp_path / "ledger.db")) as ledger:
        budget = RequestBudget(ledger, bound)
        assert budget.spent("2") == pytest.approx(1.85)
        assert "changed the model by 1.9 times" in (budget.shortage("2") or "")
        assert "the plan allows 2 times between two trainings" in (budget.shortage("2") or "")
        assert budget.shortage("3") is None
        assert budget.shortage("3", needed=2.1) is not None
        budget.reset()
        assert budget.left("2") == 2.0


# ------------------------------------------------------------------ hostile holders in a federation


def _away(sent: Arrays) -> Arrays:
    """A long way in a direction that depends on where the turn starts, so that turns do not add up to a line."""
    generator = np.random.default_rng(int(norm(sent) * 1e4))
    return {name: (value + generator.normal(size=value.shape)).astype(value.dtype) for name, value in sent.items()}


def _forgotten(metrics: Mapping[str, object]) -> dict[str, object]:
    return {**metrics, **{key: 0 for key in metrics if key.startswith("target/correct")}}


def _federation(folder: Path, lies: Mapping[int, Lie]) -> Federation:
    return hostile_federation(folder, lies)


def _trained(federation: Federation, plan: UnlearningPlan, gate: Gate = OPEN_GATE) -> ContinualUnlearning:
    strategy = federation.strategy(plan=plan, gate=gate)
    strategy.start(federation.grid, initial_arrays(), num_rounds=1)
    return strategy


def _model(strategy: ContinualUnlearning) -> tuple[Arrays, float]:
    assert strategy.served is not None
    assert strategy.served.update_norm is not None
    return dict(strategy.served.arrays), strategy.served.update_norm


def _samples_of(federation: Federation, request: str) -> list[str]:
    stored = json.loads((federation.folder / "clients" / str(HOSTILE) / "state.json").read_text())
    return next(known["sample_ids"] for key, known in stored["requests"].items() if request in key)


HOLDER_LIES = both(on_models(_away, {protocol.UNLEARN}), on_audits(_forgotten))  # type: ignore[arg-type]
KEEP = on_models(lambda sent: sent, {protocol.REPAIR})


@pytest.mark.parametrize("alternations", [0, 2])
def test_a_hostile_holder_moves_the_model_by_the_clip_norm_and_no_further(tmp_path: Path, alternations: int) -> None:
    """Repair rounds change nothing here, so that what the model moved is what the holder's turns add."""
    lies = dict.fromkeys(range(4), KEEP) | {HOSTILE: both(HOLDER_LIES, KEEP)}
    federation = _federation(tmp_path, lies)
    strategy = _trained(federation, replace(PLAN, repair=replace(PLAN.repair, alternations=alternations)))
    before, clip_norm = _model(strategy)
    strategy.submit(ForgetRequest.for_samples(HOSTILE, count=2, id="r"))
    strategy.start(federation.grid, num_rounds=0)
    after, _ = _model(strategy)
    assert strategy.ledger.entry("r").status is Status.COMMITTED
    assert norm(difference(after, before)) == pytest.approx(clip_norm, rel=1e-4)


def test_requests_of_one_client_share_a_budget_until_the_next_training(tmp_path: Path) -> None:
    federation = _federation(tmp_path, {HOSTILE: HOLDER_LIES})
    strategy = _trained(federation, PLAN)
    before, clip_norm = _model(strategy)
    for number in range(3):
        strategy.submit(ForgetRequest.for_samples(HOSTILE, count=2, id=f"r{number}"))
        strategy.start(federation.grid, num_rounds=0)
        if number == 0:  # in a new process
            strategy.ledger.close()
            strategy = federation.strategy(plan=PLAN, gate=OPEN_GATE)
    after, _ = _model(strategy)
    assert norm(difference(after, before)) <= clip_norm * (1 + 1e-4)
    waiting = [strategy.ledger.entry(f"r{number}") for number in (1, 2)]
    assert [entry.status for entry in waiting] == [Status.WAITING, Status.WAITING]
    assert "it is served after the next one" in (waiting[0].reason or "")
    strategy.submit(ForgetRequest.for_samples(1, count=2, id="other"))
    strategy.start(federation.grid, num_rounds=0)
    assert strategy.ledger.entry("other").status is Status.COMMITTED
    federation.task.trained_ids.clear()
    strategy.start(federation.grid, num_rounds=1)
    assert {strategy.ledger.entry(f"r{number}").status for number in (1, 2)} == {Status.COMMITTED}
    waited = {name for number in (1, 2) for name in _samples_of(federation, f"r{number}")}
    assert waited
    assert not waited & frozenset().union(*federation.task.trained_ids), "what waits is out of training"


def test_a_request_that_needs_more_fails_and_says_how_much(tmp_path: Path) -> None:
    closed = Gate(
        sample_thresholds=Thresholds(max_forget_accuracy=0.0, max_retain_drop=None, max_total_retain_drop=None),
        max_repair_rounds=0,
        max_attempts=1,
    )
    federation = _federation(tmp_path, {HOSTILE: on_models(_away, {protocol.UNLEARN})})
    strategy = _trained(federation, PLAN, closed)
    strategy.submit(ForgetRequest.for_samples(HOSTILE, count=20, id="r"))
    strategy.start(federation.grid, num_rounds=0)
    entry = strategy.ledger.entry("r")
    assert entry.status is Status.FAILED
    assert "client 2 needed to change the model by at least" in (entry.reason or "")
    assert "raise max_request_norm (max-request-norm in [unlearning] of a scenario)" in (entry.reason or "")


@pytest.mark.slow
def test_a_backdoor_succeeds_no_better_by_requests_than_in_one_round(capsys: pytest.CaptureFixture[str]) -> None:
    """A sample of :mod:`tests.trials.backdoor`."""
    assert backdoor.main(["--seeds", "1", "--requests", "2"]) == 0
    assert "in 0 of 1 seeds" in capsys.readouterr().out
