"""Methods and audits on texts, on rows of a table, and on images that are normalised before the model reads them."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from method_cases import METHODS, quick
from other_inputs import binary_table, table, table_model, text_model, texts
from torch import Tensor, nn
from trained_digits import FORGOTTEN, Digits

from fed_unlearn.audits.probe import probe
from fed_unlearn.audits.relearning import relearn
from fed_unlearn.data.domain import InputDomain
from fed_unlearn.data.lazy import LazySet
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.data.tensors import TensorSet
from fed_unlearn.errors import InvalidDataError, InvalidParameterError, UnsuitableInputsError
from fed_unlearn.logits import predict_logits
from fed_unlearn.methods import Method, available, create
from fed_unlearn.methods.parts.attacks import pgd
from fed_unlearn.training import TrainingSettings, train_locally

MEAN, STD = 0.3, 0.25
NORMALIZED = InputDomain.normalized(MEAN, STD)
SETS = {"texts": texts, "rows": table}


@cache
def trained(kind: str) -> nn.Module:
    model = {"texts": text_model, "rows": table_model}[kind]()
    settings = TrainingSettings(local_epochs=8, learning_rate=0.1)
    train_locally(model, SETS[kind](), settings, torch.Generator().manual_seed(0))
    assert share_right(model, SETS[kind]()) > 0.95
    return model


def share_right(model: nn.Module, samples: SampleSet) -> float:
    return float((predict_logits(model, samples).argmax(1) == samples.labels).float().mean())


@pytest.mark.parametrize("kind", SETS)
@pytest.mark.parametrize("name", METHODS)
def test_every_method_works_on_any_inputs_or_says_that_it_needs_images(name: str, kind: str) -> None:
    samples = SETS[kind]()
    forget, retain = samples.of_classes([0]).subset(torch.arange(40)), samples.of_classes([1, 2])
    method = quick(name)
    if method.attacks_inputs:
        with pytest.raises(UnsuitableInputsError, match=rf"{name}: needs images .* random-label"):
            method.unlearn(trained(kind), forget, retain, unseen=retain)
        assert available()[name].inputs == "images"
        return
    outcome = method.unlearn(trained(kind), forget, retain, excluded_classes={0}, unseen=samples)
    assert any(
        not torch.equal(new, old)
        for new, old in zip(outcome.model.parameters(), trained(kind).parameters(), strict=True)
    )


@pytest.mark.parametrize("kind", SETS)
@pytest.mark.parametrize("name", ["delete", "random-label", "negative-gradient+", "scrub"])
def test_a_class_of_texts_or_rows_is_forgotten_and_the_others_are_kept(name: str, kind: str) -> None:
    samples = SETS[kind]()
    forget, retain = samples.of_classes([0]), samples.without(samples.of_classes([0]).ids)
    larger = {"learning_rate": 0.02} if name == "delete" else {}  # its default takes more than these few steps
    outcome = create(name, **larger).unlearn(trained(kind), forget, retain, excluded_classes={0})
    assert share_right(outcome.model, forget) <= 0.05
    assert share_right(outcome.model, retain) >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize("kind", SETS)
@pytest.mark.parametrize("retained", ["joint", "anchors"])
def test_single_texts_or_rows_are_forgotten_with_and_without_retained_samples(kind: str, retained: str) -> None:
    samples = SETS[kind]()
    forget, rest = samples.subset(torch.arange(4)), samples.subset(torch.arange(4, len(samples)))
    for retain in (rest, None):
        outcome = create("instance-wise", retained=retained).unlearn(trained(kind), forget, retain)
        assert share_right(outcome.model, forget) == 0.0
        assert share_right(outcome.model, rest) >= (0.85 if retain is not None else 0.6)


def test_adversarial_anchors_need_images() -> None:
    method = create("instance-wise", adversarial=True)
    with pytest.raises(UnsuitableInputsError, match=r"instance-wise: needs images to attack, not values; .* scrub"):
        method.unlearn(trained("rows"), table().subset(torch.arange(3)))


def test_two_classes_of_a_wider_table_and_samples_read_when_needed_give_the_same() -> None:
    rows = binary_table()
    model = nn.Sequential(nn.Linear(30, 2))
    train_locally(model, rows, TrainingSettings(local_epochs=3), torch.Generator().manual_seed(0))
    items = [(row, 0) for row in rows.inputs]
    lazy = LazySet(items, rows.labels, rows.ids, domain=rows.domain)  # type: ignore[arg-type]
    outcomes = [
        create("random-label").unlearn(model, samples.subset(torch.arange(20)), samples.subset(torch.arange(20, 569)))
        for samples in (rows, lazy)
    ]
    for first, second in zip(*(outcome.model.parameters() for outcome in outcomes), strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize("kind", SETS)
def test_a_texts_model_is_probed_and_relearned(kind: str) -> None:
    samples = SETS[kind]()
    found = probe(trained(kind), samples, None, [0], seed=0)
    assert found.balanced_accuracy > 0.9
    generator = torch.Generator().manual_seed(0)
    assert (
        relearn(trained(kind), samples.of_classes([0]), target_accuracy=0.9, generator=generator, classes=()).steps == 0
    )


class Normalizing(nn.Module):
    """A model that normalises pixels itself."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.inner((pixels - MEAN) / STD)
        return logits


def normalized(samples: SampleSet) -> TensorSet:
    images, labels = samples.batch()
    return TensorSet((images - MEAN) / STD, labels, samples.ids, domain=NORMALIZED)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_an_attack_on_normalised_images_is_that_of_a_model_that_normalises(digits: Digits, norm: str) -> None:
    images, labels = digits.forget.batch(slice(0, 20))
    settings = {"bound": 0.2, "step_size": 0.05, "steps": 5, "norm": norm}
    expected = pgd(Normalizing(digits.model), images, labels, **settings)  # type: ignore[arg-type]
    found = pgd(digits.model, (images - MEAN) / STD, labels, domain=NORMALIZED, **settings)  # type: ignore[arg-type]
    assert torch.allclose(NORMALIZED.to_pixels(found), expected, atol=1e-5)
    assert float((expected - images).abs().max()) > 0.01
    if norm == "linf":
        assert float((NORMALIZED.to_pixels(found) - images).abs().max()) <= 0.2 + 1e-5
    low, high = NORMALIZED.bounds
    assert float(found.min()) >= low[0] - 1e-5 and float(found.max()) <= high[0] + 1e-5


@pytest.mark.parametrize(
    "method",
    [
        create("boundary-shrink", max_steps=5),
        create("boundary-shrink", max_steps=5, search="pgd", regularizer="curvature"),
        create(
            "instance-wise",
            adversarial=True,
            adversarial_steps=5,
            adversarial_examples=2,
            max_steps=20,
            consolidation_steps=0,
        ),
    ],
    ids=["fgsm", "pgd and curvature", "adversarial anchors"],
)
def test_unlearning_normalised_images_is_that_of_a_model_that_normalises(digits: Digits, method: Method) -> None:
    forget = digits.forget.subset(torch.arange(30))
    expected = method.unlearn(Normalizing(digits.model), forget, excluded_classes={FORGOTTEN})
    found = method.unlearn(digits.model, normalized(forget), excluded_classes={FORGOTTEN})
    assert found.guard_labels is not None and expected.guard_labels is not None
    assert torch.equal(found.guard_labels, expected.guard_labels)
    for first, second in zip(found.model.parameters(), expected.model.parameters(), strict=True):
        assert torch.allclose(first, second, atol=1e-4)


def test_pixels_that_were_normalised_otherwise_are_refused(digits: Digits) -> None:
    images, labels = digits.forget.batch()
    with pytest.raises(InvalidDataError, match="give the mean and std that the images were normalised by"):
        TensorSet((images - MEAN) / STD, labels, domain=InputDomain.normalized(0.5, 0.5))
    lazy = LazySet([(image * 3, 0) for image in images], labels)  # type: ignore[arg-type]
    with pytest.raises(InvalidDataError, match=r"boundary-shrink: forget set: images: pixels from 0 to 3"):
        create("boundary-shrink").unlearn(digits.model, lazy)


def test_texts_cannot_be_flipped() -> None:
    with pytest.raises(InvalidParameterError, match=r"augment = True was given for tokens of shape \(12,\)"):
        train_locally(text_model(), texts(), TrainingSettings(augment=True), torch.Generator())
