from __future__ import annotations

import dataclasses
from collections import Counter

import numpy
import pytest
import torch
from hand_descent import descended, images_trained_on, keys, known_samples, linear_model, table
from torch import nn
from trained_digits import Digits, accuracy, state_bytes

from fed_unlearn.data.images import ImageSet
from fed_unlearn.errors import InvalidDataError, InvalidParameterError
from fed_unlearn.logits import predict_logits
from fed_unlearn.methods.base import Outcome
from fed_unlearn.methods.finetune import Finetune


@pytest.mark.parametrize("bound", [0.0, 0.05])
def test_one_step_on_a_linear_model_equals_the_hand_computed_one(bound: float) -> None:
    model = linear_model()
    forget, retain = known_samples(model, 5, seed=1), known_samples(model, 7, seed=2)
    retain = retain.relabelled(retain.labels.roll(1))  # some of them wrong, so that there is something to learn
    start = table(model)
    method = Finetune(learning_rate=0.1, max_gradient_norm=bound, epochs=1)
    outcome = method.unlearn(model, forget, retain)
    expected = descended(start, [retain.images], [(1.0, retain)], learning_rate=0.1, bound=bound)
    numpy.testing.assert_allclose(table(outcome.model), expected, rtol=0, atol=1e-6)
    moved = float(numpy.linalg.norm(expected - start))
    assert moved == pytest.approx(0.1 * bound) if bound else moved > 0.1 * 0.05
    assert outcome.steps == 1
    assert outcome.guard_labels is None


def test_each_epoch_trains_on_every_retained_sample_once_and_on_nothing_else() -> None:
    model = linear_model()
    forget, retain = known_samples(model, 9, seed=1), known_samples(model, 20, seed=2)
    start, batches = table(model), images_trained_on(model)
    settings = {"learning_rate": 5e-3, "momentum": 0.8}
    outcome = Finetune(epochs=4, batch_size=6, **settings).unlearn(model, forget, retain)  # type: ignore[arg-type]
    assert [len(batch) for batch in batches] == [6, 6, 6, 2] * 4
    epochs = [keys(torch.cat(batches[first : first + 4])) for first in range(0, 16, 4)]
    assert all(Counter(epoch) == Counter(keys(retain.images)) for epoch in epochs)
    assert epochs[0] != epochs[1]
    expected = descended(start, batches, [(1.0, retain)], **settings)  # type: ignore[arg-type]
    numpy.testing.assert_allclose(table(outcome.model), expected, rtol=0, atol=1e-5)


def test_the_forget_set_has_no_part_in_training(digits: Digits) -> None:
    # Other images, other labels and another size: while nothing is forgotten, the bytes are the same.
    retain = digits.retain.subset(torch.arange(200))
    zeros = digits.retain.of_classes([0])
    method = Finetune(epochs=2, batch_size=16, target_accuracy=0)

    def run(forget: ImageSet) -> Outcome:
        return method.unlearn(digits.model, forget, retain, generator=torch.Generator().manual_seed(3))

    outcomes = [run(forget) for forget in (digits.forget, zeros, zeros.subset(torch.arange(5)))]
    assert {outcome.steps for outcome in outcomes} == {26}
    first, *others = [state_bytes(outcome.model) for outcome in outcomes]
    assert all(other == first for other in others)
    assert first != state_bytes(digits.trained)


def test_training_is_over_once_the_aim_is_met(digits: Digits) -> None:
    # Under labels that the model does not give them anyway, the samples count as forgotten at the first look.
    wrong = digits.forget.relabelled(torch.full_like(digits.forget.labels, 0))
    assert accuracy(digits.trained, wrong) == 0
    outcome = Finetune().unlearn(digits.model, wrong, digits.retain)
    assert outcome.converged
    assert 1 <= outcome.steps <= 8


def test_it_does_not_forget_and_says_so(digits: Digits) -> None:
    before = accuracy(digits.trained, digits.test_forget)
    outcome = Finetune().unlearn(digits.model, digits.forget, digits.retain)
    assert not outcome.converged
    assert outcome.steps == 5 * 20  # 1260 retained samples are 20 batches
    assert accuracy(outcome.model, digits.forget) >= 0.99
    assert accuracy(outcome.model, digits.test_forget) >= before - 0.05
    assert accuracy(outcome.model, digits.test_retain) >= accuracy(digits.trained, digits.test_retain) - 0.01


def test_retained_samples_are_learned(digits: Digits) -> None:
    # A last layer that has lost a class: fine-tuning brings the class back.
    model = digits.model
    with torch.no_grad():
        model[-1].bias[5] -= 30  # type: ignore[index]
    assert accuracy(model, digits.test_retain) < 0.92
    outcome = Finetune().stronger().unlearn(model, digits.forget, digits.retain)
    assert accuracy(outcome.model, digits.test_retain) >= 0.97

    def loss(of: nn.Module) -> float:
        return float(nn.functional.cross_entropy(predict_logits(of, digits.retain), digits.retain.labels))

    assert loss(outcome.model) < 0.05 * loss(model)


@pytest.mark.parametrize(("epochs", "max_steps", "steps"), [(1, 100, 4), (3, 100, 12), (3, 5, 5), (2, 8, 8)])
def test_epochs_and_steps_bound_the_run(digits: Digits, epochs: int, max_steps: int, steps: int) -> None:
    forget, retain = digits.forget.subset(torch.arange(20)), digits.retain.subset(torch.arange(50))
    method = Finetune(epochs=epochs, max_steps=max_steps, batch_size=16, target_accuracy=0)
    assert method.unlearn(digits.model, forget, retain).steps == steps
    stronger = method.stronger()
    assert stronger == dataclasses.replace(
        method, epochs=2 * epochs, max_steps=2 * max_steps, learning_rate=2 * method.learning_rate
    )
    assert stronger.unlearn(digits.model, forget, retain).steps == 2 * steps


def test_passes_equal_a_hand_count(digits: Digits) -> None:
    forget, retain = digits.forget.subset(torch.arange(30)), digits.retain.subset(torch.arange(20))
    assert accuracy(digits.trained, retain) == 1
    method = Finetune(epochs=2, learning_rate=1e-9, batch_size=8, target_accuracy=0)
    outcome = method.unlearn(digits.model, forget, retain)
    # The original on the retained samples 20; two epochs of 20; the forget set after 4 of the 6 steps and at the end.
    assert (outcome.forward_passes, outcome.backward_passes) == (20 + 40 + 30 + 30, 40)
    assert (outcome.converged, outcome.steps) == (False, 6)


def test_retained_samples_are_asked_for(digits: Digits) -> None:
    with pytest.raises(InvalidDataError, match="finetune: no retain set was given; it needs samples that must stay"):
        Finetune().unlearn(digits.model, digits.forget)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"epochs": 0}, "epochs = 0 was given; allowed is a whole number at least 1"),
        ({"epochs": 2.0}, "epochs = 2.0"),
        ({"epochs": True}, "epochs = True"),
        ({"learning_rate": 0.0}, "learning_rate = 0.0 was given; allowed is a number above 0"),
        ({"momentum": 1}, "momentum = 1 was given; allowed is a number at least 0 and below 1"),
        ({"max_steps": -1}, "max_steps = -1"),
    ],
)
def test_bad_parameters_are_named(parameters: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidParameterError) as caught:
        Finetune(**parameters)  # type: ignore[arg-type]
    assert f"finetune: {message}" in str(caught.value)
