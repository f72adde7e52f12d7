"""Bounds on figures of audits, decided on made-up evidence."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fed_unlearn.audits.measured import Measured
from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.evidence import Evidence, HowKnown
from fed_unlearn.gate import Bound, Gate, Thresholds, Verdict
from fed_unlearn.gate.bounds import CLASS_FIGURES

EVIDENCE = Evidence(
    forget_accuracy=0.0,
    retain_accuracy=None,
    accepted_retain_accuracy=None,
    first_retain_accuracy=None,
    finite=True,
    repair_rounds=0,
    attempt=1,
)


def gate(**figures: Bound) -> Gate:
    return Gate(
        class_thresholds=Thresholds(
            max_forget_accuracy=0.05, max_retain_drop=0.02, max_total_retain_drop=0.05, figures=figures
        )
    )


def reasons(bounds: Gate, **figures: Measured) -> tuple[str, ...]:
    return bounds.decide("class", replace(EVIDENCE, figures=figures)).reasons


def test_a_figure_fails_only_with_its_whole_interval() -> None:
    bounds = gate(logit_auc=Bound(minimum=0.6, maximum=0.75))
    assert reasons(bounds, logit_auc=Measured(0.75)) == reasons(bounds, logit_auc=Measured(0.6)) == ()
    assert reasons(bounds, logit_auc=Measured(0.875, (0.75, 0.9))) == ()
    assert reasons(bounds, logit_auc=Measured(0.5, (0.4, 0.6))) == ()
    assert reasons(bounds, logit_auc=Measured(0.875)) == ("logit_auc 0.875 is over 0.750",)
    assert reasons(bounds, logit_auc=Measured(0.875, (0.8, 0.9))) == (
        "logit_auc 0.875, between 0.800 and 0.900, is over 0.750",
    )
    assert reasons(bounds, logit_auc=Measured(0.5, (0.4, 0.59))) == (
        "logit_auc 0.500, between 0.400 and 0.590, is under 0.600",
    )


def test_a_named_figure_that_was_not_measured_refuses_and_a_default_one_does_not() -> None:
    named = gate(logit_auc=Bound(maximum=0.9))
    assert reasons(named) == reasons(named, logit_auc=Measured(None)) == ("logit_auc was not measured",)
    assert reasons(gate(logit_auc=Bound(maximum=0.9, needed=False))) == ()
    assert Gate().decide("class", EVIDENCE).verdict is Verdict.ACCEPT


def test_beside_reset_rows_the_end_of_the_prediction_interval_is_the_bound() -> None:
    bounds, recall = gate(recall_at_5=Bound(beside="reset-rows")), Measured(0.9, (0.85, 0.95))
    within, below = Measured(0.5, (0.2, 0.85)), Measured(0.4, (0.1, 0.6))
    assert reasons(bounds, recall_at_5=recall, reset_rows_recall_at_5=within) == ()
    assert reasons(bounds, recall_at_5=Measured(0.0), reset_rows_recall_at_5=within) == ()
    failure = (
        "recall_at_5 0.900, between 0.850 and 0.950, is over 0.600, the end of the 95 % prediction interval of classes"
        " that stay, each under a reset row",
    )
    assert reasons(bounds, recall_at_5=recall, reset_rows_recall_at_5=below) == failure
    assert reasons(bounds, recall_at_5=recall) == (
        "recall_at_5 has nothing beside it: no figure of classes that stay, each under a reset row was measured",
    )
    retrained = replace(EVIDENCE, figures={"recall_at_5": recall, "reset_rows_recall_at_5": below})
    assert bounds.decide("class", retrained, is_retrained=True).verdict is Verdict.ACCEPT


def test_beside_oracles_both_ends_are_bounds() -> None:
    bounds = gate(logit_auc=Bound(beside="oracle"))
    evidence = replace(EVIDENCE, oracle_figures={"logit_auc": Measured(0.86, (0.8, 0.92))})
    for value, verdict in (
        (0.79, Verdict.REPAIR),
        (0.8, Verdict.ACCEPT),
        (0.92, Verdict.ACCEPT),
        (0.93, Verdict.REPAIR),
    ):
        judged = replace(evidence, figures={"logit_auc": Measured(value)})
        assert bounds.decide("class", judged).verdict is verdict
    assert bounds.validate() == []
    [problem] = bounds.problems_in_federation()
    assert "a federation trains its oracles after the requests" in problem


def test_by_default_a_class_that_one_constant_hides_is_refused() -> None:
    hidden = replace(EVIDENCE, figures={"recall_without_bias": Measured(0.5, (0.4, 0.6))})
    decision = Gate().decide("class", hidden)
    assert decision.reasons == ("recall_without_bias 0.500, between 0.400 and 0.600, is over 0.050",)
    assert set(CLASS_FIGURES) == {"recall_at_5", "recall_without_bias"}


def test_what_was_not_measured_before_does_not_show_the_class() -> None:
    bounds = gate(logit_auc=Bound(maximum=0.9))
    after = replace(EVIDENCE, figures={"logit_auc": Measured(0.5)})
    assert bounds.decide("class", after, before=EVIDENCE).known is HowKnown.NOT_MEASURABLE
    before = replace(EVIDENCE, figures={"logit_auc": Measured(0.99)})
    assert bounds.decide("class", after, before=before).known is HowKnown.MEASURED


@pytest.mark.parametrize(
    ("figure", "bound", "problem"),
    [
        ("logit_auk", Bound(maximum=0.9), "logit_auk is no figure of an audit; did you mean logit_auc?"),
        ("logit_auc", Bound(maximum=1.5), "logit_auc 1.5 was given; expected a number from 0 to 1"),
        ("recall_without_bias", Bound(beside="reset-rows"), "has no reference under reset rows; expected numbers"),
        ("membership_auc", Bound(maximum=0.6), "membership_auc has thresholds of its own"),
        ("tug_of_war", Bound(maximum=0.6), "which no gate can ask for"),
    ],
)
def test_a_figure_that_there_is_not_is_told(figure: str, bound: Bound, problem: str) -> None:
    assert Gate().validate() == []
    [told] = gate(**{figure: bound}).validate()
    assert gate(**{figure: replace(bound, needed=False)}).validate() == [told], "or it would be looked at never"
    assert told.startswith(f"gate: class_thresholds.figures['{figure}']: ") and problem in told


def test_a_figure_of_another_scope_is_told() -> None:
    thresholds = Thresholds(
        max_forget_accuracy=None,
        max_retain_drop=None,
        max_total_retain_drop=None,
        figures={"logit_auc": Bound(maximum=0.9)},
    )
    [told] = Gate(client_thresholds=thresholds).validate()
    assert told.endswith("logit_auc is measured of class requests; expected a figure of client requests")


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"minimum": 0.5, "maximum": 0.4},
        {"maximum": 0.5, "beside": "oracle"},
        {"beside": "x"},
        {"maximum": float("nan")},
    ],
)
def test_bounds_that_cannot_be(values: dict[str, object]) -> None:
    with pytest.raises(InvalidParameterError, match="expected"):
        Bound(**values)  # type: ignore[arg-type]


def test_thresholds_take_bounds_alone() -> None:
    with pytest.raises(InvalidParameterError, match=r"figures\['logit_auc'\] = 0.9; expected Bound"):
        gate(logit_auc=0.9)  # type: ignore[arg-type]


def test_the_audits_behind_figures_are_asked_for_with_their_references() -> None:
    assert Gate().audits("class") == ("logit_ranking", "recall_without_bias", "reset_rows")
    assert Gate().audits("sample") == ("above_reference",)
    assert Gate().audits("client") == ()
    assert gate(logit_auc=Bound(maximum=0.9)).audits("class") == ("logit_ranking",)
