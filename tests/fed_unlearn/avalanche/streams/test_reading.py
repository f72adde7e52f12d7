"""How samples of Avalanche's data sets are read: their domain, without augmentation, and large sets not at once."""

from __future__ import annotations

import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from avalanche.benchmarks import class_incremental_benchmark, nc_benchmark, tensors_benchmark
from avalanche.benchmarks.classic import PermutedMNIST, RotatedMNIST, SplitMNIST
from avalanche.benchmarks.utils import (
    AvalancheDataset,
    DataAttribute,
    as_classification_dataset,
    make_avalanche_dataset,
)
from avalanche.benchmarks.utils.transform_groups import DefaultTransformGroups, TransformGroups
from avalanche.benchmarks.utils.transforms import MultiParamCompose
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Subset
from torchvision.datasets import VisionDataset
from torchvision.transforms import ColorJitter, Compose, Normalize, RandomCrop, RandomHorizontalFlip, ToTensor, v2

from fed_unlearn.avalanche.streams.reading import SampleReader, as_samples
from fed_unlearn.avalanche.streams.samples import located, sample_ids, with_sample_ids
from fed_unlearn.data.domain import PIXELS, TOKENS, VALUES, InputDomain
from fed_unlearn.data.images import ImageSet
from fed_unlearn.data.lazy import LazySet
from fed_unlearn.data.sources import load_source
from fed_unlearn.data.tensors import TensorSet
from fed_unlearn.errors import EmptySetError, InvalidDataError
from fed_unlearn.seeding import isolated_globals

pytestmark = pytest.mark.filterwarnings("ignore")

MEAN, STD = (0.25,), (0.5,)
NORMALISED = InputDomain.normalized(MEAN, STD)
EVALUATED = Compose([ToTensor(), Normalize(MEAN, STD)])
CROPPED = Compose([RandomCrop(8, padding=2), RandomHorizontalFlip(), ToTensor(), Normalize(MEAN, STD)])
DIGITS = load_source("digits").train.subset(torch.arange(40))
PICTURES = DIGITS.batch()[0]


class Pictures(VisionDataset):
    """Digits as torchvision's data sets give them: pictures of PIL under a transform."""

    def __init__(self, transform: Any = None, transforms: Any = None) -> None:
        super().__init__("", transforms=transforms, transform=transform)
        self.targets = DIGITS.labels.tolist()
        self.reads = 0

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        self.reads += 1
        picture: Any = Image.fromarray((PICTURES[index, 0] * 255).round().byte().numpy())
        return (picture if self.transform is None else self.transform(picture)), self.targets[index]


def evaluated() -> Tensor:
    plain = Pictures(EVALUATED)
    return torch.stack([plain[index][0] for index in range(len(plain))])


def grouped(train: Any, test: Any) -> AvalancheDataset:
    return as_classification_dataset(Pictures(), transform_groups=TransformGroups({"train": train, "eval": test}))


def states() -> tuple[Any, ...]:
    return torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()


MADE: dict[str, Any] = {
    "the data set's own transform": lambda: as_classification_dataset(Pictures(EVALUATED)),
    "that below a subset": lambda: make_avalanche_dataset(
        Subset(Pictures(CROPPED), range(40)), data_attributes=[DataAttribute(DIGITS.labels.tolist(), "targets")]
    ),
    "the eval group": lambda: grouped((CROPPED, None), (EVALUATED, None)),
    "a group of one transform": lambda: grouped(CROPPED, EVALUATED),
    "a frozen group": lambda: grouped((CROPPED, None), (EVALUATED, None)).freeze_transforms(),
    "several views": lambda: make_avalanche_dataset(
        as_classification_dataset(Pictures(ToTensor())),
        transform_groups=DefaultTransformGroups((Normalize(MEAN, STD), None)),
    ),
    "composed by Avalanche": lambda: grouped(
        CROPPED, MultiParamCompose([MultiParamCompose([ToTensor()]), Normalize(MEAN, STD)])
    ),
    "a split benchmark": lambda: (
        nc_benchmark(
            Pictures(ToTensor()),
            Pictures(ToTensor()),
            1,
            task_labels=False,
            shuffle=False,
            fixed_class_order=list(range(10)),
            train_transform=Normalize(MEAN, STD),
            eval_transform=Normalize(MEAN, STD),
        )
        .train_stream[0]
        .dataset
    ),
    "random crops and flips": lambda: as_classification_dataset(Pictures(CROPPED)),
    "those of the second version": lambda: as_classification_dataset(
        Pictures(v2.Compose([v2.RandomCrop(8, padding=2), ToTensor(), v2.Normalize([0.25], [0.5])]))
    ),
    "a split of a data set of training": lambda: (
        class_incremental_benchmark({"train": Pictures(CROPPED), "test": Pictures(EVALUATED)}, num_experiences=1)
        .train_stream[0]
        .dataset
    ),
}


@pytest.mark.parametrize("where", MADE)
def test_normalised_pixels_are_found_and_read_without_augmentation(where: str) -> None:
    dataset = with_sample_ids(MADE[where]())
    before = states()
    samples = as_samples(dataset)
    assert states() == before
    assert samples.domain == NORMALISED
    assert type(samples) is TensorSet
    assert samples.ids == sample_ids(dataset)
    inputs, labels = samples.batch()
    positions = located(dataset)[2]  # benchmarks order samples by class
    torch.testing.assert_close(inputs, evaluated()[positions], rtol=0, atol=0)
    assert labels.tolist() == DIGITS.labels[positions].tolist()


@pytest.fixture(scope="module")
def mnist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits as MNIST's files."""
    root = tmp_path_factory.mktemp("mnist")
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    pixels = torch.nn.functional.interpolate(PICTURES, size=(28, 28), mode="bilinear")[:, 0]
    arrays = {
        "images-idx3-ubyte": (pixels * 255).round().byte().numpy(),
        "labels-idx1-ubyte": DIGITS.labels.byte().numpy(),
    }
    for part in ("train", "t10k"):
        for name, array in arrays.items():
            head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
            (folder / f"{part}-{name}").write_bytes(head + array.tobytes())
    return root


@pytest.mark.parametrize(
    "made",
    [
        lambda root: SplitMNIST(2, seed=0, dataset_root=root),
        lambda root: PermutedMNIST(2, seed=0, dataset_root=root),
        lambda root: RotatedMNIST(2, rotations_list=[30, 90], dataset_root=root),
    ],
    ids=["split", "permuted", "rotated"],
)
def test_benchmarks_that_normalise_by_default_are_read_as_they_are_evaluated(made: Any, mnist: Path) -> None:
    with isolated_globals(0):
        benchmark = made(mnist)
    for experience in [*benchmark.train_stream, *benchmark.test_stream]:
        dataset = with_sample_ids(experience.dataset)
        before = states()
        samples = as_samples(dataset)
        assert states() == before
        assert samples.domain == InputDomain.normalized(0.1307, 0.3081)
        with isolated_globals(0):
            expected = torch.stack([dataset.eval()[index][0] for index in range(len(dataset))])
        torch.testing.assert_close(samples.batch()[0], expected, rtol=0, atol=0)


def test_random_steps_that_are_not_left_out_depend_on_the_sample_alone() -> None:
    jittered = Compose([ColorJitter(brightness=0.5), *CROPPED.transforms])
    dataset = with_sample_ids(as_classification_dataset(Pictures(jittered)))
    before = states()
    inputs = as_samples(dataset).batch()[0]
    part = as_samples(dataset.subset([7, 3])).batch()[0]
    lazy = as_samples(dataset, most_bytes=0).batch(torch.tensor([3, 7]))[0]
    assert states() == before
    assert not torch.equal(inputs, evaluated())
    assert torch.equal(part, inputs[[7, 3]])
    assert torch.equal(lazy, inputs[[3, 7]])


def test_a_crop_that_makes_the_shape_stays() -> None:
    dataset = with_sample_ids(as_classification_dataset(Pictures(Compose([RandomCrop(6), ToTensor()]))))
    samples = as_samples(dataset)
    assert samples.input_shape == (1, 6, 6)
    assert torch.equal(samples.batch()[0], as_samples(dataset).batch()[0])


def test_pixels_without_normalisation_are_images() -> None:
    samples = as_samples(with_sample_ids(as_classification_dataset(Pictures(ToTensor()))))
    assert isinstance(samples, ImageSet)
    assert samples.domain == PIXELS


class Numbers(Dataset[tuple[Tensor, int]]):
    """Inputs of any kind."""

    def __init__(self, inputs: Tensor) -> None:
        self.inputs, self.targets = inputs, DIGITS.labels.tolist()

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.inputs[index], self.targets[index]


def holding(inputs: Tensor) -> AvalancheDataset:
    return with_sample_ids(as_classification_dataset(Numbers(inputs)))


def test_images_of_another_range_are_refused_until_their_domain_is_given() -> None:
    shifted = (PICTURES - 0.25) / 0.5
    with pytest.raises(InvalidDataError, match=r"-0.5 to 1.5 were read.*no Normalize.*\[0, 1\].*domain=InputDomain"):
        as_samples(holding(shifted))
    with pytest.raises(InvalidDataError, match=r"0 to 255 were read"):
        as_samples(holding((PICTURES * 255).byte()))
    assert as_samples(holding(shifted), NORMALISED).domain == NORMALISED
    assert as_samples(holding(shifted), VALUES).domain == VALUES
    with pytest.raises(InvalidDataError, match="give the mean and std"):
        as_samples(holding(PICTURES * 255), NORMALISED)


@pytest.mark.parametrize(
    ("inputs", "domain"),
    [(PICTURES.flatten(1) * 16, VALUES), (PICTURES[:, 0] - 3, VALUES), (torch.arange(80).view(40, 2), TOKENS)],
    ids=["vectors", "series", "tokens"],
)
def test_inputs_that_are_no_images_are_read_as_they_are(inputs: Tensor, domain: InputDomain) -> None:
    samples = as_samples(holding(inputs))
    assert samples.domain == domain
    assert torch.equal(samples.batch()[0], inputs)


def test_tensors_of_features_are_values() -> None:
    made = (PICTURES.flatten(1) * 16, DIGITS.labels)
    benchmark = tensors_benchmark([made], [made], task_labels=[0], complete_test_set_only=True)
    samples = as_samples(with_sample_ids(benchmark.train_stream[0].dataset))
    assert (samples.domain, samples.input_shape) == (VALUES, (64,))


def test_a_transform_that_normalises_twice_must_be_said() -> None:
    twice = Compose([ToTensor(), Normalize(MEAN, STD), Normalize((0.5,), (0.5,))])
    dataset = with_sample_ids(as_classification_dataset(Pictures(twice)))
    with pytest.raises(InvalidDataError, match=r"normalise in 2 ways.*UnlearningPlugin\(domain="):
        as_samples(dataset)
    assert as_samples(dataset, VALUES).domain == VALUES


def test_items_that_are_no_inputs_are_named() -> None:
    with pytest.raises(InvalidDataError, match=r"sample '0'.*Image.*ToTensor"):
        as_samples(with_sample_ids(as_classification_dataset(Pictures())))
    with pytest.raises(EmptySetError):
        as_samples(with_sample_ids(as_classification_dataset(Pictures(EVALUATED)).subset([])))


def test_a_large_set_is_read_when_it_is_asked_for() -> None:
    base = Pictures(CROPPED)
    dataset = with_sample_ids(as_classification_dataset(base))
    whole = as_samples(dataset)
    count = len(dataset) * 64 * 4
    assert isinstance(as_samples(dataset, most_bytes=count), TensorSet)
    base.reads = 0
    large = as_samples(dataset, most_bytes=count - 1)
    assert isinstance(large, LazySet)
    assert (large.domain, large.ids) == (NORMALISED, whole.ids)
    assert large.labels.tolist() == whole.labels.tolist()
    chosen = torch.tensor([31, 2])
    before = states()
    torch.testing.assert_close(large.batch(chosen), whole.batch(chosen), rtol=0, atol=0)
    assert states() == before


def test_sets_are_joined_with_each_sample_once_and_within_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    base = Pictures(EVALUATED)
    dataset = with_sample_ids(as_classification_dataset(base))
    parts = [dataset.subset(list(range(20))), dataset.subset([]), dataset.subset(list(range(10, 40)))]
    joined = SampleReader().joined(parts, dataset)
    assert joined.ids == sample_ids(dataset)
    assert type(joined) is TensorSet
    torch.testing.assert_close(joined.batch()[0], evaluated(), rtol=0, atol=0)
    monkeypatch.setattr("fed_unlearn.avalanche.streams.reading.MOST_BYTES", 20 * 64 * 4)
    mixed = SampleReader().joined(parts, dataset)
    assert not isinstance(mixed, TensorSet)
    torch.testing.assert_close(mixed.batch(), joined.batch(), rtol=0, atol=0)
    none = SampleReader().joined([], dataset)
    assert (len(none), none.input_shape, none.domain) == (0, (1, 8, 8), NORMALISED)


def test_a_reader_reads_in_the_domain_that_it_was_given() -> None:
    reader = SampleReader(NORMALISED)
    assert reader.samples(holding((PICTURES - 0.25) / 0.5)).domain == NORMALISED
    assert reader.samples(DIGITS) is DIGITS
