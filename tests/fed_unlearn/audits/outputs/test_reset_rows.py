"""Classes that stay under reset rows, and the recall of a class without its bias."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch.nn import functional

from fed_unlearn.audits.observation import Judged, Observation
from fed_unlearn.audits.outputs.recall_without_bias import RecallWithoutBias
from fed_unlearn.audits.outputs.reset_rows import BIN_COUNT, MOST_CLASSES, ResetRows, chosen_classes, reset_scores
from fed_unlearn.audits.scores import class_scores
from fed_unlearn.data.tensors import TensorSet

Seen = Callable[..., Observation]


def test_scores_are_those_of_a_layer_whose_row_was_overwritten() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(50, 8, generator=generator, dtype=torch.float64)
    weight = torch.randn(5, 8, generator=generator, dtype=torch.float64)
    found = reset_scores(class_scores(functional.linear(features, weight)).double(), [0, 1, 3, 4])
    for column, label in enumerate([0, 1, 3, 4]):
        others = [other for other in (0, 1, 3, 4) if other != label]
        row = weight[others].mean(0)
        expected = features @ row - functional.linear(features, weight[others]).logsumexp(1)
        assert torch.allclose(found[:, column], expected, atol=1e-4)


def test_figures_are_those_of_each_class_within_the_width_of_a_bin(seen: Seen) -> None:
    observation = seen("original")
    assert observation.test_retain is not None
    counts, labels = ResetRows.count(observation), observation.test_retain.labels
    scores = reset_scores(observation.test_retain.class_scores, observation.staying)
    exact = [roc_auc_score(labels == label, scores[:, column]) for column, label in enumerate(observation.staying)]
    measured = counts.figures["reset_rows_logit_auc"]
    assert measured.interval is not None and measured.value is not None
    assert measured.interval[0] < min(exact) and max(exact) < measured.interval[1]
    assert measured.value == pytest.approx(torch.tensor(exact).median().item(), abs=0.02)
    assert sum(counts.own) == len(labels) and sum(counts.rest) == len(labels) * (len(observation.staying) - 1)


def test_holders_add_up_to_the_pooled_counts(seen: Seen) -> None:
    observation = seen("original")
    retained = observation.test_retain
    assert retained is not None
    first = torch.arange(len(retained)) % 3 == 0
    parts = [replace(observation, test_retain=retained.where(chosen)) for chosen in (first, ~first)]
    assert ResetRows.count(parts[0]) + ResetRows.count(parts[1]) == ResetRows.count(observation)


def test_the_mask_is_what_it_was_and_an_oracle_knows_nothing(seen: Seen) -> None:
    recalls = {name: RecallWithoutBias.count(seen(name)) for name in ("original", "masked", "oracle")}
    assert recalls["masked"] == recalls["original"]
    assert recalls["masked"].interval is not None and recalls["masked"].interval[0] > 0.9
    assert recalls["oracle"].value == 0.0


def test_an_overwritten_row_is_not_seen(seen: Seen) -> None:
    assert RecallWithoutBias.count(seen("row overwritten")).value == 0.0


def test_the_recall_is_that_of_a_layer_without_biases(seen: Seen) -> None:
    generator = torch.Generator().manual_seed(1)
    logits, labels = torch.randn(400, 6, generator=generator), torch.full((400,), 2)
    hidden = logits.clone()
    hidden[:, 2] -= 10_000
    forget = Judged(TensorSet(torch.zeros(400, 1), labels), torch.arange(400), hidden, class_scores(hidden, logits))
    counts = RecallWithoutBias.count(replace(seen("original"), forget=forget))
    assert counts == RecallWithoutBias(int((logits.argmax(1) == 2).sum()), 400)
    assert 0 < counts.recognised < 400 and RecallWithoutBias().value is None


def test_a_constant_on_all_other_outputs_is_not_seen(seen: Seen) -> None:
    generator = torch.Generator().manual_seed(1)
    rows, labels = torch.randn(400, 6, generator=generator), torch.full((400,), 2)

    def recognised(biases: list[float]) -> int:
        scores = class_scores(rows + torch.tensor(biases), rows)
        forget = Judged(TensorSet(torch.zeros(400, 1), labels), torch.arange(400), rows, scores)
        return RecallWithoutBias.count(replace(seen("original"), forget=forget)).recognised

    whole = int((rows.argmax(1) == 2).sum())
    assert recognised([0, 0, -20, 0, 0, 0]) == recognised([0.0] * 6) == whole > 0
    assert recognised([20, 20, 0, 20, 20, 20]) == 0


def test_samples_without_a_finite_score_do_not_count(seen: Seen) -> None:
    whole = seen("original")
    assert whole.forget is not None and whole.test_retain is not None
    broken = whole.forget.class_scores.clone()
    broken[::2, whole.classes[0]] = torch.nan
    half = RecallWithoutBias.count(replace(whole, forget=replace(whole.forget, scores=broken)))
    assert half.total == len(broken) // 2 and half.value is not None and half.value > 0.9
    lost = replace(whole.forget, scores=torch.full_like(broken, torch.nan))
    assert RecallWithoutBias.count(replace(whole, forget=lost)).value is None
    kept = replace(whole.test_retain, scores=torch.full_like(whole.test_retain.class_scores, torch.nan))
    assert ResetRows.count(replace(whole, test_retain=kept)).value is None


def test_counts_that_cannot_be() -> None:
    assert ResetRows().fits(10) and ResetRows().value is None
    assert not ResetRows((1,) * (BIN_COUNT - 1), (1,) * (BIN_COUNT - 1)).fits(10)
    assert not ResetRows((1,) * BIN_COUNT * 11, (1,) * BIN_COUNT * 11).fits(10)
    assert not ResetRows((1,) * BIN_COUNT * 3, (1,) * BIN_COUNT * 2).fits(10)
    assert ResetRows((1,) * BIN_COUNT * 3, (2,) * BIN_COUNT * 3).fits(10)
    assert not RecallWithoutBias(2, 1).fits(10)


def test_of_many_classes_every_so_many_is_taken() -> None:
    assert chosen_classes(range(7)) == tuple(range(7))
    assert chosen_classes(range(1, 101)) == tuple(range(1, 101, 5))


def test_each_class_is_ranked_among_the_same_samples(seen: Seen) -> None:
    counts = ResetRows.count(seen("original"))
    assert counts.fits(10) and ResetRows().fits(10) and not counts.fits(8)
    more = (counts.rest[0] + 1, *counts.rest[1:])
    assert not replace(counts, rest=more).fits(10), "one class has a sample more than the others"
    doubled = tuple(2 * count for count in counts.rest)
    assert not replace(counts, rest=doubled).fits(10), "samples of no class"
    assert not replace(counts, rest=(0,) * len(counts.rest)).fits(10), "no class beside the others"


def test_of_many_classes_some_samples_are_of_none_that_is_taken() -> None:
    most, row = MOST_CLASSES, (1, *[0] * (BIN_COUNT - 1))
    others = (most - 1 + 7, *[0] * (BIN_COUNT - 1))
    assert ResetRows(row * most, others * most).fits(100), "one sample of each class, and seven of others"
    assert not ResetRows(row * 10, others * 10).fits(100), "of ten classes all samples are taken"
