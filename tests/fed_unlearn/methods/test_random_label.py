from __future__ import annotations

import dataclasses

import numpy
import pytest
import torch
from hand_descent import Array, Term, descended, images_trained_on, keys, known_samples, linear_model, table
from torch import Tensor, nn
from trained_digits import FORGOTTEN, Digits, accuracy

from fed_unlearn.data.images import ImageSet
from fed_unlearn.errors import InvalidDataError, InvalidParameterError
from fed_unlearn.methods.base import Outcome
from fed_unlearn.methods.random_label import RandomLabel


def drawn_labels(outcome: Outcome) -> Tensor:
    assert outcome.guard_labels is not None
    return outcome.guard_labels


@pytest.mark.parametrize("bound", [0.0, 0.05])
@pytest.mark.parametrize("retained", [False, True])
def test_one_step_on_a_linear_model_equals_the_hand_computed_one(retained: bool, bound: float) -> None:
    model = linear_model()
    forget, retain = known_samples(model, 5, seed=1), known_samples(model, 7, seed=2)
    method = RandomLabel(forget_weight=0.3, learning_rate=0.1, max_gradient_norm=bound, max_steps=1)
    outcome = method.unlearn(model, forget, retain if retained else None)
    towards = forget.relabelled(drawn_labels(outcome))
    # Without retained samples there is nothing that the forget samples are weighed against.
    terms = [(0.3, towards), (1.0, retain)] if retained else [(1.0, towards)]
    batch = torch.cat([samples.images for _, samples in terms])
    start = table(model)
    expected = descended(start, [batch], terms, learning_rate=0.1, bound=bound)
    numpy.testing.assert_allclose(table(outcome.model), expected, rtol=0, atol=1e-6)
    moved = float(numpy.linalg.norm(expected - start))
    assert moved == pytest.approx(0.1 * bound) if bound else moved > 0.1 * 0.05
    assert outcome.steps == 1


@pytest.mark.parametrize("retained", [False, True])
def test_the_labels_are_drawn_once_and_are_the_guard_labels(retained: bool) -> None:
    model = linear_model()
    forget, retain = known_samples(model, 8, seed=1), known_samples(model, 7, seed=2)
    start, batches = table(model), images_trained_on(model)
    settings = {"learning_rate": 2e-3, "momentum": 0.8}
    method = RandomLabel(
        forget_weight=0.5,
        batch_size=3,
        max_steps=40,
        max_gradient_norm=0,
        target_accuracy=0,
        **settings,  # type: ignore[arg-type]
    )
    outcome = method.unlearn(model, forget, retain if retained else None)
    assert outcome.steps == len(batches) == 40

    def by_hand(labels: Tensor) -> Array:
        terms: list[Term] = [(0.5 if retained else 1.0, forget.relabelled(labels))]
        return descended(start, batches, terms + ([(1.0, retain)] if retained else []), **settings)  # type: ignore[arg-type]

    drawn = drawn_labels(outcome)
    numpy.testing.assert_allclose(table(outcome.model), by_hand(drawn), rtol=0, atol=1e-5)
    # One other label for one sample would be seen.
    for other in set(range(4)) - {int(drawn[0])}:
        changed = drawn.clone()
        changed[0] = other
        assert numpy.abs(table(outcome.model) - by_hand(changed)).max() > 1e-3


def test_all_samples_are_trained_on_equally_often() -> None:
    model = linear_model()
    forget, retain = known_samples(model, 8, seed=1), known_samples(model, 12, seed=2)
    batches = images_trained_on(model)
    RandomLabel(batch_size=4, max_steps=6, learning_rate=1e-9, target_accuracy=0).unlearn(model, forget, retain)
    seen = [key for batch in batches for key in keys(batch)]
    assert [seen.count(key) for key in keys(forget.images)] == [3] * 8
    assert [seen.count(key) for key in keys(retain.images)] == [2] * 12
    # Forget samples stand first in each batch.
    assert all(set(keys(batch[:4])) <= set(keys(forget.images)) for batch in batches)


def labels_for(own: Tensor, excluded: set[int], class_count: int, seed: int) -> Tensor:
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, class_count))
    samples = ImageSet(torch.zeros(len(own), 1, 1, 1), own)
    generator = torch.Generator().manual_seed(seed)
    method = RandomLabel(max_steps=1)
    return drawn_labels(method.unlearn(model, samples, excluded_classes=excluded, generator=generator))


def test_labels_are_uniform_among_allowed_classes() -> None:
    # The excluded class 2 is the own class of some samples as well.
    own = torch.arange(6).repeat(1500)
    found = labels_for(own, {2, 5}, 6, seed=0)
    for label in range(6):
        counts = torch.bincount(found[own == label], minlength=6)
        allowed = sorted(set(range(6)) - {2, 5, label})
        assert int(counts[allowed].sum()) == 1500
        expected = 1500 / len(allowed)
        statistic = float(((counts[allowed] - expected) ** 2 / expected).sum())
        assert statistic < {3: 13.8, 4: 16.3}[len(allowed)]  # exceeded once in a thousand draws


def test_labels_of_samples_do_not_depend_on_each_other_and_follow_the_seed() -> None:
    own = torch.zeros(6000, dtype=torch.int64)
    found = labels_for(own, set(), 4, seed=0)
    pairs = torch.bincount(3 * (found[:-1:2] - 1) + found[1::2] - 1, minlength=9)
    assert float(((pairs - 3000 / 9) ** 2 / (3000 / 9)).sum()) < 26.1  # eight degrees, once in a thousand draws
    assert found.tolist() == labels_for(own, set(), 4, seed=0).tolist()
    # Another seed agrees by chance alone: a third of 6000, give or take 37.
    assert abs(int((found == labels_for(own, set(), 4, seed=1)).sum()) - 2000) < 150


@pytest.mark.parametrize("retained", [True, False])
def test_it_forgets_the_class_and_keeps_the_others(digits: Digits, retained: bool) -> None:
    before = accuracy(digits.trained, digits.test_retain)
    outcome = RandomLabel().unlearn(digits.model, digits.forget, digits.retain if retained else None)
    assert outcome.converged
    assert outcome.steps < 150
    assert accuracy(outcome.model, digits.forget) <= 0.03
    assert accuracy(outcome.model, digits.test_forget) <= 0.05
    assert accuracy(outcome.model, digits.test_retain) >= before - 0.04
    assert set(drawn_labels(outcome).tolist()) == set(range(10)) - {FORGOTTEN}


def test_passes_equal_a_hand_count(digits: Digits) -> None:
    forget, retain = digits.forget.subset(torch.arange(20)), digits.retain.subset(torch.arange(30))
    method = RandomLabel(learning_rate=1e-9, batch_size=8, max_steps=5, target_accuracy=0)
    outcome = method.unlearn(digits.model, forget, retain)
    # The original on the retained samples 30; forget batches of 8, 8, 4, 8, 8 with 8, 8, 8, 6, 8 retained ones; the
    # closing check of the forget set 20.
    assert (outcome.forward_passes, outcome.backward_passes) == (30 + 36 + 38 + 20, 36 + 38)
    assert (outcome.converged, outcome.steps) == (False, 5)
    outcome = method.unlearn(digits.model, forget)
    assert (outcome.forward_passes, outcome.backward_passes) == (36 + 20, 36)


def test_a_forget_set_with_no_class_left_is_refused(digits: Digits) -> None:
    others = [label for label in range(10) if label != FORGOTTEN]
    with pytest.raises(InvalidDataError, match=r"random-label: classes .* are excluded"):
        RandomLabel().unlearn(digits.model, digits.forget, excluded_classes=others)


def test_stronger_doubles_rate_and_steps() -> None:
    weak = RandomLabel(forget_weight=0.2, learning_rate=1e-3, max_steps=7)
    assert weak.stronger() == dataclasses.replace(weak, learning_rate=2e-3, max_steps=14)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"forget_weight": 0}, "forget_weight = 0 was given; allowed is a number above 0"),
        ({"forget_weight": float("nan")}, "forget_weight = nan"),
        ({"forget_weight": True}, "forget_weight = True"),
        ({"learning_rate": 0}, "learning_rate = 0 was given; allowed is a number above 0"),
        ({"max_gradient_norm": -1}, "max_gradient_norm = -1 was given; allowed is a number at least 0"),
        ({"max_steps": 0}, "max_steps = 0 was given; allowed is a whole number at least 1"),
        ({"trained_layers": 1.0}, "trained_layers = 1.0"),
        ({"retain_tolerance": 1.1}, "retain_tolerance = 1.1 was given; allowed is a number at least 0 and at most 1"),
    ],
)
def test_bad_parameters_are_named(parameters: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidParameterError) as caught:
        RandomLabel(**parameters)  # type: ignore[arg-type]
    assert f"random-label: {message}" in str(caught.value)
