import pytest
import torch
from torch import Tensor, nn
from trained_digits import FORGOTTEN, Digits, accuracy, fitted, state_bytes, train_digits, untrained_network

from fed_unlearn.audits.probe import probe
from fed_unlearn.data.images import ImageSet, concatenate
from fed_unlearn.errors import EmptySetError, InvalidParameterError
from fed_unlearn.methods import create


@pytest.fixture(scope="module")
def digits() -> Digits:
    return train_digits()


def parts(digits: Digits) -> tuple[ImageSet, ImageSet]:
    return concatenate(digits.forget, digits.retain), concatenate(digits.test_forget, digits.test_retain)


def pixels(values: Tensor, labels: Tensor) -> ImageSet:
    return ImageSet(values.float().view(-1, 1, 1, 1), labels)


def shares(found: float) -> ImageSet:
    """One pixel: bright in a share of 40 samples of class 1, dark in the rest of them and in 200 of classes 0 and 2."""
    bright = torch.arange(240) < round(40 * found)
    return pixels(bright, torch.cat([torch.ones(40, dtype=torch.int64), torch.arange(200) % 2 * 2]))


READS_PIXELS = nn.Sequential(nn.Flatten(), nn.Linear(1, 3))


def test_the_control_is_exposed_its_features_are_those_of_the_original(digits: Digits) -> None:
    train, test = parts(digits)
    masked = create("mask-output").unlearn(digits.model, digits.forget).model
    oracle = fitted(untrained_network(), digits.retain, epochs=8)
    assert accuracy(masked, digits.forget) == accuracy(oracle, digits.forget) == 0
    original, control, never = (
        probe(model, train, test, [FORGOTTEN], seed=0).balanced_accuracy for model in (digits.model, masked, oracle)
    )
    assert control == original > never + 0.02
    assert original > 0.95


@pytest.mark.parametrize("found", [1.0, 0.75, 0.5])
def test_the_figure_is_the_mean_of_both_sides_shares(found: float) -> None:
    result = probe(READS_PIXELS, shares(1.0), shares(found), [1], seed=0)
    assert result.balanced_accuracy == pytest.approx((found + 1) / 2)
    assert (result.class_samples, result.other_samples) == (40, 200)


def test_features_that_say_nothing_are_at_chance() -> None:
    same = pixels(torch.ones(240), shares(1.0).labels)
    assert probe(READS_PIXELS, same, same, [1], seed=0).balanced_accuracy == 0.5


def test_a_rare_class_weighs_as_much_as_the_rest() -> None:
    """Bright: 20 of 40 of class 1 and 40 of 200 others. Unweighted, the others win in the light as in the dark."""
    labels = shares(1.0).labels
    bright = torch.cat([torch.arange(40) < 20, torch.arange(200) < 40])
    found = probe(READS_PIXELS, *2 * (pixels(bright, labels),), [1], seed=0)
    assert found.balanced_accuracy == pytest.approx((0.5 + 0.8) / 2)


def test_several_classes_stand_together_against_the_rest() -> None:
    labels = torch.arange(120) % 3
    assert probe(READS_PIXELS, *2 * (pixels(labels != 1, labels),), [0, 2], seed=0).balanced_accuracy == 1.0


def test_halves_come_from_the_seed_alone_and_the_model_stays(digits: Digits) -> None:
    train, _ = parts(digits)
    model = digits.model.train()
    before, drawn = state_bytes(model), torch.random.get_rng_state()
    results = [probe(model, train, None, [FORGOTTEN], seed=seed, max_samples=200) for seed in (0, 0, 1)]
    assert results[0] == results[1] != results[2]
    assert all(result.class_samples + result.other_samples == 200 for result in results)
    assert all(result.balanced_accuracy > 0.8 for result in results)
    assert state_bytes(model) == before and model.training and torch.equal(torch.random.get_rng_state(), drawn)


def test_it_is_judged_on_samples_that_it_was_not_trained_on() -> None:
    """Features that name each sample and no class: right on all that was trained on, at chance on the rest."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(200, 1, 20, 20, generator=generator)
    samples = ImageSet(images, torch.arange(200) % 2)
    model = nn.Sequential(nn.Flatten(), nn.Linear(400, 2))
    assert probe(model, samples, samples, [1], seed=0).balanced_accuracy == 1.0
    assert probe(model, samples, None, [1], seed=0).balanced_accuracy == pytest.approx(0.5, abs=0.15)


def test_one_sided_parts_are_refused() -> None:
    samples = shares(1.0)
    with pytest.raises(EmptySetError, match=r"probe: 0 of 200 test samples are of classes \[1\]"):
        probe(READS_PIXELS, samples, samples.of_classes([0, 2]), [1], seed=0)
    with pytest.raises(EmptySetError, match=r"probe: 240 of 240 training samples are of classes \[0, 1, 2\]"):
        probe(READS_PIXELS, samples, samples, [0, 1, 2], seed=0)
    with pytest.raises(EmptySetError, match="probe: 0 of 0 test samples"):
        probe(READS_PIXELS, samples, samples.of_classes([]), [1], seed=0)
    with pytest.raises(InvalidParameterError, match="probe: max_samples = 1 was given"):
        probe(READS_PIXELS, samples, samples, [1], seed=0, max_samples=1)
