"""What the gate says figure by figure is what it decides."""

from __future__ import annotations

import json
import random
from dataclasses import asdict, replace

import pytest

from fed_unlearn.audits.measured import Measured
from fed_unlearn.evidence import Difference, Evidence
from fed_unlearn.gate import Bound, Gate, GateCheck, Thresholds
from fed_unlearn.gate.checks import checks_of
from fed_unlearn.requests import ScopeKind

NAMED = Thresholds(
    max_forget_accuracy=0.5,
    max_retain_drop=0.2,
    max_total_retain_drop=0.3,
    figures={"logit_auc": Bound(minimum=0.3, maximum=0.7), "recall_at_5": Bound(beside="reset-rows")},
)
GROUPS: tuple[tuple[Gate, ScopeKind, str | None], ...] = (
    (Gate(), "class", None),
    (Gate(class_thresholds=NAMED), "class", None),
    (Gate(), "sample", "misclassify"),
    (Gate(), "sample", "indistinguishable"),
    (Gate(), "client", None),
)


def drawn(draw: random.Random, scope: ScopeKind) -> Evidence:
    """Evidence that is near the bounds, with some of it missing."""

    def maybe(value: float) -> float | None:
        return None if draw.random() < 0.15 else value

    def measured() -> Measured:
        value = draw.random()
        return draw.choice([Measured(None), Measured(value), Measured(value, (value - 0.1, value + 0.1))])

    low = draw.uniform(0.3, 0.7)
    names = ("logit_auc", "recall_at_5", "reset_rows_recall_at_5", "recall_without_bias", "above_reference")
    return Evidence(
        forget_accuracy=maybe(draw.choice([0.0, 0.04, 0.3, 0.9])),
        retain_accuracy=maybe(draw.uniform(0.8, 1)),
        accepted_retain_accuracy=maybe(draw.uniform(0.8, 1)),
        first_retain_accuracy=maybe(draw.uniform(0.8, 1)),
        finite=draw.random() < 0.95,
        repair_rounds=0,
        attempt=1,
        unseen_accuracy=draw.random() if scope == "client" else None,
        membership_interval=(low, low + 0.1) if draw.random() < 0.7 else None,
        confidence=Difference(value=draw.uniform(0, 3), error=0.2) if scope == "client" else None,
        staying_confidence=maybe(draw.uniform(0, 4)) if scope == "client" else None,
        figures={name: measured() for name in names if draw.random() < 0.8},
    )


@pytest.mark.parametrize("group", range(len(GROUPS)))
@pytest.mark.parametrize("is_retrained", [False, True])
def test_some_check_fails_exactly_where_the_gate_refuses(group: int, is_retrained: bool) -> None:
    gate, scope, goal = GROUPS[group]
    draw, verdicts = random.Random(group), set[bool]()
    for _ in range(400):
        evidence, before = drawn(draw, scope), drawn(draw, scope)
        checks = checks_of(
            gate.thresholds(scope, goal), scope, evidence, goal, before=before, is_retrained=is_retrained
        )
        reasons = gate.decide(scope, evidence, goal, before=before, is_retrained=is_retrained).reasons
        failed = [check.figure for check in checks if check.passed is False]
        assert bool(reasons) is (bool(failed) or not evidence.finite), (evidence, reasons, checks)
        assert len({check.figure for check in checks}) == len(checks)
        verdicts.add(bool(reasons))
    assert verdicts == {True, False}


def test_each_check_has_its_figure_and_its_bounds() -> None:
    evidence = replace(
        drawn(random.Random(0), "class"),
        finite=True,
        forget_accuracy=0.75,
        retain_accuracy=0.5,
        accepted_retain_accuracy=0.625,
        first_retain_accuracy=None,
        figures={"recall_at_5": Measured(0.5), "reset_rows_recall_at_5": Measured(0.5, (0.25, 0.75))},
    )
    checks = checks_of(NAMED, "class", evidence)
    assert checks == (
        GateCheck(figure="forget_accuracy", value=0.75, maximum=0.5, passed=False),
        GateCheck(figure="logit_auc", minimum=0.3, maximum=0.7, passed=False),
        GateCheck(figure="recall_at_5", value=0.5, maximum=0.75, passed=True),
        GateCheck(figure="retain_drop", value=0.125, maximum=0.2, passed=True),
        GateCheck(figure="total_retain_drop", maximum=0.3, passed=None),
    )
    with_interval = replace(checks[0], interval=(0.25, 0.875))
    for check in (*checks, with_interval):
        assert GateCheck.from_json(json.loads(json.dumps(asdict(check)))) == check
