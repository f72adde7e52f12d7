"""What holds for all methods alike; a new one is covered as soon as it is registered."""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Iterator
from functools import cache

import numpy
import pytest
import torch
from method_cases import METHODS, UNCONTROLLED, LiveImages, Stored, created, quick, streamed, with_field
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset
from trained_digits import FORGOTTEN, Digits, accuracy, state_bytes

from fed_unlearn.data.images import ImageSet, concatenate
from fed_unlearn.errors import (
    EmptySetError,
    FedUnlearnError,
    InvalidDataError,
    InvalidModelError,
    UnlearningDivergedError,
)
from fed_unlearn.holder import UNGUARDED
from fed_unlearn.logits import predict_logits
from fed_unlearn.methods import available
from fed_unlearn.methods.base import Outcome, SampleSource
from fed_unlearn.models import build_model, last_linear

every_method = pytest.mark.parametrize("name", METHODS)
every_uncontrolled_method = pytest.mark.parametrize("name", UNCONTROLLED)


class Watched(nn.Module):
    """A model that counts how often it and its copies run with gradients: no training goes without."""

    with_gradients = 0

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: Tensor) -> Tensor:
        Watched.with_gradients += torch.is_grad_enabled()
        logits: Tensor = self.inner(images)
        return logits


def part(samples: ImageSet, count: int) -> ImageSet:
    return samples.subset(torch.arange(count))


def with_pixel(samples: ImageSet, pixel: float) -> ImageSet:
    images = samples.images.clone()
    images[-1, 0, 3, 3] = pixel
    return ImageSet(images, samples.labels)


def with_label(samples: ImageSet, label: int) -> ImageSet:
    labels = samples.labels.clone()
    labels[-1] = label
    return samples.relabelled(labels)


class Endless(IterableDataset[tuple[Tensor, int]]):
    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        yield torch.zeros(1, 8, 8), FORGOTTEN


def empty_loader() -> DataLoader[tuple[Tensor, Tensor]]:
    nothing = ImageSet(torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.int64))
    return DataLoader(Stored(nothing), batch_size=4)  # type: ignore[arg-type]


PIXELS, ITERABLE = r"expected \[0, 1\]", "Endless: an iterable-style dataset was given"


def bad_inputs(digits: Digits) -> dict[str, tuple[dict[str, SampleSource], type[FedUnlearnError], str]]:
    """By what is wrong: the arguments that differ from good ones, the error and what it says."""
    forget, retain = part(digits.forget, 20), part(digits.retain, 60)
    nothing = part(forget, 0)
    cases: dict[str, tuple[dict[str, SampleSource], type[FedUnlearnError], str]] = {
        "no forget sample": ({"forget": nothing}, EmptySetError, "the forget set has no sample"),
        "no forget sample, plain": ({"forget": Stored(nothing)}, EmptySetError, "the forget set has no sample"),
        "no forget sample, streamed": ({"forget": empty_loader()}, EmptySetError, "the loader's dataset has no sample"),
        "nothing left to keep": ({"retain": nothing}, EmptySetError, "the forget set is the whole data"),
        "nothing left, streamed": ({"retain": empty_loader()}, EmptySetError, "the loader's dataset has no sample"),
        "no unseen sample": ({"unseen": nothing}, EmptySetError, "the unseen set has no sample"),
    }
    for kind, samples in (("forget", forget), ("retain", retain), ("unseen", forget)):
        for label in (10, -1):
            said = rf"{kind} labels \[{label}\] were given; the model has outputs 0 to 9"
            cases[f"{kind} label {label}"] = ({kind: with_label(samples, label)}, InvalidDataError, said)
        for pixel in (1.01, -0.01, float("nan"), float("inf")):
            bad = with_pixel(samples, pixel)
            cases[f"{kind} pixel {pixel}"] = ({kind: bad}, InvalidDataError, PIXELS)
            cases[f"{kind} pixel {pixel}, plain"] = ({kind: Stored(bad)}, InvalidDataError, PIXELS)
            cases[f"{kind} pixel {pixel}, streamed"] = ({kind: streamed(bad)}, InvalidDataError, PIXELS)
        cases[f"{kind} label 10, streamed"] = (
            {kind: streamed(with_label(samples, 10))},
            InvalidDataError,
            rf"{kind} labels \[10\] were given",
        )
        cases[f"{kind}, iterable"] = ({kind: DataLoader(Endless())}, InvalidDataError, ITERABLE)  # type: ignore[arg-type]
    return cases


@every_method
def test_bad_input_is_refused_before_any_training(digits: Digits, name: str) -> None:
    model = Watched(digits.model)
    before = state_bytes(model)
    good: dict[str, SampleSource] = {"forget": part(digits.forget, 20), "retain": part(digits.retain, 60)}
    for case, (changed, error, said) in bad_inputs(digits).items():
        Watched.with_gradients = 0
        with pytest.raises(error, match=said):
            quick(name).unlearn(model, **{**good, **changed})  # type: ignore[arg-type]
        assert Watched.with_gradients == 0, case
        assert state_bytes(model) == before, case


@pytest.mark.parametrize("name", ["boundary-shrink", "boundary-expanding", "delete"])
def test_methods_of_forget_data_alone_never_look_at_retained_samples(digits: Digits, name: str) -> None:
    forget = part(digits.forget, 60)
    with_retain = quick(name).unlearn(digits.model, forget, digits.retain)
    assert_same(with_retain, quick(name).unlearn(digits.model, forget))


def test_samples_and_models_that_do_not_fit_each_other_are_refused_in_words(digits: Digits) -> None:
    forget, model = part(digits.forget, 20), digits.model
    wide = ImageSet(torch.zeros(4, 1, 12, 12), torch.zeros(4, dtype=torch.int64))
    for kind in ("retain", "unseen"):
        with pytest.raises(
            InvalidDataError, match=rf"{kind} images of shape \(1, 12, 12\) were given; expected \(1, 8, 8\)"
        ):
            quick("scrub").unlearn(model, forget, **{"retain": forget, kind: wide})  # type: ignore[arg-type]
    with pytest.raises(InvalidModelError, match=r"no logits for a float32 image of shape \(1, 12, 12\)"):
        quick("scrub").unlearn(model, wide, wide)
    with pytest.raises(InvalidModelError, match="no logits for a float32 image"):
        quick("scrub").unlearn(copy.deepcopy(model).double(), forget, forget)
    for items in (
        [{"image": 1}],
        [(torch.zeros(1, 8, 8), torch.eye(3)[0])],
        [(torch.zeros(1, 8, 8), 1), (torch.zeros(1, 9, 8), 1)],
    ):
        with pytest.raises(InvalidDataError, match=r"list: the items do not fit"):
            quick("finetune").unlearn(model, items, forget)  # type: ignore[arg-type]
    with pytest.raises(InvalidDataError, match="Endless was given; expected a map-style dataset"):
        quick("finetune").unlearn(model, Endless(), forget)
    with pytest.raises(InvalidDataError, match=r"excluded classes \['3'\] were given"):
        quick("finetune").unlearn(model, forget, forget, excluded_classes=["3"])  # type: ignore[list-item]


@every_method
def test_retained_samples_are_asked_for_exactly_where_they_are_required(digits: Digits, name: str) -> None:
    model = Watched(digits.model)
    Watched.with_gradients = 0
    if not available()[name].requires_retain:
        outcome = quick(name).unlearn(model, part(digits.forget, 20))
        assert state_bytes(outcome.model) != state_bytes(model)
        return
    with pytest.raises(InvalidDataError, match=rf"{re.escape(name)}: no retain set was given"):
        quick(name).unlearn(model, part(digits.forget, 20))
    assert Watched.with_gradients == 0


@every_method
@pytest.mark.parametrize("excluded", [[10], [-1, 3], [0, 1, 2, 4, 5, 6, 7, 8, 9], list(range(10))])
def test_excluded_classes_that_cannot_be_are_refused_by_all_that_give_labels(
    digits: Digits, name: str, excluded: list[int]
) -> None:
    model = Watched(digits.model)
    Watched.with_gradients = 0
    try:
        outcome = quick(name).unlearn(
            model, part(digits.forget, 20), part(digits.retain, 60), excluded_classes=excluded
        )
    except InvalidDataError as error:
        assert re.match(rf"{re.escape(name)}: (excluded )?classes ", str(error))
        assert Watched.with_gradients == 0
    else:
        # Nothing is taught to be another class here, so no class can be the wrong one.
        assert outcome.guard_labels is None


def assert_diverges(name: str, model: nn.Module, digits: Digits, **parameters: object) -> None:
    before = state_bytes(model)
    with pytest.raises(
        UnlearningDivergedError, match=rf"^{re.escape(name)}: .* at step \d+.*the given model is unchanged"
    ):
        quick(name, **parameters).unlearn(model, part(digits.forget, 40), part(digits.retain, 60))
    assert state_bytes(model) == before
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("name", [name for name in UNCONTROLLED if name != "frozen-head"])  # it makes that layer anew
def test_a_model_that_gives_no_numbers_is_refused_by_name_and_step(digits: Digits, name: str) -> None:
    model = digits.model
    with torch.no_grad():
        model[-1].bias[5] = torch.nan  # type: ignore[index]
    assert_diverges(name, model, digits)


@pytest.mark.parametrize("name", with_field("learning_rate"))
@pytest.mark.parametrize("max_steps", [1, 2, 20])
def test_a_learning_rate_that_breaks_the_model_is_refused_by_name_and_step(
    digits: Digits, name: str, max_steps: int
) -> None:
    # The last step as well, whose loss is never computed.
    rates = dict.fromkeys(("learning_rate", "joint_learning_rate"), 1e36)
    bounds = dict.fromkeys(("max_gradient_norm", "joint_gradient_norm"), 1e6)
    assert_diverges(name, digits.model, digits, max_steps=max_steps, epochs=20, **rates, **bounds)


def test_a_mask_over_every_class_does_not_say_that_it_forgot(digits: Digits) -> None:
    samples = concatenate(part(digits.forget, 20), part(digits.retain, 60))
    assert len(samples.labels.unique()) == 10
    assert not quick("mask-output").unlearn(digits.model, samples).converged


def test_wrong_arguments_are_refused_in_words(digits: Digits) -> None:
    forget = part(digits.forget, 20)
    for arguments, said in (
        ({"generator": 0}, "generator = 0 was given; expected a torch.Generator"),
        ({"excluded_classes": 3}, "excluded_classes = 3 was given; expected a collection"),
    ):
        with pytest.raises(FedUnlearnError, match=said):
            quick("delete").unlearn(digits.model, forget, **arguments)  # type: ignore[arg-type]


def test_numbers_may_be_those_of_numpy_and_gradients_may_be_off(digits: Digits) -> None:
    forget = part(digits.forget, 20)
    plain = quick("delete", max_steps=3, learning_rate=0.5).unlearn(digits.model, forget)
    with torch.no_grad():
        same = quick("delete", max_steps=numpy.int64(3), learning_rate=numpy.float64(0.5)).unlearn(digits.model, forget)
    assert_same(same, plain)


@pytest.mark.parametrize("parameters", [{}, {"importance": True}])
def test_gradients_sample_by_sample_are_taken_in_full_precision(digits: Digits, parameters: dict[str, object]) -> None:
    # BatchNorm beneath vmap takes no inputs of another type than its own.
    name = "instance-wise" if parameters else "selective-dampening"
    network = build_model("all-cnn", class_count=10, image_shape=(1, 8, 8), parameters={"width": 0.1})
    known = part(digits.forget, 20).relabelled(predict_logits(network, part(digits.forget, 20)).argmax(dim=1))
    outcome = quick(name, precision="bfloat16", **parameters).unlearn(network, known, part(digits.retain, 60))
    assert state_bytes(outcome.model) != state_bytes(network)


@every_method
def test_the_given_model_stays_as_it_was_and_a_copy_changes(digits: Digits, name: str) -> None:
    model = digits.model.train()
    model[1].eval()  # type: ignore[index]
    model[0].requires_grad_(False)  # type: ignore[index]
    before = state_bytes(model)
    modes = [module.training for module in model.modules()]
    outcome = quick(name).unlearn(model, part(digits.forget, 60), digits.retain)
    after = state_bytes(outcome.model)
    assert state_bytes(model) == before
    assert after != before
    assert after["0.weight"] == before["0.weight"]
    for kept in (model, outcome.model):
        assert [module.training for module in kept.modules()] == modes
        assert [parameter.requires_grad for parameter in kept.parameters()] == [False] + [True] * 6
    assert all(parameter.grad is None for each in (model, outcome.model) for parameter in each.parameters())
    assert {id(parameter) for parameter in model.parameters()}.isdisjoint(map(id, outcome.model.parameters()))


@every_method
def test_normalisation_statistics_stay_frozen_also_for_a_model_in_training_mode(digits: Digits, name: str) -> None:
    model = digits.model.train()
    before = state_bytes(model)
    # Joint training is the one that lets them follow, and on retained samples only: see the tests of instance-wise.
    after = state_bytes(quick(name, retained="anchors").unlearn(model, digits.forget, digits.retain).model)
    statistics = {key for key in before if "running" in key or "batches" in key}
    assert len(statistics) == 3
    assert all(after[key] == before[key] for key in statistics)


@every_method
def test_the_outcome_has_the_outputs_of_the_given_model(digits: Digits, name: str) -> None:
    model = digits.model
    outcome = quick(name).unlearn(model, part(digits.forget, 40), part(digits.retain, 60))
    shapes = {key: (tensor.shape, tensor.dtype) for key, tensor in model.state_dict().items()}
    assert {key: (tensor.shape, tensor.dtype) for key, tensor in outcome.model.state_dict().items()} == shapes
    assert [key for key, _ in outcome.model.named_parameters()] == [key for key, _ in model.named_parameters()]
    assert last_linear(outcome.model)[1].out_features == 10
    assert predict_logits(copy.deepcopy(outcome.model), digits.test_retain).shape == (len(digits.test_retain), 10)


@every_method
def test_the_same_seed_gives_the_same_bytes_whatever_the_global_one_is(digits: Digits, name: str) -> None:
    def run(global_seed: int) -> Outcome:
        torch.manual_seed(global_seed)
        random.seed(global_seed)
        numpy.random.seed(global_seed)
        states = torch.get_rng_state(), random.getstate(), str(numpy.random.get_state())
        outcome = quick(name).unlearn(
            digits.model, part(digits.forget, 40), part(digits.retain, 90), generator=torch.Generator().manual_seed(5)
        )
        assert torch.equal(torch.get_rng_state(), states[0])
        assert random.getstate() == states[1]
        assert str(numpy.random.get_state()) == states[2]
        return outcome

    assert_same(run(0), run(1))


def assert_same(first: Outcome, second: Outcome) -> None:
    assert state_bytes(first.model) == state_bytes(second.model)
    assert (first.forward_passes, first.backward_passes) == (second.forward_passes, second.backward_passes)
    assert (first.steps, first.converged) == (second.steps, second.converged)
    if first.guard_labels is None or second.guard_labels is None:
        assert first.guard_labels is second.guard_labels
    else:
        assert first.guard_labels.tolist() == second.guard_labels.tolist()


@every_method
def test_guard_labels_are_neither_a_samples_own_class_nor_an_excluded_one(digits: Digits, name: str) -> None:
    # Samples of two classes, so that what is one sample's own may be another's guard label.
    retain = part(digits.retain, 200)
    chosen = torch.isin(retain.labels, torch.tensor([5, 6])).nonzero().flatten()
    forget = ImageSet(
        torch.cat([digits.forget.images[:40], retain.images[chosen]]),
        torch.cat([digits.forget.labels[:40], retain.labels[chosen]]),
    )
    found = quick(name).unlearn(digits.model, forget, retain, excluded_classes=[1, 8]).guard_labels
    if found is None:
        return
    assert (found.shape, found.dtype, found.device.type) == (forget.labels.shape, torch.int64, "cpu")
    allowed = set(range(10)) - {1, 8} | {UNGUARDED}
    assert set(found.tolist()) <= allowed
    assert not bool((found == forget.labels).any())


class Renamed(nn.Module):
    """No layer has a name, a width or a number of classes that others have."""

    def __init__(self, class_count: int) -> None:
        super().__init__()
        self.seeing = nn.Conv2d(2, 7, 3)
        self.steadying = nn.BatchNorm2d(7)
        self.answering = nn.Linear(7 * 4 * 4, class_count)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.answering(self.steadying(self.seeing(images)).relu().flatten(1))
        return logits


@cache
def renamed(class_count: int) -> tuple[nn.Module, ImageSet]:
    """A trained model, and samples that lie around one drawn image a class."""
    generator = torch.Generator().manual_seed(class_count)
    labels = torch.arange(class_count).repeat_interleave(30)
    centres = torch.rand(class_count, 2, 6, 6, generator=generator)
    images = centres[labels] + 0.1 * torch.randn(len(labels), 2, 6, 6, generator=generator)
    samples = ImageSet(images.clamp(0, 1), labels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Renamed(class_count)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(samples.images), labels).backward()
        optimizer.step()
    assert accuracy(model.eval(), samples) == 1
    return model, samples


@every_method
@pytest.mark.parametrize("class_count", [3, 12])
def test_models_with_another_number_of_classes_and_other_layers_are_served(name: str, class_count: int) -> None:
    model, samples = renamed(class_count)
    forget = samples.of_classes([class_count - 1])
    retain = samples.of_classes(range(class_count - 1))
    outcome = created(name, max_steps=150).stronger().unlearn(model, forget, retain)
    logits = predict_logits(outcome.model, samples)
    assert logits.shape == (len(samples), class_count)
    assert bool(torch.isfinite(logits).all())
    before, after = (predict_logits(each, forget).log_softmax(dim=1)[:, -1].mean() for each in (model, outcome.model))
    if "forget" in available()[name].needs:
        assert after < before
    else:
        assert after != before
    if outcome.guard_labels is not None:
        assert set(outcome.guard_labels.tolist()) <= set(range(class_count - 1)) | {UNGUARDED}


@pytest.mark.parametrize("name", with_field("max_steps"))
@pytest.mark.parametrize("bound", [1, 3])
def test_the_bound_on_the_steps_holds(digits: Digits, name: str, bound: int) -> None:
    method = quick(name, max_steps=bound, epochs=50, consolidation_steps=50)
    outcome = method.unlearn(digits.model, digits.forget, digits.retain)
    assert 1 <= outcome.steps <= bound


@every_method
def test_streamed_samples_give_what_the_same_samples_give_in_memory(digits: Digits, name: str) -> None:
    forget, retain = part(digits.forget, 45), part(digits.retain, 130)

    def run(kept: SampleSource, forgotten: SampleSource) -> Outcome:
        generator = torch.Generator().manual_seed(2)
        return quick(name).unlearn(digits.model, forgotten, kept, generator=generator, excluded_classes=[8])

    in_memory = run(retain, forget)
    assert_same(run(streamed(retain), streamed(forget)), in_memory)
    assert_same(run(streamed(retain), forget), in_memory)
    assert_same(run(Stored(retain), Stored(forget)), in_memory)
    assert state_bytes(in_memory.model) != state_bytes(digits.trained)


def test_samples_read_by_workers_give_what_they_give_in_memory(digits: Digits) -> None:
    forget, retain = part(digits.forget, 45), part(digits.retain, 130)
    in_memory = quick("selective-dampening").unlearn(digits.model, forget, retain)
    by_workers = quick("selective-dampening").unlearn(digits.model, streamed(forget, 2), streamed(retain, 2))
    assert_same(by_workers, in_memory)


@every_method
def test_streamed_samples_are_never_held_all_at_once(name: str) -> None:
    # More samples than any method may draw into memory for good; of each set less is held than it has.
    count = 5000
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2 * count, 1, 8, 8, generator=generator)
    layer = nn.Linear(64, 4)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(4, 64, generator=generator))
    model = nn.Sequential(nn.Flatten(), layer)
    labels = model(images).argmax(dim=1)
    trackers = LiveImages(), LiveImages()
    loaders = [
        DataLoader(Stored(ImageSet(images[start : start + count], labels[start : start + count])), collate_fn=tracker)
        for start, tracker in zip((0, count), trackers, strict=True)
    ]
    method = quick(name, batch_size=64)
    forgotten = {0} if "sample" not in method.scopes else set[int]()  # single samples are no request to others
    method.unlearn(model, *loaders, excluded_classes=forgotten)  # type: ignore[arg-type]
    for tracker in trackers:
        assert tracker.read >= count
        assert tracker.largest_batch < count
        assert tracker.peak < count
        assert tracker.live == 0
