"""Sureness and destinations: by hand in numpy and scipy, and on models that forgot wrongly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from trained_digits import FORGOTTEN

from fed_unlearn.audits.observation import Judged, Observation
from fed_unlearn.audits.outputs.destinations import Destinations
from fed_unlearn.audits.outputs.sureness import UNIT, Sureness

Seen = Callable[..., Observation]
STAYING = [label for label in range(10) if label != FORGOTTEN]


def staying_probabilities(judged: Judged | None) -> np.ndarray:
    assert judged is not None
    return np.asarray(scipy.special.softmax(judged.logits.double().numpy()[:, STAYING], axis=1))


@pytest.mark.parametrize("name", ["original", "masked", "over-forgotten", "oracle"])
def test_gaps_are_differences_of_means_with_welch_s_interval(seen: Seen, name: str) -> None:
    observation = seen(name)
    sides = [staying_probabilities(side) for side in (observation.forget, observation.test_retain)]
    figures = Sureness.count(observation).figures
    for figure, values in (
        ("confidence_gap", [side.max(1) for side in sides]),
        ("entropy_gap", [scipy.stats.entropy(side, axis=1) for side in sides]),
    ):
        measured, gap = figures[figure], values[0].mean() - values[1].mean()
        half = 1.959964 * np.sqrt(sum(side.var(ddof=1) / len(side) for side in values))
        assert measured.value == pytest.approx(gap, abs=2e-9)
        assert measured.interval == pytest.approx((gap - half, gap + half), abs=1e-6)


def test_over_forgetting_is_surer_than_an_oracle_and_a_mask_is_the_original(seen: Seen) -> None:
    counted = {name: Sureness.count(seen(name)) for name in ("original", "masked", "over-forgotten", "oracle")}
    over, oracle = counted["over-forgotten"].interval, counted["oracle"].interval
    assert over is not None and oracle is not None and over[0] > oracle[1]
    assert counted["masked"].figures == counted["original"].figures


def test_a_gate_compares_with_validation_samples(seen: Seen) -> None:
    observation = seen("original")
    counts = Sureness.count(observation)
    assert counts.gate_figures["confidence_gap"].value is None
    held_out = replace(observation, test_retain=None, held_out_retain=observation.test_retain)
    assert Sureness.count(held_out).gate_figures == counts.figures == Sureness.count(held_out).figures


def test_sums_that_cannot_be_do_not_fit(seen: Seen) -> None:
    counts = Sureness.count(seen("original"))
    assert counts.fits(10) and Sureness().fits(10)
    assert not replace(counts, forget_confidence=counts.forget_total * UNIT + UNIT).fits(10)
    assert not replace(counts, test_confidence_squares=10 * counts.test_confidence).fits(10)
    assert not replace(counts, test_confidence_squares=0).fits(10)
    assert not replace(counts, test_entropy=11 * counts.test_total * UNIT).fits(10)


@pytest.mark.parametrize("name", ["original", "over-forgotten", "oracle"])
def test_destinations_are_the_preferred_staying_classes(seen: Seen, name: str) -> None:
    observation = seen(name)
    chosen = Counter(np.asarray(STAYING)[staying_probabilities(observation.outsiders).argmax(1)].tolist())
    counts = Destinations.count(observation)
    assert {index: count for index, count in enumerate(counts.test) if count} == chosen
    entropy = scipy.stats.entropy(list(chosen.values())) / np.log(9)
    assert counts.value == pytest.approx(entropy, abs=1e-12)
    assert counts.figures["destination_top"].value == max(chosen.values()) / chosen.total()
    assert sum(counts.held_out) == len(observation.forget), "the forget set stands in for validation samples"


def test_pushing_all_to_one_class_stands_out(seen: Seen) -> None:
    pushed, oracle = (Destinations.count(seen(name)).figures for name in ("over-forgotten", "oracle"))
    for figure, direction in (("destination_entropy", -1), ("destination_top", 1)):
        first, second = pushed[figure].interval, oracle[figure].interval
        assert first is not None and second is not None
        assert first[0] > second[1] if direction > 0 else first[1] < second[0]


def test_the_entropy_s_interval_holds_the_true_one_in_most_draws() -> None:
    random, shares = np.random.default_rng(0), [0.4, 0.3, 0.2, 0.1]
    true, held = scipy.stats.entropy(shares) / np.log(4), 0
    for _ in range(400):
        counts = tuple(random.multinomial(300, shares).tolist())
        interval = Destinations(test=counts, stays=(1, 1, 1, 1)).interval
        assert interval is not None
        held += interval[0] <= true <= interval[1]
    assert held >= 0.92 * 400


def test_counts_add_up_and_travel(seen: Seen) -> None:
    observation = seen("oracle")
    first = torch.arange(len(observation.forget)) < 40
    for audit in (Sureness, Destinations):
        parts = [
            audit.count(replace(observation, forget=observation.forget.where(chosen))) for chosen in (first, ~first)
        ]
        whole, total = audit.count(observation).to_numbers(), (parts[0] + parts[1]).to_numbers()
        for field in ("forget_total", "forget_confidence", "forget_entropy_squares", "held_out"):
            assert total.get(field) == whole.get(field) or (audit is Sureness and field == "held_out")
        assert audit.from_numbers(whole).to_numbers() == whole
