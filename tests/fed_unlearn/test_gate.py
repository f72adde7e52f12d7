import re
from dataclasses import replace

import pytest

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.gate import Decision, Difference, Evidence, Gate, HowKnown, Thresholds, Verdict
from fed_unlearn.gate.bounds import CLASS_FIGURES
from fed_unlearn.requests import ScopeKind

GATE = Gate(
    class_thresholds=Thresholds(max_forget_accuracy=0.25, max_retain_drop=0.125, max_total_retain_drop=0.25),
    max_repair_rounds=2,
    max_attempts=3,
)
GOOD = Evidence(
    forget_accuracy=0.25,
    retain_accuracy=0.5,
    accepted_retain_accuracy=0.625,
    first_retain_accuracy=0.75,
    finite=True,
    repair_rounds=0,
    attempt=1,
)
"""Exactly on every bound: fractions of two, so that nothing is rounded."""

KEPT = replace(GOOD, accepted_retain_accuracy=None, first_retain_accuracy=None)

FORGET = "forget accuracy 0.500 is over 0.250"
DROP = "retained validation accuracy 0.500 is over 0.125 under 0.750 of the last accepted model"
TOTAL = "retained validation accuracy 0.500 is over 0.250 under 0.875 of the model before the first request"
NOT_FINITE = "a parameter is not finite"


def test_a_candidate_on_every_bound_is_accepted() -> None:
    assert GATE.decide("class", GOOD) == Decision(Verdict.ACCEPT, known=HowKnown.NOT_MEASURABLE)
    assert GATE.decide("class", GOOD).reason is None


@pytest.mark.parametrize(
    ("evidence", "reasons"),
    [
        (replace(GOOD, forget_accuracy=0.5), (FORGET,)),
        (replace(GOOD, forget_accuracy=None), ("no sample of the forget set could be read",)),
        (replace(GOOD, accepted_retain_accuracy=0.75), (DROP,)),
        (replace(GOOD, first_retain_accuracy=0.875), (TOTAL,)),
        (
            replace(GOOD, forget_accuracy=0.5, accepted_retain_accuracy=0.75, first_retain_accuracy=0.875),
            (FORGET, DROP, TOTAL),
        ),
    ],
)
def test_a_failed_bound_is_repaired_and_named(evidence: Evidence, reasons: tuple[str, ...]) -> None:
    decision = GATE.decide("class", evidence)
    assert decision == Decision(Verdict.REPAIR, reasons)
    assert decision.reason == "; ".join(reasons)


@pytest.mark.parametrize(
    ("attempt", "repair_rounds", "finite", "verdict"),
    [
        (1, 0, True, Verdict.REPAIR),
        (1, 1, True, Verdict.REPAIR),
        (1, 2, True, Verdict.RETRY),
        (2, 5, True, Verdict.RETRY),
        (3, 0, True, Verdict.REPAIR),
        (3, 1, True, Verdict.REPAIR),
        (3, 2, True, Verdict.ROLL_BACK),
        (4, 2, True, Verdict.ROLL_BACK),
        (1, 0, False, Verdict.RETRY),
        (2, 0, False, Verdict.RETRY),
        (3, 0, False, Verdict.ROLL_BACK),
    ],
)
def test_repairs_and_attempts_are_bounded(attempt: int, repair_rounds: int, finite: bool, verdict: Verdict) -> None:
    evidence = replace(GOOD, forget_accuracy=0.5, attempt=attempt, repair_rounds=repair_rounds, finite=finite)
    decision = GATE.decide("class", evidence)
    assert decision == Decision(verdict, (FORGET if finite else NOT_FINITE,))


def test_numbers_that_are_not_finite_are_never_accepted() -> None:
    assert GATE.decide("class", replace(GOOD, finite=False)).reasons == (NOT_FINITE,)
    open_gate = Gate(
        class_thresholds=Thresholds(max_forget_accuracy=None, max_retain_drop=None, max_total_retain_drop=None)
    )
    assert open_gate.decide("class", replace(GOOD, finite=False)).verdict is Verdict.RETRY


def test_one_attempt_and_no_repair_leave_only_yes_and_no() -> None:
    strict = replace(GATE, max_repair_rounds=0, max_attempts=1)
    assert strict.decide("class", GOOD).verdict is Verdict.ACCEPT
    assert strict.decide("class", replace(GOOD, forget_accuracy=0.5)).verdict is Verdict.ROLL_BACK


@pytest.mark.parametrize("off", ["max_forget_accuracy", "max_retain_drop", "max_total_retain_drop"])
def test_a_threshold_of_none_is_not_looked_at(off: str) -> None:
    gate = replace(GATE, class_thresholds=replace(GATE.class_thresholds, **{off: None}))
    worst = replace(GOOD, forget_accuracy=0.5, accepted_retain_accuracy=0.75, first_retain_accuracy=0.875)
    left = {"max_forget_accuracy": FORGET, "max_retain_drop": DROP, "max_total_retain_drop": TOTAL}
    del left[off]
    assert gate.decide("class", worst).reasons == tuple(left.values())


@pytest.mark.parametrize("missing", ["retain_accuracy", "accepted_retain_accuracy", "first_retain_accuracy"])
def test_accuracies_that_there_are_not_fail_no_bound(missing: str) -> None:
    assert GATE.decide("class", replace(GOOD, **{missing: None})).verdict is Verdict.ACCEPT  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("scope", "forget", "drop", "total"),
    [("class", 0.05, 0.02, 0.05), ("sample", 0.0, 0.05, 0.10), ("client", None, 0.05, 0.10)],
)
def test_each_scope_has_thresholds_of_its_own(
    scope: ScopeKind, forget: float | None, drop: float, total: float
) -> None:
    gate = Gate()
    assert gate.thresholds(scope) == Thresholds(
        max_forget_accuracy=forget,
        max_retain_drop=drop,
        max_total_retain_drop=total,
        max_forget_excess=0.1 if scope == "client" else None,
        max_confidence_share=0.5 if scope == "client" else None,
        figures=CLASS_FIGURES if scope == "class" else {},
    )
    fine = replace(GOOD, forget_accuracy=forget, retain_accuracy=1.0)
    assert gate.decide(scope, fine).verdict is Verdict.ACCEPT
    assert gate.decide(scope, replace(fine, forget_accuracy=1.0)).verdict is (
        Verdict.ACCEPT if forget is None else Verdict.REPAIR
    )
    fallen = replace(GOOD, forget_accuracy=forget, retain_accuracy=0.5, first_retain_accuracy=None)
    for slack, verdict in ((-0.001, Verdict.ACCEPT), (0.001, Verdict.REPAIR)):
        assert gate.decide(scope, replace(fallen, accepted_retain_accuracy=0.5 + drop + slack)).verdict is verdict


@pytest.mark.parametrize(
    ("finite", "accuracy", "accepted", "verdict"),
    [
        (True, 0.5, 0.75, Verdict.ACCEPT),
        (True, 0.75, 0.5, Verdict.ACCEPT),
        (True, 0.5, 0.875, Verdict.ROLL_BACK),
        (True, None, 0.875, Verdict.ACCEPT),
        (True, 0.1, None, Verdict.ACCEPT),
        (False, 1.0, 0.5, Verdict.ROLL_BACK),
    ],
)
def test_the_result_of_training_is_served_or_not(
    finite: bool, accuracy: float | None, accepted: float | None, verdict: Verdict
) -> None:
    decision = replace(GATE, max_training_drop=0.25).decide_training(
        finite=finite, retain_accuracy=accuracy, accepted=accepted
    )
    assert decision.verdict is verdict
    assert bool(decision.reasons) == (verdict is Verdict.ROLL_BACK)


@pytest.mark.parametrize("name", ["max_forget_accuracy", "max_retain_drop", "max_total_retain_drop"])
@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan"), float("inf")])
def test_thresholds_are_fractions(name: str, value: float) -> None:
    with pytest.raises(InvalidParameterError, match=re.escape(f"gate: {name} = {value!r}; expected a fraction")):
        replace(GATE.class_thresholds, **{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_repair_rounds", -1),
        ("max_attempts", 0),
        ("max_training_drop", -0.1),
        ("max_training_drop", 1.5),
        ("max_training_drop", float("nan")),
    ],
)
def test_bounds_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(InvalidParameterError, match=f"{name} = {value}"):
        Gate(**{name: value})  # type: ignore[arg-type]


def test_a_forgotten_client_is_held_against_unseen_samples_never_against_zero() -> None:
    unsure = replace(KEPT, forget_accuracy=0.8, unseen_accuracy=0.75)
    assert GATE.decide("client", unsure).verdict is Verdict.ACCEPT
    known = GATE.decide("client", replace(unsure, forget_accuracy=0.9))
    assert known.reasons == ("forget accuracy 0.900 is over 0.100 above 0.750 of unseen samples",)
    assert GATE.decide("client", replace(unsure, forget_accuracy=None)).verdict is Verdict.ACCEPT, "it has left"


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ((0.4, 0.6), Verdict.ACCEPT),
        ((0.51, 0.9), Verdict.REPAIR),
        ((0.1, 0.49), Verdict.REPAIR),
        (None, Verdict.ACCEPT),
    ],
)
def test_indistinguishable_samples_are_judged_by_membership(
    interval: tuple[float, float] | None, verdict: Verdict
) -> None:
    evidence = replace(KEPT, forget_accuracy=1.0, membership_interval=interval)
    assert GATE.decide("sample", evidence, "indistinguishable").verdict is verdict
    assert GATE.decide("sample", evidence).verdict is Verdict.REPAIR, "misclassified was asked for"


def test_another_method_is_tried_where_one_is_left() -> None:
    failed = replace(GOOD, forget_accuracy=0.5, attempt=GATE.max_attempts, repair_rounds=GATE.max_repair_rounds)
    assert GATE.decide("class", replace(failed, methods_left=1)).verdict is Verdict.ESCALATE
    assert GATE.decide("class", failed).verdict is Verdict.ROLL_BACK


KNOWN = replace(KEPT, forget_accuracy=1.0)
SURE = Difference(value=2.0, error=0.2)


@pytest.mark.parametrize(
    ("scope", "before", "after", "goal", "known"),
    [
        ("class", KNOWN, GOOD, None, HowKnown.MEASURED),
        ("class", GOOD, GOOD, None, HowKnown.NOT_MEASURABLE),
        ("class", None, GOOD, None, HowKnown.NOT_MEASURABLE),
        ("class", replace(KNOWN, forget_accuracy=None), GOOD, None, HowKnown.NOT_MEASURABLE),
        (
            "sample",
            replace(KNOWN, membership_interval=(0.6, 0.9)),
            replace(KNOWN, membership_interval=(0.4, 0.7)),
            "indistinguishable",
            HowKnown.MEASURED,
        ),
        (
            "sample",
            replace(KNOWN, membership_interval=(0.45, 0.9)),
            replace(KNOWN, membership_interval=(0.4, 0.7)),
            "indistinguishable",
            HowKnown.NOT_MEASURABLE,
        ),
        (
            "client",
            replace(KNOWN, confidence=SURE, staying_confidence=2.0),
            replace(KNOWN, confidence=replace(SURE, value=0.3), staying_confidence=2.0),
            None,
            HowKnown.MEASURED,
        ),
        (
            "client",
            replace(KNOWN, confidence=replace(SURE, error=0.8), staying_confidence=2.0),
            replace(KNOWN, confidence=replace(SURE, value=0.3), staying_confidence=2.0),
            None,
            HowKnown.NOT_MEASURABLE,
        ),
        ("client", replace(KNOWN, confidence=SURE, staying_confidence=2.0), KEPT, None, HowKnown.NOT_MEASURABLE),
        (
            "client",
            replace(KNOWN, confidence=SURE, staying_confidence=2.0),
            replace(KEPT, forget_accuracy=None),
            None,
            HowKnown.NOT_MEASURABLE,
        ),
    ],
)
def test_forgetting_is_measured_where_it_shows_before_and_not_after(
    scope: ScopeKind, before: Evidence | None, after: Evidence, goal: str | None, known: HowKnown
) -> None:
    assert GATE.how_known(scope, before, after, goal) is known
    retrained = GATE.how_known(scope, before, after, goal, is_retrained=True)
    assert retrained is (HowKnown.MEASURED if known is HowKnown.MEASURED else HowKnown.BY_CONSTRUCTION)


def test_a_client_that_is_known_as_well_as_those_that_stay_is_not_forgotten() -> None:
    evidence = replace(KEPT, forget_accuracy=1.0, confidence=SURE, staying_confidence=2.0)
    [reason] = Gate().forgot_too_little("client", evidence)
    assert reason.startswith("log-odds of the client's samples lie 2.00 over those of unseen ones")
    assert not Gate().forgot_too_little("client", replace(evidence, confidence=replace(SURE, value=1.3)))
    assert Gate().decide("client", evidence, is_retrained=True).known is HowKnown.BY_CONSTRUCTION


@pytest.mark.parametrize(("scope", "verdict"), [("class", Verdict.RETRY), ("client", Verdict.RETRY)])
def test_a_model_that_no_step_has_changed_is_refused_and_not_repaired(scope: ScopeKind, verdict: Verdict) -> None:
    decision = Gate().decide(scope, replace(KEPT, forget_accuracy=0.0, changed=False), before=KNOWN)
    assert (decision.verdict, decision.reason) == (verdict, "no step of the method has changed the model")


def test_samples_that_looked_unseen_before_may_be_left_as_they_are() -> None:
    unseen = replace(KEPT, forget_accuracy=0.0, changed=False)
    assert Gate().decide("sample", unseen, before=unseen).known is HowKnown.NOT_MEASURABLE
    assert Gate().decide("sample", unseen, before=KNOWN).verdict is Verdict.RETRY
    refused = Gate().decide("sample", unseen, before=unseen, require_measured=True)
    assert (refused.verdict, refused.known) == (Verdict.ROLL_BACK, None)
    assert refused.reason == "its forgetting is not measurable, and the plan demands measured"


def test_a_client_that_passes_by_chance_alone_is_never_measured_and_not_accepted_where_it_was_known() -> None:
    before = replace(KNOWN, confidence=Difference(value=1.5, error=0.2), staying_confidence=2.0)
    by_a_hair = replace(before, confidence=Difference(value=1.3, error=0.2))
    [reason] = Gate().decide("client", by_a_hair, before=before).reasons
    assert reason.startswith("log-odds of the client's samples lie 1.30 over those of unseen ones, and lay 1.50 over")
    assert Gate().how_known("client", before, by_a_hair) is HowKnown.NOT_MEASURABLE
    # Others that are known better by now, or a model that is less sure of everybody, are no forgetting either.
    for value, staying in ((1.3, 4.0), (0.3, 0.4)):
        after = replace(before, confidence=Difference(value=value, error=0.2), staying_confidence=staying)
        assert Gate().decide("client", after, before=before).verdict is Verdict.REPAIR
    forgotten = replace(before, confidence=Difference(value=0.4, error=0.2))
    assert Gate().decide("client", forgotten, before=before).known is HowKnown.MEASURED
    # Where chance explained it before, nothing can be told.
    unclear = replace(before, confidence=Difference(value=1.5, error=0.5))
    assert Gate().decide("client", unclear, before=unclear).known is HowKnown.NOT_MEASURABLE


@pytest.mark.parametrize(
    ("right", "samples", "left", "known"),
    [
        (80, 100, 100, HowKnown.MEASURED),
        (80, 100, 60, HowKnown.MEASURED),
        (80, 100, 5, HowKnown.NOT_MEASURABLE),  # the five may be ones that the model never had right
    ],
)
def test_samples_that_are_read_no_more_count_as_those_that_were_right(
    right: int, samples: int, left: int, known: HowKnown
) -> None:
    before = replace(KNOWN, forget_accuracy=right / samples, forget_samples=samples)
    after = replace(KNOWN, forget_accuracy=0.0, forget_samples=left)
    assert Gate().how_known("class", before, after) is known
