"""The ranking of a class's score: what hides it, what does not, and what it cannot see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn
from trained_digits import FORGOTTEN, Digits

from fed_unlearn.audits.observation import Judged, Observation
from fed_unlearn.audits.outputs.logit_ranking import LogitRanking
from fed_unlearn.audits.outputs.score_histograms import largest_error
from fed_unlearn.holder import observe

Seen = Callable[..., Observation]


def test_the_figure_is_the_exact_auc_within_its_bound(seen: Seen) -> None:
    for name in ("original", "over-forgotten", "oracle"):
        observation = seen(name)
        assert observation.outsiders is not None and observation.test_retain is not None
        sides = [side.class_scores[:, FORGOTTEN] for side in (observation.outsiders, observation.test_retain)]
        labels = torch.cat([torch.ones(len(sides[0])), torch.zeros(len(sides[1]))])
        counts = LogitRanking.count(observation)
        exact = roc_auc_score(labels, torch.cat(sides))
        assert counts.value == pytest.approx(exact, abs=largest_error(counts.test_class, counts.test_staying))
        assert largest_error(counts.test_class, counts.test_staying) < 0.02


def test_a_masked_output_ranks_as_the_original(seen: Seen) -> None:
    original, masked = (LogitRanking.count(seen(name)) for name in ("original", "masked"))
    assert bool((seen("masked").forget.logits.argmax(1) != FORGOTTEN).all())
    assert masked.figures == original.figures
    assert masked.value is not None and masked.value > 0.99
    recall = masked.figures["recall_at_5"].value
    assert recall is not None and recall > 0.95


def test_beside_the_oracle_a_mask_is_above_and_over_forgetting_below(seen: Seen) -> None:
    aucs = {name: LogitRanking.count(seen(name)).value or 0.0 for name in ("masked", "over-forgotten", "oracle")}
    interval = LogitRanking.count(seen("oracle")).interval
    assert interval is not None and interval[0] < aucs["oracle"] < interval[1]
    assert aucs["masked"] > interval[1] and aucs["over-forgotten"] < interval[0]


def test_an_overwritten_row_passes_for_far_better_than_a_mask(seen: Seen) -> None:
    """Every feature is still there: audits of features must see it, these figures see half of it at most."""
    recalls = {
        name: LogitRanking.count(seen(name)).figures["recall_at_5"].value or 0.0
        for name in ("masked", "row overwritten")
    }
    assert recalls["masked"] - recalls["row overwritten"] > 0.3


def test_a_gate_judges_by_validation_samples_and_by_the_forget_set_where_there_are_none(seen: Seen) -> None:
    observation = seen("original")
    unseen = replace(
        observation, outsiders=None, test_retain=None, held_out=observation.outsiders,
        held_out_retain=observation.test_retain,
    )  # fmt: skip
    by_test, by_validation = LogitRanking.count(observation), LogitRanking.count(unseen)
    assert by_test.gate_figures["logit_auc"].value is None
    assert by_validation.gate_figures == by_test.figures == by_validation.figures
    by_forget_set = LogitRanking.count(replace(unseen, held_out=None))
    assert sum(by_forget_set.held_out_class) == len(observation.forget)
    assert sum(by_validation.held_out_class) == len(observation.outsiders or ())


def test_of_several_classes_the_largest_score_counts(seen: Seen) -> None:
    observation = replace(seen("original"), classes=(1, FORGOTTEN))
    assert observation.test_retain is not None
    staying = observation.test_retain.where(observation.test_retain.labels != 1)
    counts = LogitRanking.count(replace(observation, test_retain=staying))
    scores = staying.class_scores[:, [1, FORGOTTEN]].amax(1)
    assert sum(counts.test_staying[512:]) == int((scores >= 0).sum())


def test_classes_that_were_forgotten_before_do_not_stay(digits: Digits) -> None:
    model = digits.trained
    judged = Judged.whole(digits.test_retain, model(digits.test_retain.images).detach())
    forget = Judged.whole(digits.forget, model(digits.forget.images).detach())
    seen = observe(model, "class", (FORGOTTEN,), forget, 10, test=judged, validation=judged, left_out=(1, 2))
    for side in (seen.test_retain, seen.held_out_retain):
        assert side is not None and set(side.labels.tolist()) == {0, 4, 5, 6, 7, 8, 9}
    assert seen.staying == (0, 4, 5, 6, 7, 8, 9) and seen.classes == (FORGOTTEN,) and seen.held_out is None
    sample = observe(model, "sample", (), forget, 10, test=judged, validation=judged)
    assert (sample.classes, sample.test_retain, sample.held_out_retain) == ((), None, None)


def test_counts_add_up_and_travel(seen: Seen) -> None:
    observation = seen("oracle")
    assert observation.outsiders is not None
    first = torch.arange(len(observation.outsiders)) < 11
    parts = [
        LogitRanking.count(replace(observation, outsiders=observation.outsiders.where(chosen)))
        for chosen in (first, ~first)
    ]
    whole = LogitRanking.count(observation)
    assert (parts[0] + parts[1]).test_class == whole.test_class
    assert LogitRanking.from_numbers(whole.to_numbers()) == whole
    assert whole.fits(10) and not LogitRanking((1, 2)).fits(10)
    assert LogitRanking().figures["logit_auc"].value is None


def test_scores_that_nobody_read_are_those_of_the_outputs(models: dict[str, nn.Module], digits: Digits) -> None:
    logits = models["original"](digits.test_forget.images).detach()
    read = Judged.whole(digits.test_forget, logits)
    assert read.scores is None
    own = logits[:, FORGOTTEN] - logits[:, [c for c in range(10) if c != FORGOTTEN]].logsumexp(1)
    assert torch.allclose(read.class_scores[:, FORGOTTEN], own, atol=1e-5)
