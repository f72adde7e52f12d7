"""Every estimate among the figures has its interval, and the gate's attack is not the one of the tables."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from fed_unlearn.audits.accuracy import ClassCounts, ForgetAccuracy
from fed_unlearn.audits.attack import MembershipAttack
from fed_unlearn.audits.confidence import ClientConfidence
from fed_unlearn.audits.counts import ClientCounts, RequestCounts
from fed_unlearn.audits.membership import BIN_COUNT, membership_interval
from fed_unlearn.audits.pooled import Audit, evidence_of
from fed_unlearn.evidence import NOTHING_KEPT
from fed_unlearn.gate import Gate, GateCheck
from fed_unlearn.gate.checks import checks_of
from fed_unlearn.requests import ForgetRequest

REQUEST = ForgetRequest.for_class(1)


def side(seed: int, count: int, centre: float) -> tuple[int, ...]:
    bins = np.random.default_rng(seed).normal(centre, 12, count).round().astype(int)
    return tuple(np.bincount(np.clip(bins, 0, BIN_COUNT - 1), minlength=BIN_COUNT).tolist())


def auc(members: tuple[int, ...], others: tuple[int, ...]) -> float:
    truth = np.repeat([1, 0], [sum(members), sum(others)])
    return float(
        roc_auc_score(truth, np.concatenate([np.repeat(np.arange(BIN_COUNT), item) for item in (members, others)]))
    )


def client(seed: int) -> ClientCounts:
    """A client whose validation samples are surer than its test samples, so that the two attacks differ."""
    attack = MembershipAttack(side(seed, 30, 100), side(seed + 10, 50, 95), side(seed + 20, 40, 120))
    parts = {"retain": ClassCounts((90, 3), (100, 4)), "test": ClassCounts((17, 1), (20, 9))}
    return ClientCounts(
        {**parts, "validation": ClassCounts((9, 5), (10, 10))}, {"r1": RequestCounts(membership=attack)}
    )


@pytest.fixture
def audit() -> Audit:
    return Audit({"0": client(0), "1": client(1)})


def test_estimates_have_intervals_of_the_pooled_counts(audit: Audit) -> None:
    figures = audit.figures(replace(REQUEST, id="r1"), ())
    attack = audit.pooled.targets["r1"].membership
    assert figures.intervals.keys() == {"test_forget_accuracy", "test_retain_accuracy", "membership_auc"}
    for name, hits, total in (("test_forget_accuracy", 2, 18), ("test_retain_accuracy", 34, 40)):
        expected = binomtest(hits, total).proportion_ci(0.95, method="wilson")
        assert getattr(figures, name) == hits / total
        assert figures.intervals[name] == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert figures.membership_auc == pytest.approx(auc(attack.member_histogram, attack.outsider_histogram), abs=1e-9)
    assert figures.intervals["membership_auc"] == membership_interval(
        attack.member_histogram, attack.outsider_histogram
    )
    assert figures.samples == {}, "all samples were read"


def test_retained_samples_have_an_interval_where_a_part_of_them_was_read(audit: Audit) -> None:
    request = replace(REQUEST, id="r1")
    some = audit.figures(request, (), limits={"retain": 100})
    assert some.samples == {"retain_accuracy": 200}
    assert some.intervals["retain_accuracy"][0] < 0.9 < some.intervals["retain_accuracy"][1]
    both = audit.figures(request, (), limits={"retain": 100, "test": 29})
    assert both.samples == {"retain_accuracy": 200, "test_forget_accuracy": 18, "test_retain_accuracy": 40}
    assert both.intervals == some.intervals


def test_what_the_oracle_never_saw_is_a_sample_of_unseen_data() -> None:
    counts = RequestCounts(hits=ForgetAccuracy(correct=3, total=12))
    audit = Audit({"0": ClientCounts({}, {"r1": counts})})
    request = replace(REQUEST, id="r1")
    assert audit.figures(request, ()).intervals == {}
    expected = binomtest(3, 12).proportion_ci(0.95, method="wilson")
    found = audit.figures(request, (), is_oracle=True)
    assert found.intervals["forget_accuracy"] == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert (found.forget_accuracy, found.samples) == (0.25, {})


def test_confidence_in_a_clients_samples_has_the_interval_that_the_gate_judges() -> None:
    sums = ClientConfidence((2, 4), (42000, 90000), (900_000_000, 2_100_000_000), *((3, 3), (60000, 61500)),
        (1_230_000_000, 1_280_000_000), (5, 5), (110000, 115000), (2_500_000_000, 2_700_000_000))  # fmt: skip
    counts = RequestCounts(hits=ForgetAccuracy(5, 6, (2, 4)), confidence=sums)
    figures = Audit({"0": ClientCounts({}, {"r1": counts})}).figures(ForgetRequest.for_client("0"), ())
    assert "client_confidence" not in figures.intervals, "no such request was counted"
    figures = Audit({"0": ClientCounts({}, {"r1": counts})}).figures(
        replace(ForgetRequest.for_client("0"), id="r1"), ()
    )
    evidence = evidence_of(NOTHING_KEPT, "client", counts, None)
    check = next(
        item
        for item in checks_of(Gate().thresholds("client"), "client", evidence)
        if item.figure == "client_confidence"
    )
    assert (check.value, check.interval) == (figures.client_confidence, figures.intervals["client_confidence"])
    low, high = figures.intervals["staying_confidence"]
    assert figures.staying_confidence == pytest.approx((low + high) / 2) and low < high


def test_what_was_not_measured_has_no_interval() -> None:
    nothing = Audit({"0": ClientCounts()}).figures(REQUEST, ())
    assert nothing.intervals == {} and "intervals" not in nothing.to_json()
    members = RequestCounts(membership=MembershipAttack(member_histogram=side(0, 9, 100)))
    alone = Audit({"0": ClientCounts({}, {"r1": members})}).figures(replace(REQUEST, id="r1"), ())
    assert (alone.membership_auc, alone.intervals) == (None, {})


def test_the_gate_judges_the_attack_against_validation_samples_and_says_its_value(audit: Audit) -> None:
    counts = audit.pooled.targets["r1"]
    sides = counts.membership.member_histogram, counts.membership.unseen_histogram
    evidence = evidence_of(replace(NOTHING_KEPT), "sample", counts, audit.validation())
    assert evidence.membership_auc == pytest.approx(auc(*sides), abs=1e-9)
    assert evidence.membership_interval == membership_interval(*sides)
    assert evidence.membership_auc < 0.5 < audit.figures(replace(REQUEST, id="r1"), ()).membership_auc  # type: ignore[operator]
    thresholds = Gate().thresholds("sample", "indistinguishable")
    seen = replace(evidence, forget_accuracy=1.0)
    check = next(item for item in checks_of(thresholds, "sample", seen, "indistinguishable") if item.minimum == 0.5)
    assert check == GateCheck(
        figure="validation_membership_auc",
        value=evidence.membership_auc,
        interval=evidence.membership_interval,
        minimum=0.5,
        maximum=0.5,
        passed=False,
    )


def test_checks_of_earlier_versions_are_read_under_the_name_of_what_they_were_of() -> None:
    old = {
        "figure": "membership_auc",
        "value": None,
        "interval": [0.4, 0.6],
        "minimum": 0.5,
        "maximum": 0.5,
        "passed": True,
    }
    assert GateCheck.from_json(old).figure == "validation_membership_auc"
    assert GateCheck.from_json(old).interval == (0.4, 0.6)
