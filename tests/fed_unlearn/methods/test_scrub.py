from __future__ import annotations

import dataclasses
import math

import numpy
import pytest
import torch
from softmax_linear import (
    Array,
    Recording,
    assert_parameters,
    drawn_samples,
    gaps,
    inputs_of,
    linear_model,
    one_hot,
    parameters_of,
    softmax,
)
from torch import nn
from trained_digits import Digits, accuracy, state_bytes

from fed_unlearn.data.images import ImageSet, concatenate
from fed_unlearn.errors import InvalidDataError, InvalidParameterError
from fed_unlearn.methods.scrub import Scrub, climb

HALVINGS = math.log(2)


def climbed(found: list[float], before: list[float], forbidden: set[int], margin: float, temperature: float) -> float:
    """In units of log 2, for probabilities at the given temperature."""
    logits, start = (temperature * torch.tensor([each]).log() for each in (found, before))
    mask = torch.tensor([[label in forbidden for label in range(len(found))]])
    return float(climb(logits, start, mask, temperature, margin)) / HALVINGS


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize(
    ("found", "before", "forbidden", "expected"),
    [
        # Class 0 has lost: the whole divergence, 1/2 log(1/2 : 1/4) + 1/4 log(1/4 : 1/2) + 0 + 0.
        ([1 / 4, 1 / 2, 1 / 8, 1 / 8], [1 / 2, 1 / 4, 1 / 8, 1 / 8], {0}, 1 / 2 - 1 / 4),
        # Class 0 has won: of the divergence, 1/4 log(1/4 : 1/2) + 3 (1/4) log(1/4 : 1/6), its own term only, below 0.
        ([1 / 2, 1 / 6, 1 / 6, 1 / 6], [1 / 4, 1 / 4, 1 / 4, 1 / 4], {0}, -1 / 4),
        # Nothing has changed yet.
        ([1 / 2, 1 / 4, 1 / 8, 1 / 8], [1 / 2, 1 / 4, 1 / 8, 1 / 8], {0}, 0),
        # Classes 0 and 1 together have lost: 1/2 log(1/2 : 1/4) + 1/4 log(1/4 : 1/4) + 1/4 log(1/4 : 1/2).
        ([1 / 8, 1 / 8, 1 / 4, 1 / 2], [1 / 4, 1 / 4, 1 / 4, 1 / 4], {0, 1}, 1 / 2 - 1 / 4),
        # Between themselves they may change.
        ([1 / 8, 3 / 8, 1 / 4, 1 / 4], [3 / 8, 1 / 8, 1 / 4, 1 / 4], {0, 1}, 0),
    ],
)
def test_what_is_climbed_equals_sums_by_hand(
    found: list[float], before: list[float], forbidden: set[int], expected: float, temperature: float
) -> None:
    assert climbed(found, before, forbidden, 10.0, temperature) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_a_sample_beyond_the_margin_between_logits_adds_nothing(temperature: float) -> None:
    # Class 1 leads by log 2 times the temperature.
    case = [1 / 4, 1 / 2, 1 / 8, 1 / 8], [1 / 2, 1 / 4, 1 / 8, 1 / 8], {0}
    assert climbed(*case, 0.99 * HALVINGS * temperature, temperature) == 0
    assert climbed(*case, 1.01 * HALVINGS * temperature, temperature) == pytest.approx(1 / 4)
    # Class 1 leads all others, but is excluded: both together went from 1/2 to 1/4, the six others from 1/12 to 1/8.
    crowd = [1 / 16, 3 / 16, *[1 / 8] * 6], [1 / 4, 1 / 4, *[1 / 12] * 6]
    assert climbed(*crowd, {0}, 0.1, temperature) == 0
    expected = 1 / 2 * 1 + 6 / 12 * math.log2(8 / 12)
    assert climbed(*crowd, {0, 1}, 0.1, temperature) == pytest.approx(expected, abs=1e-6)


def forget_gradient(parameters: Array, start: Array, forget: ImageSet, excluded: tuple[int, ...]) -> Array:
    """Of the descended loss, -T^2 times the mean of what is climbed, with T = 2 and a margin of 0.53."""
    inputs, forbidden = inputs_of(forget), one_hot(forget, excluded)
    logits, before = inputs @ parameters.T, softmax(inputs @ start.T / 2)
    found = softmax(logits / 2)
    share, share_before = ((each * forbidden).sum(axis=1, keepdims=True) for each in (found, before))
    # With P the share of the forbidden classes: d log P / dz_k = ([k forbidden] p_k / P - p_k) / T, and for the others
    # d (sum of p0_j log p_j) / dz_k = ([k other] p0_k - p_k (1 - P0)) / T.
    own = share_before * (forbidden * found / share - found) / 2
    others = (~forbidden * before - found * (1 - share_before)) / 2
    lost = share < share_before * (1 - 1e-9)
    errors: Array = 4 * (own + others * lost) * (gaps(logits, forbidden)[:, None] < 0.53)
    return errors.T @ inputs / len(forget)


def retain_gradient(parameters: Array, start: Array, retain: ImageSet) -> Array:
    """Of alpha T^2 KL + gamma CE: alpha T (p_T - p0_T) + gamma (p - y), with T = 2, alpha = 0.75, gamma = 1.25."""
    inputs = inputs_of(retain)
    logits = inputs @ parameters.T
    errors: Array = 0.75 * 2 * (softmax(logits / 2) - softmax(inputs @ start.T / 2))
    return (errors + 1.25 * (softmax(logits) - one_hot(retain))).T @ inputs / len(retain)


@pytest.mark.parametrize("excluded", [(), (1,)])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_steps_on_a_linear_model_equal_those_computed_by_hand(excluded: tuple[int, ...], steps: int) -> None:
    model, forget, retain = linear_model(), drawn_samples(12, seed=1), drawn_samples(9, seed=2)
    start = parameters_of(model)
    recognised = gaps(inputs_of(forget) @ start.T, one_hot(forget, excluded)) < 0.53
    assert recognised.any() and not recognised.all()
    expected, velocity = start, numpy.zeros_like(start)
    for step in range(steps):
        if step % 2 == 0:
            gradient = forget_gradient(expected, start, forget, excluded)
        else:
            gradient = retain_gradient(expected, start, retain)
        velocity = 0.5 * velocity + gradient
        expected = expected - 0.2 * velocity
        assert numpy.abs(gradient).max() > 1e-3
    settings = {"temperature": 2.0, "alpha": 0.75, "gamma": 1.25, "margin": 0.53, "learning_rate": 0.2, "momentum": 0.5}
    aim = {"max_steps": steps, "target_accuracy": 0.0, "retain_tolerance": 0.0}
    method = Scrub(max_gradient_norm=0, **settings, **aim)  # type: ignore[arg-type]
    outcome = method.unlearn(model, forget, retain, excluded_classes=excluded)
    assert outcome.steps == steps
    assert outcome.guard_labels is None
    assert_parameters(outcome.model, expected)


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, "FRFRFRFRF"),
        ({"min_steps": 2}, "FRRFRRFRR"),
        ({"max_phases": 2}, "FRFRRRRRR"),
        ({"min_steps": 3, "max_phases": 1}, "FRRRRRRRR"),
    ],
)
def test_steps_on_forget_samples_and_on_retained_ones_take_turns(parameters: dict[str, int], expected: str) -> None:
    # Bright images are to be forgotten and dark ones kept.
    forget, retain = drawn_samples(5, seed=1), drawn_samples(7, seed=2)
    forget.images[:, 0, 0, 0], retain.images[:, 0, 0, 0] = 1.0, 0.0
    method = Scrub(max_steps=9, target_accuracy=0, retain_tolerance=0, learning_rate=1e-6, **parameters)  # type: ignore[arg-type]
    method.unlearn(Recording(linear_model()), forget, retain)
    read = ["F" if bool(pixels.all()) else "R" for pixels in Recording.trained if len(pixels.unique()) == 1]
    assert "".join(read) == expected


def divided(digits: Digits, count: int) -> tuple[ImageSet, ImageSet, ImageSet]:
    """Samples of three classes to forget, all other samples, and unseen ones of these and other classes."""
    train = concatenate(digits.forget, digits.retain)
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(1))
    ranked = order[torch.isin(train.labels[order], torch.tensor([1, 8, 9])).int().argsort(descending=True, stable=True)]
    unseen = concatenate(digits.test_forget, digits.test_retain)
    return train.subset(ranked[:count]), train.subset(ranked[count:]), unseen


def scrub(max_steps: int, rewind: bool = False, learning_rate: float = 0.02) -> Scrub:
    settings = {"batch_size": 32, "target_accuracy": 0.0, "retain_tolerance": 0.0, "rewind_interval": 4}
    return Scrub(max_steps=max_steps, rewind=rewind, learning_rate=learning_rate, **settings)  # type: ignore[arg-type]


def test_rewinding_goes_back_to_where_forget_samples_are_known_as_unseen_ones_are_at_the_end(digits: Digits) -> None:
    forget, retain, unseen = divided(digits, 100)
    # Four max-steps and as many min-steps lie between two states.
    states = {steps: scrub(steps).unlearn(digits.model, forget, retain).model for steps in (8, 16, 24, 32)}
    reference = accuracy(states[32], unseen.of_classes(set(forget.labels.tolist())))
    states[0] = digits.trained
    distances = {steps: abs(accuracy(model, forget) - reference) for steps, model in states.items()}
    nearest = max(steps for steps in distances if distances[steps] == min(distances.values()))
    assert nearest != 32
    outcome = scrub(32, rewind=True).unlearn(digits.model, forget, retain, unseen=unseen)
    assert state_bytes(outcome.model) == state_bytes(states[nearest])
    assert outcome.steps == 32
    assert outcome.converged == (distances[nearest] <= 0.05)


def test_of_states_that_are_equally_near_the_latest_counts(digits: Digits) -> None:
    # Steps too small to change any prediction: all states are equally near, the given model too.
    forget, retain, unseen = divided(digits, 8)
    outcome = scrub(16, rewind=True, learning_rate=1e-6).unlearn(digits.model, forget, retain, unseen=unseen)
    last = scrub(16, learning_rate=1e-6).unlearn(digits.model, forget, retain).model
    assert state_bytes(outcome.model) == state_bytes(last) != state_bytes(digits.trained)


def test_the_same_seed_gives_the_same_bytes_with_rewinding(digits: Digits) -> None:
    forget, retain, unseen = divided(digits, 100)

    def run(seed: int) -> dict[str, bytes]:
        generator = torch.Generator().manual_seed(seed)
        return state_bytes(
            scrub(24, rewind=True).unlearn(digits.model, forget, retain, generator=generator, unseen=unseen).model
        )

    first = run(1)
    assert run(1) == first != state_bytes(digits.trained)
    assert run(2) != first


@pytest.mark.parametrize("given", ["none", "of other classes"])
def test_rewinding_without_unseen_samples_of_the_classes_is_refused_before_any_training(
    digits: Digits, given: str
) -> None:
    unseen = None if given == "none" else digits.test_retain
    model: nn.Module = Recording(digits.model)
    with pytest.raises(InvalidDataError, match="scrub: no unseen samples of the classes in the forget set were given"):
        Scrub(rewind=True).unlearn(model, digits.forget, digits.retain, unseen=unseen)
    assert not Recording.trained


@pytest.mark.parametrize("rewind", [False, True])
def test_passes_equal_a_hand_count(digits: Digits, rewind: bool) -> None:
    def part(samples: ImageSet, count: int) -> ImageSet:
        return samples.subset(torch.arange(count))

    settings = {"learning_rate": 1e-9, "batch_size": 8, "target_accuracy": 0.0, "retain_tolerance": 1.0}
    method = Scrub(max_steps=7, min_steps=2, rewind=rewind, rewind_interval=2, **settings)  # type: ignore[arg-type]
    unseen = concatenate(part(digits.test_forget, 9), part(digits.test_retain, 50))
    outcome = method.unlearn(digits.model, part(digits.forget, 20), part(digits.retain, 30), unseen=unseen)
    # The original on forget samples 20, what it has right of the retained ones 30, steps F8 R8 R8 F8 R8 R6 F4, the
    # original beside the copy on the 30 retained, the closing check 20.
    expected = 20 + 30 + (20 + 30) + 30 + 20
    if rewind:
        # The first and the third max-step's state and the last on 20, the unseen of the class 9.
        expected += 20 + 20 + 20 + 9
    assert (outcome.forward_passes, outcome.backward_passes) == (expected, 20 + 30)
    assert outcome.steps == 7


def test_a_forget_set_with_no_class_left_is_refused() -> None:
    model, forget, retain = linear_model(), drawn_samples(8, seed=1), drawn_samples(5, seed=2)
    with pytest.raises(InvalidDataError, match=r"scrub: classes \[0, 1, 2\] of 4 are excluded"):
        Scrub().unlearn(model, forget, retain, excluded_classes=[0, 1, 2])


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"temperature": 0.0}, "temperature = 0.0 was given; allowed is a number above 0"),
        ({"margin": 0}, "margin = 0 was given; allowed is a number above 0"),
        ({"alpha": -1.0}, "alpha = -1.0 was given; allowed is a number at least 0"),
        ({"gamma": math.inf}, "gamma = inf was given; allowed is a number at least 0"),
        ({"min_steps": 0}, "min_steps = 0 was given; allowed is a whole number at least 1"),
        ({"max_phases": 1.5}, "max_phases = 1.5 was given; allowed is a whole number at least 1"),
        ({"rewind_interval": 0}, "rewind_interval = 0 was given; allowed is a whole number at least 1"),
        ({"rewind": 1}, "rewind = 1 was given; allowed is true or false"),
    ],
)
def test_bad_parameters_are_refused(parameters: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidParameterError) as caught:
        Scrub(**parameters)  # type: ignore[arg-type]
    assert str(caught.value) == f"scrub: {said}"


def test_stronger_means_twice_the_learning_rate_and_twice_the_steps() -> None:
    weak = Scrub(learning_rate=1e-3, max_steps=7, max_phases=3, margin=2.0)
    assert weak.stronger() == dataclasses.replace(weak, learning_rate=2e-3, max_steps=14, max_phases=6)
