import copy
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from trained_digits import FORGOTTEN, Digits, accuracy, fitted, state_bytes, train_digits, untrained_network

from fed_unlearn.audits.relearning import RelearnSettings, relearn
from fed_unlearn.data.images import ImageSet
from fed_unlearn.errors import EmptySetError, InvalidDataError, InvalidParameterError, UnlearningDivergedError
from fed_unlearn.methods import create
from fed_unlearn.seeding import seeded_generator


@pytest.fixture(scope="module")
def digits() -> Digits:
    return train_digits()


@pytest.fixture(scope="module")
def oracle(digits: Digits) -> nn.Module:
    return fitted(untrained_network(), digits.retain, epochs=8)


class Without(nn.Module):
    """A wrapper that takes the class out of the answers."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.inner(images)
        logits[:, FORGOTTEN] = -1e4
        return logits


def masked_by_the_control(digits: Digits) -> nn.Module:
    return create("mask-output").unlearn(digits.model, digits.forget).model


def masked_by_infinity(digits: Digits) -> nn.Module:
    model = digits.model
    with torch.no_grad():
        model[-1].bias[FORGOTTEN] = -torch.inf
    return model


def masked_by_a_wrapper(digits: Digits) -> nn.Module:
    return Without(digits.model)


def overwritten(digits: Digits) -> nn.Module:
    """The untouched network; only the class's row is another one."""
    model = digits.model
    with torch.no_grad():
        model[-1].weight[FORGOTTEN] *= -4
        model[-1].bias[FORGOTTEN] = -10
    return model


def parametrized(digits: Digits) -> nn.Module:
    model = masked_by_the_control(digits)
    nn.utils.parametrizations.weight_norm(model[-1])
    return model


def weight_normalised(digits: Digits) -> nn.Module:
    model = overwritten(digits)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        nn.utils.weight_norm(model[-1])
    return model


OWN_ROW = RelearnSettings(fresh_row=False)


@pytest.mark.parametrize("mask", [masked_by_the_control, masked_by_infinity, masked_by_a_wrapper])
def test_masks_are_lifted_and_exposed_beside_an_oracle(
    mask: Callable[[Digits], nn.Module], digits: Digits, oracle: nn.Module
) -> None:
    model = mask(digits)
    assert accuracy(model, digits.forget) == accuracy(oracle, digits.forget) == 0
    found, untouched, never = (
        relearn(candidate, digits.forget, target_accuracy=0.9, generator=seeded_generator(0))
        for candidate in (model, digits.model, oracle)
    )
    assert found == untouched and found.reached
    assert never.reached and never.steps > 1.4 * found.steps
    at_once, of_oracle = (
        relearn(candidate, digits.forget, target_accuracy=0.9, generator=seeded_generator(0), settings=OWN_ROW)
        for candidate in (model, oracle)
    )
    assert at_once.reached and at_once.steps <= 1 and at_once.accuracy >= 0.9
    assert of_oracle.reached and of_oracle.steps >= 20


@pytest.mark.parametrize("change", [overwritten, parametrized, weight_normalised])
def test_a_row_that_was_overwritten_hides_nothing(change: Callable[[Digits], nn.Module], digits: Digits) -> None:
    model = change(digits)
    assert accuracy(model, digits.forget) == 0
    found, untouched = (
        relearn(candidate, digits.forget, target_accuracy=0.9, generator=seeded_generator(0))
        for candidate in (model, digits.model)
    )
    assert found.steps == untouched.steps > 10
    own = relearn(
        overwritten(digits), digits.forget, target_accuracy=0.9, generator=seeded_generator(0), settings=OWN_ROW
    )
    assert own.steps < found.steps / 2  # a large row is trained in few steps


def test_recall_may_be_measured_on_other_samples(digits: Digits, oracle: nn.Module) -> None:
    settings = RelearnSettings(max_steps=20)
    found = relearn(
        oracle,
        digits.forget,
        target_accuracy=1.0,
        generator=seeded_generator(0),
        settings=settings,
        measured=digits.test_forget,
    )
    assert found.accuracy * len(digits.test_forget) == pytest.approx(round(found.accuracy * len(digits.test_forget)))
    assert found.accuracy * len(digits.forget) % 1 > 1e-6
    with pytest.raises(EmptySetError, match="relearn: the set of measured samples has no sample"):
        relearn(
            oracle,
            digits.forget,
            target_accuracy=1.0,
            generator=seeded_generator(0),
            measured=digits.test_forget.of_classes([]),
        )


def test_an_earlier_mask_of_another_class_changes_nothing(digits: Digits) -> None:
    masked = masked_by_the_control(digits)
    with torch.no_grad():
        masked[-1].bias[7] = -torch.inf
    once = relearn(masked, digits.forget, target_accuracy=0.9, generator=seeded_generator(0), settings=OWN_ROW)
    assert once.steps == 0
    with torch.no_grad():
        masked[-1].weight[FORGOTTEN] = 0
    found = relearn(masked, digits.forget, target_accuracy=0.9, generator=seeded_generator(0), settings=OWN_ROW)
    assert found.reached and found.steps > 0
    for bias in (-torch.inf, -10_000.0):
        with torch.no_grad():
            masked[-1].bias[7] = bias
        fresh = relearn(masked, digits.forget, target_accuracy=0.9, generator=seeded_generator(0))
        assert fresh.reached and 10 < fresh.steps < 40


def test_unlearning_of_the_last_layers_stands_between_mask_and_oracle(digits: Digits, oracle: nn.Module) -> None:
    shrunk = create("boundary-shrink").unlearn(digits.model, digits.forget).model
    steps = [
        relearn(model, digits.forget, target_accuracy=0.9, generator=seeded_generator(0), settings=OWN_ROW).steps
        for model in (masked_by_the_control(digits), shrunk, oracle)
    ]
    assert steps[0] < steps[1] < steps[2]


def numpy_steps(
    weight: np.ndarray, bias: np.ndarray, images: np.ndarray, rate: float, target: float, fresh: bool
) -> int:
    """Full-batch SGD of softmax regression on class 2 of three, in double precision."""
    weight, bias = weight.copy(), bias.copy()
    if fresh:
        weight[2], bias[2] = weight[:2].mean(0), bias[:2].mean()
    else:
        bias[2] = np.sort(bias[:2])[0]  # torch's median of two is the lower one
    for step in range(1000):
        logits = images @ weight.T + bias
        if (logits.argmax(1) == 2).mean() >= target:
            return step
        error = np.exp(logits - logits.max(1, keepdims=True))
        error /= error.sum(1, keepdims=True)
        error[:, 2] -= 1
        weight, bias = weight - rate * error.T @ images / len(images), bias - rate * error.mean(0)
    raise AssertionError("not reached")


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("target", [0.1, 0.5, 1.0])
def test_the_steps_are_those_of_softmax_regression_by_hand(target: float, fresh: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(20, 1, 2, 2, generator=generator)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    with torch.no_grad():
        model[1].weight.copy_(torch.randn(3, 4, generator=generator))
        model[1].weight[2] -= 2
        model[1].bias.copy_(torch.tensor([0.3, -0.2, -50.0]))
    expected = numpy_steps(
        model[1].weight.detach().double().numpy(),
        model[1].bias.detach().double().numpy(),
        images.flatten(1).double().numpy(),
        0.05,
        target,
        fresh,
    )
    found = relearn(
        model,
        ImageSet(images, torch.full((20,), 2)),
        target_accuracy=target,
        settings=RelearnSettings(learning_rate=0.05, batch_size=20, fresh_row=fresh),
        generator=seeded_generator(0),
    )
    assert found.steps == expected > 0
    assert found.accuracy >= target


def accuracy_by_hand(oracle: nn.Module, samples: ImageSet, frozen: bool, steps: int) -> float:
    """After full-batch SGD whose BatchNorm has its own statistics, or those of the batch."""
    model = copy.deepcopy(oracle).train(not frozen)
    others = [label for label in range(10) if label != FORGOTTEN]
    with torch.no_grad():
        model[-1].weight[FORGOTTEN] = model[-1].weight[others].mean(0)
        model[-1].bias[FORGOTTEN] = model[-1].bias[others].mean()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(samples.images), samples.labels).backward()
        optimizer.step()
    return accuracy(model, samples)


def test_statistics_are_frozen(digits: Digits, oracle: nn.Module) -> None:
    found = relearn(
        oracle,
        digits.forget,
        target_accuracy=1.0,
        settings=RelearnSettings(learning_rate=0.01, batch_size=len(digits.forget), max_steps=7),
        generator=seeded_generator(0),
    )
    assert found.accuracy == pytest.approx(accuracy_by_hand(oracle, digits.forget, True, 7), abs=0.01)
    assert abs(found.accuracy - accuracy_by_hand(oracle, digits.forget, False, 7)) > 0.05


def test_it_works_on_a_copy_and_from_its_generator_alone(digits: Digits, oracle: nn.Module) -> None:
    model = copy.deepcopy(oracle).train()
    model[0].weight.requires_grad_(False)
    before, drawn = state_bytes(model), torch.random.get_rng_state()
    results = [
        relearn(
            candidate,
            digits.forget,
            target_accuracy=1.0,
            settings=RelearnSettings(batch_size=8, max_steps=40),
            generator=seeded_generator(seed),
        )
        for candidate, seed in ((model, 0), (model, 0), (oracle, 0), (model, 1), (model, 2))
    ]
    assert results[0] == results[1] == results[2]
    assert len({result.accuracy for result in results}) > 1
    assert state_bytes(model) == before and model.training and not model[0].weight.requires_grad
    assert torch.equal(torch.random.get_rng_state(), drawn)


def test_it_ends_at_its_bound_and_says_so(digits: Digits, oracle: nn.Module) -> None:
    found = relearn(
        oracle, digits.forget, target_accuracy=0.9, settings=RelearnSettings(max_steps=3), generator=seeded_generator(0)
    )
    assert (found.steps, found.reached) == (3, False) and found.accuracy < 0.9


def test_many_samples_are_looked_at_every_few_steps_and_in_part(digits: Digits, oracle: nn.Module) -> None:
    every, few, part = (
        relearn(
            oracle,
            digits.forget,
            target_accuracy=0.9,
            generator=seeded_generator(0),
            settings=RelearnSettings(batch_size=4, max_measured=measured),
        )
        for measured in (16, len(digits.forget), 50)
    )
    interval = -(-len(digits.forget) // 16)
    assert few.steps % interval == 0 and part.steps % -(-50 // 16) == 0
    assert abs(every.steps - few.steps) <= 2 * interval
    assert every.accuracy * 16 % 1 == 0 and part.accuracy * 50 % 1 == pytest.approx(0)


def test_biases_are_reset_for_the_named_classes_only(digits: Digits) -> None:
    masked = masked_by_the_control(digits)
    kept = relearn(
        masked,
        digits.forget,
        target_accuracy=0.9,
        classes=(),
        settings=RelearnSettings(max_steps=5),
        generator=seeded_generator(0),
    )
    assert (kept.steps, kept.reached, kept.accuracy) == (5, False, 0.0)
    mixed = ImageSet(
        torch.cat([digits.forget.images, digits.retain.images]), torch.cat([digits.forget.labels, digits.retain.labels])
    )
    every_class = relearn(digits.model, mixed, target_accuracy=0.9, generator=seeded_generator(0))
    assert every_class.steps == 0 and every_class.accuracy == pytest.approx(accuracy(digits.model, mixed))


def test_bad_settings_and_sets_are_refused(digits: Digits, oracle: nn.Module) -> None:
    with pytest.raises(EmptySetError, match="relearn: the forget set has no sample"):
        relearn(oracle, digits.forget.of_classes([]), target_accuracy=0.9, generator=seeded_generator(0))
    with pytest.raises(InvalidParameterError, match=r"relearn: target_accuracy = 1\.5 was given"):
        relearn(oracle, digits.forget, target_accuracy=1.5, generator=seeded_generator(0))
    with pytest.raises(InvalidParameterError, match=r"relearn: momentum = 1\.0; expected a number from 0 below 1"):
        RelearnSettings(momentum=1.0)
    with pytest.raises(
        InvalidParameterError, match=r"relearn: classes \[12\] were given; the model has outputs 0 to 9"
    ):
        relearn(oracle, digits.forget, target_accuracy=0.9, classes=[3, 12], generator=seeded_generator(0))
    strangers = digits.forget.relabelled(digits.forget.labels + 9)
    with pytest.raises(InvalidDataError, match="relearn"):
        relearn(oracle, strangers, target_accuracy=0.9, generator=seeded_generator(0))
    with pytest.raises(UnlearningDivergedError, match="relearn: the outputs are not finite at step"):
        relearn(
            oracle,
            digits.forget,
            target_accuracy=0.9,
            settings=RelearnSettings(learning_rate=1e30),
            generator=seeded_generator(0),
        )
