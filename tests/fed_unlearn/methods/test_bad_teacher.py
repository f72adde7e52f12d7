from __future__ import annotations

import copy
import dataclasses

import numpy
import pytest
import torch
from softmax_linear import (
    CLASSES,
    PIXELS,
    Array,
    Recording,
    assert_parameters,
    drawn_samples,
    inputs_of,
    linear_model,
    one_hot,
    parameters_of,
    softmax,
)
from torch import Tensor, nn
from trained_digits import Digits, accuracy, state_bytes

from fed_unlearn.data.images import ImageSet
from fed_unlearn.errors import InvalidDataError, InvalidParameterError
from fed_unlearn.logits import predict_logits
from fed_unlearn.methods import bad_teacher
from fed_unlearn.methods.bad_teacher import BadTeacher, randomly_initialised
from fed_unlearn.methods.parts.labels import allowed_answers


def test_a_teacher_is_drawn_by_its_seed_alone(digits: Digits) -> None:
    model = digits.model
    before, state = state_bytes(model), torch.get_rng_state()
    first = randomly_initialised(model, 5)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(1)
    assert state_bytes(randomly_initialised(model, 5)) == state_bytes(first)
    other = state_bytes(randomly_initialised(model, 6))
    assert all(other[name] != state_bytes(first)[name] for name in ("0.weight", "5.weight", "7.weight", "7.bias"))
    assert state_bytes(model) == before


def test_a_teacher_knows_nothing_and_has_the_shapes_of_the_model(digits: Digits) -> None:
    model = digits.model
    teacher = randomly_initialised(model, 5)
    assert {name: (tensor.shape, tensor.dtype, tensor.device) for name, tensor in teacher.state_dict().items()} == {
        name: (tensor.shape, tensor.dtype, tensor.device) for name, tensor in model.state_dict().items()
    }
    trained, drawn = model.state_dict(), teacher.state_dict()
    for name, inputs in (("0.weight", 9), ("5.weight", 256), ("5.bias", 256), ("7.weight", 48), ("7.bias", 48)):
        # Uniform between -1 and 1 over the root of the number of inputs, a layer's default.
        assert float(drawn[name].abs().max()) <= inputs**-0.5
        assert float(drawn[name].abs().max()) > 0.75 * inputs**-0.5
        assert not bool((drawn[name] == trained[name]).any())
    assert abs(float(drawn["5.weight"].std()) * 16 - 3**-0.5) < 0.01
    assert drawn["1.weight"].tolist() == drawn["1.running_var"].tolist() == [1.0] * 16
    assert drawn["1.bias"].tolist() == drawn["1.running_mean"].tolist() == [0.0] * 16
    assert int(drawn["1.num_batches_tracked"]) == 0 < int(trained["1.num_batches_tracked"])
    assert accuracy(teacher, digits.retain) < 0.3


class WithToken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.arange(60.0).view(3, 20), requires_grad=False)
        self.attention = nn.MultiheadAttention(8, 2)


def test_tensors_that_no_module_resets_are_shuffled() -> None:
    model = WithToken()
    teacher = randomly_initialised(model, 3)
    assert teacher.token.shape == (3, 20)
    assert not teacher.token.requires_grad
    assert teacher.token.flatten().tolist() != list(range(60))
    assert sorted(teacher.token.flatten().tolist()) == list(range(60))
    # Attention has a reset of its own: new values, and not the old ones in another order.
    drawn = teacher.attention.in_proj_weight.flatten()
    assert not bool(torch.isin(drawn, model.attention.in_proj_weight.flatten()).any())


def test_targets_equal_those_computed_by_hand() -> None:
    # Weights 8 : 4 : 2 : 2 for the first sample, 1 : 2 : 4 : 8 for the second.
    logits = torch.tensor([[8.0, 4.0, 2.0, 2.0], [1.0, 2.0, 4.0, 8.0]]).log()
    labels = torch.tensor([0, 2])
    found = allowed_answers(logits, labels, [])
    torch.testing.assert_close(found, torch.tensor([[0.0, 0.5, 0.25, 0.25], [1 / 11, 2 / 11, 0.0, 8 / 11]]))
    found = allowed_answers(logits, labels, [3])
    torch.testing.assert_close(found, torch.tensor([[0.0, 2 / 3, 1 / 3, 0.0], [1 / 3, 2 / 3, 0.0, 0.0]]))
    assert allowed_answers(logits, labels, {1, 3}).tolist() == [[0.0, 0.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0]]


def taught_by(monkeypatch: pytest.MonkeyPatch, teacher: nn.Module) -> nn.Module:
    """Let this be the network that is drawn."""
    monkeypatch.setattr(bad_teacher, "randomly_initialised", lambda _model, _seed: copy.deepcopy(teacher))
    return teacher


def gradient_by_hand(
    parameters: Array, start: Array, teacher: Array, forget: ImageSet, retain: ImageSet, excluded: tuple[int, ...]
) -> Array:
    """Of KL(bad || f) + 3 KL(f0 || f) with T = 2: (p_T - target) / T for each sample, times the inputs."""
    inputs, kept = inputs_of(forget), inputs_of(retain)
    targets = softmax(numpy.where(one_hot(forget, excluded), -numpy.inf, inputs @ teacher.T / 2))
    errors: Array = (softmax(inputs @ parameters.T / 2) - targets) / 2
    kept_errors = (softmax(kept @ parameters.T / 2) - softmax(kept @ start.T / 2)) / 2
    return errors.T @ inputs / len(forget) + 3 * kept_errors.T @ kept / len(retain)


@pytest.mark.parametrize("excluded", [(), (1,)])
def test_steps_on_a_linear_model_are_those_of_adam_on_the_hand_computed_gradient(
    monkeypatch: pytest.MonkeyPatch, excluded: tuple[int, ...]
) -> None:
    model, forget, retain = linear_model(), drawn_samples(12, seed=1), drawn_samples(9, seed=2)
    start, teacher = parameters_of(model), parameters_of(taught_by(monkeypatch, linear_model(seed=3)))

    def after(steps: int) -> nn.Module:
        method = BadTeacher(
            temperature=2.0,
            retain_share=1.0,
            retain_weight=3.0,
            learning_rate=0.01,
            momentum=0.8,
            max_steps=steps,
            target_accuracy=0,
            retain_tolerance=0,
        )
        outcome = method.unlearn(model, forget, retain, excluded_classes=excluded)
        assert (outcome.steps, outcome.guard_labels) == (steps, None)
        return outcome.model

    gradient = gradient_by_hand(start, start, teacher, forget, retain, excluded)
    assert numpy.abs(gradient).min() > 1e-4
    assert_parameters(after(1), start - 0.01 * numpy.sign(gradient))
    expected, first, second = start, numpy.zeros_like(start), numpy.zeros_like(start)
    for step in range(1, 5):
        gradient = gradient_by_hand(expected, start, teacher, forget, retain, excluded)
        first, second = 0.8 * first + 0.2 * gradient, 0.999 * second + 0.001 * gradient**2
        expected = expected - 0.01 * first / (1 - 0.8**step) / numpy.sqrt(second / (1 - 0.999**step))
    assert_parameters(after(4), expected)


class Endless(BadTeacher):
    """Takes all of its steps."""

    def _aim_met(self, *_: object) -> bool:
        return False


def test_a_linear_model_approaches_both_teachers(monkeypatch: pytest.MonkeyPatch) -> None:
    # One pixel is set in each image and others in others, so that a linear model can say anything of each.
    images = torch.eye(PIXELS).view(PIXELS, 1, 2, 3)
    forget, retain = ImageSet(images[:3], torch.tensor([0, 1, 2])), ImageSet(images[3:], torch.tensor([3, 1, 2]))
    teacher, model = taught_by(monkeypatch, linear_model(seed=3)), linear_model()
    targets = softmax(numpy.where(one_hot(forget), -numpy.inf, inputs_of(forget) @ parameters_of(teacher).T))
    original = softmax(inputs_of(retain) @ parameters_of(model).T)

    def distances(student: nn.Module) -> tuple[float, float]:
        wanted = ((forget, targets), (retain, original))
        first, second = (
            float(numpy.abs(softmax(inputs_of(samples) @ parameters_of(student).T) - answers).max())
            for samples, answers in wanted
        )
        return first, second

    outcome = Endless(learning_rate=0.05, max_steps=400, retain_share=1.0).unlearn(model, forget, retain)
    assert outcome.steps == 400
    found = distances(outcome.model)
    assert distances(model)[0] > 0.2
    assert max(found) < 0.01


def test_a_teacher_that_favours_the_forgotten_class_does_not_keep_it(
    digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught_by(monkeypatch, digits.trained)
    assert accuracy(digits.trained, digits.forget) == 1
    method = BadTeacher(learning_rate=1e-3, max_steps=150)
    outcome = method.unlearn(digits.model, digits.forget, digits.retain, excluded_classes=[5, 9])
    assert outcome.converged
    assert accuracy(outcome.model, digits.forget) <= 0.01
    assert accuracy(outcome.model, digits.test_retain) >= accuracy(digits.trained, digits.test_retain) - 0.03
    before, after = (predict_logits(model, digits.forget).softmax(dim=1) for model in (digits.trained, outcome.model))
    assert float(after[:, [3, 5, 9]].sum(dim=1).mean()) < 0.5 < float(before[:, [3, 5, 9]].sum(dim=1).mean())


@pytest.mark.parametrize(("share", "expected"), [(0.01, 1), (0.3, 12), (1.0, 40)])
def test_only_a_share_of_the_retained_samples_is_ever_read(share: float, expected: int) -> None:
    # The first pixel tells the images apart; those to be forgotten are brighter.
    forget, retain = drawn_samples(5, seed=1), drawn_samples(40, seed=2)
    forget.images[:, 0, 0, 0], retain.images[:, 0, 0, 0] = 1.0, torch.arange(40) / 64
    method = BadTeacher(retain_share=share, batch_size=8, max_steps=10, target_accuracy=0)

    def read(seed: int) -> Tensor:
        model, generator = Recording(linear_model()), torch.Generator().manual_seed(seed)
        method.unlearn(model, forget, retain, generator=generator)
        pixels = torch.cat(Recording.read).unique()
        return pixels[pixels < 1]

    assert len(read(0)) == expected
    assert torch.equal(read(0), read(0))
    assert torch.equal(read(0), read(1)) == (share == 1.0)


def test_passes_equal_a_hand_count(digits: Digits) -> None:
    forget, retain = digits.forget.subset(torch.arange(20)), digits.retain.subset(torch.arange(60))
    method = BadTeacher(
        retain_share=0.5, learning_rate=1e-9, batch_size=8, max_steps=5, target_accuracy=0, retain_tolerance=1.0
    )
    outcome = method.unlearn(digits.model, forget, retain)
    # The bad teacher's answers 20, what the given model has right of the 30 retained samples drawn, five batches
    # 8 8 4 8 8 and 8 8 8 6 8, the good teacher on the latter, the closing check 20.
    assert (outcome.forward_passes, outcome.backward_passes) == (20 + 30 + 36 + 38 + 38 + 20, 36 + 38)
    assert (outcome.converged, outcome.steps) == (False, 5)


def test_a_forget_set_with_no_class_left_is_refused() -> None:
    model, forget, retain = linear_model(), drawn_samples(8, seed=1), drawn_samples(5, seed=2)
    with pytest.raises(InvalidDataError, match=r"bad-teacher: classes \[0, 1, 2\] of 4 are excluded"):
        BadTeacher().unlearn(model, forget, retain, excluded_classes=range(CLASSES - 1))


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"temperature": 0}, "temperature = 0 was given; allowed is a number above 0"),
        ({"retain_share": 0.0}, "retain_share = 0.0 was given; allowed is a number above 0 and at most 1"),
        ({"retain_share": 1.5}, "retain_share = 1.5 was given; allowed is a number above 0 and at most 1"),
        ({"retain_weight": -5.0}, "retain_weight = -5.0 was given; allowed is a number above 0"),
        ({"momentum": 1.0}, "momentum = 1.0 was given; allowed is a number at least 0 and below 1"),
    ],
)
def test_bad_parameters_are_refused(parameters: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidParameterError) as caught:
        BadTeacher(**parameters)  # type: ignore[arg-type]
    assert str(caught.value) == f"bad-teacher: {said}"


def test_stronger_means_twice_the_learning_rate_and_twice_the_steps() -> None:
    weak = BadTeacher(learning_rate=1e-3, max_steps=7, retain_weight=2.0)
    assert weak.stronger() == dataclasses.replace(weak, learning_rate=2e-3, max_steps=14)
