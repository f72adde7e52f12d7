"""Planted failures on small models of digits, and the audits that catch each of them."""

from __future__ import annotations

import pytest
from planted_failures import MEMORISED, RANDOM, class_figures, sample_figures, verdicts

CAUGHT_BY = {
    "output suppressed": {
        "recall_without_bias": "above",
        "recall_at_5": "above",
        "nearest_mean_1": "above",
        "prototype_accuracy_1": "above",
        "parameter_change_first": "below",
    },
    "row overwritten": {
        "nearest_mean_1": "above",
        "prototype_accuracy_1": "above",
        "parameter_change_first": "below",
    },
    "forgets nothing": {
        "forget_accuracy": "above",
        "test_forget_accuracy": "above",
        "recall_without_bias": "above",
        "recall_at_5": "above",
        "js_divergence": "above",
        "activation_distance": "above",
        "tug_of_war": "below",
        "parameter_change": "below",
    },
    "over-forgets": {
        "test_retain_accuracy": "below",
        "js_divergence": "above",
        "tug_of_war": "below",
        "difference_cosine": "above",
        "confidence_gap": "above",
    },
}
"""Of a class request: what lies outside of where a sixth retrained model's figure would be, and on which side."""

FORGETTING_ALONE = ("output suppressed", "row overwritten", "over-forgets")
"""Failures that accuracy on the forgotten class takes for success."""


@pytest.mark.parametrize("failure", CAUGHT_BY)
def test_a_failure_is_caught_by_the_audits_that_are_named_for_it(failure: str) -> None:
    found = verdicts(failure)
    assert {figure: found.get(figure) for figure in CAUGHT_BY[failure]} == CAUGHT_BY[failure]


@pytest.mark.parametrize("failure", FORGETTING_ALONE)
def test_accuracy_on_the_forgotten_class_sees_nothing_of_it(failure: str) -> None:
    figures = class_figures(failure)
    assert figures["forget_accuracy"].value == figures["test_forget_accuracy"].value == 0


def test_a_retrained_model_that_is_left_out_is_caught_by_few() -> None:
    assert len(verdicts("retrained")) <= 0.05 * len(class_figures("retrained"))


def value(figures: object, name: str) -> float:
    measured = figures[name].value  # type: ignore[index]
    assert measured is not None
    return float(measured)


def test_samples_that_indistinguishable_left_untouched_are_caught_by_ulira() -> None:
    """The loss alone, against unseen samples, sees nothing: memorised samples look hard either way."""
    figures = sample_figures(tuple(range(RANDOM + MEMORISED)), shadows=True)
    assert value(figures, "ulira_auc_memorised") >= 0.95 and value(figures, "ulira_accuracy_memorised") >= 0.95
    assert value(figures, "lira_left") >= MEMORISED / 2 and value(figures, "lira_auc_memorised") >= 0.95
    assert value(figures, "loss_auc_memorised") < 0.5


def test_one_memorised_sample_that_was_left_is_caught_by_lira() -> None:
    figures, clean = sample_figures((RANDOM + 4,)), sample_figures(())
    assert value(figures, "lira_left") >= 1 and value(clean, "lira_left") == 0
    assert value(figures, "lira_distance_memorised") > 3 * value(clean, "lira_distance_memorised")
    assert value(figures, "loss_auc_memorised") < 0.5, "the others hide it"
