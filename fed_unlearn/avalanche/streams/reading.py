"""Reads the samples of Avalanche's data sets as models read them for evaluation."""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import torch
from avalanche.benchmarks.utils import AvalancheDataset
from torch import Tensor, nn
from torch.utils.data import Dataset

from fed_unlearn.avalanche.streams.indexed import indexed
from fed_unlearn.avalanche.streams.samples import attribute_values, each_once, labels_of, sample_ids, without
from fed_unlearn.avalanche.streams.transforms import normalisation_of, without_augmentation
from fed_unlearn.data.domain import PIXELS, TOKENS, VALUES, InputDomain
from fed_unlearn.data.held import spread
from fed_unlearn.data.images import ImageSet, concatenate
from fed_unlearn.data.lazy import LazySet
from fed_unlearn.data.normalisation import normalised_domain
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.data.tensors import TensorSet
from fed_unlearn.errors import EmptySetError, InvalidDataError
from fed_unlearn.seeding import derive_seed, isolated_globals, seed_globals

MOST_BYTES = 256 * 2**20
"""Size of inputs, in bytes, up to which they are read into memory at once."""

_LOOKED_AT = 64
_BATCH = 64


@dataclass(frozen=True)
class SampleReader:
    """How a plug-in and metrics read samples, and call the model on them.

    Attributes
    ----------
    domain : InputDomain, optional
        What the inputs are. By default it is found as :func:`as_samples` does.
    """

    domain: InputDomain | None = None

    def samples(self, dataset: AvalancheDataset | SampleSet, *, most_bytes: int = MOST_BYTES) -> SampleSet:
        """Return the samples of a data set, as :func:`as_samples` does. A SampleSet is returned as it is."""
        return dataset if isinstance(dataset, SampleSet) else as_samples(dataset, self.domain, most_bytes=most_bytes)

    def joined(self, sources: Iterable[AvalancheDataset | SampleSet], like: AvalancheDataset) -> SampleSet:
        """Return the samples of several sets in order, each id once. No sample is read twice.

        Parameters
        ----------
        sources : iterable of AvalancheDataset or SampleSet
            The sets. Some may be empty. Together they take at most :data:`MOST_BYTES` of memory; all beyond is read
            when it is asked for.
        like : AvalancheDataset
            Its first sample gives the shape and the domain of inputs if there are no samples.
        """
        parts: list[SampleSet] = []
        known: set[str] = set()
        left = MOST_BYTES
        for source in sources:
            if len(source) == 0:
                continue
            new = source.without(known) if isinstance(source, SampleSet) else each_once(without(source, known))
            if len(new):
                part = self.samples(new, most_bytes=left)
                left -= part.inputs.nbytes if isinstance(part, TensorSet) and not isinstance(source, SampleSet) else 0
                known.update(part.ids)
                parts.append(part)
        if not parts:
            first = self.samples(like.subset([0]))
            return first.without(first.ids)
        return concatenate(*parts)

    def labels(self, dataset: AvalancheDataset) -> list[int]:
        """Return the labels of all samples in order, as :meth:`samples` gives them. No input is read."""
        return labels_of(dataset)

    def peers(self, labels: Collection[int]) -> tuple[int, ...]:
        """Return all labels that samples of the given labels may be mistaken for. Empty if every label may be."""
        return ()

    def model(self, module: nn.Module) -> nn.Module:
        """Return the model that reads these samples: the one that is given."""
        return module


def as_samples(
    dataset: AvalancheDataset, domain: InputDomain | None = None, *, most_bytes: int = MOST_BYTES
) -> SampleSet:
    """Return the samples with the transformations of Avalanche's ``eval`` group.

    If the data set is a view of an :class:`~fed_unlearn.data.images.ImageSet` without transformations, the tensors of
    the ImageSet are indexed. Images of type uint8 then stay uint8.

    A data set below Avalanche's views may have one transform only, which is that of training. Random crops and flips of
    torchvision are left out of it, if images have the same shape without them. Every other random step is applied with
    a seed that depends on the sample's id. So a sample is the same each time, and global generators are not touched.

    Parameters
    ----------
    dataset : AvalancheDataset
        The data set. It has sample ids. Its items are ``(input, label)`` or ``(input, label, task)``, with inputs as
        tensors of one shape.
    domain : InputDomain, optional
        What the inputs are. By default images (channels, height, width) are pixels: normalised as a ``Normalize`` in
        the transforms says, or in [0, 1]. Whole numbers other than bytes are tokens. All else is values of any range.
    most_bytes : int, default 256 MiB
        Size of inputs up to which they are read into memory at once. Those of larger sets are read when a batch asks
        for them.

    Returns
    -------
    ImageSet, TensorSet or LazySet
        An ImageSet of pixels in [0, 1]. Otherwise a TensorSet, or a LazySet if the inputs are larger.

    Raises
    ------
    InvalidDataError
        If the samples have no ids, inputs are no tensors of one shape, or images are neither in [0, 1] nor in the range
        of the domain.
    EmptySetError
        If there is no sample, and no :class:`~fed_unlearn.data.images.ImageSet` below from which the shape is known.
    """
    ids = sample_ids(dataset)
    images = indexed(dataset, ids)
    if images is not None:
        if domain not in (None, PIXELS):
            return TensorSet(images.batch()[0], images.labels, ids, domain=domain)
        _check_pixels(images.images)
        return images
    if not ids:
        raise EmptySetError("the dataset has no sample; at least one was expected")
    items = _Items(without_augmentation(dataset), ids)
    looked_at = spread(len(ids), _LOOKED_AT).tolist()
    seen, seen_labels = items.stacked(looked_at)
    if seen[0].numel() * seen.element_size() * len(ids) > most_bytes:
        domain = domain or _domain_of(dataset, seen)
        domain.check(seen)
        return LazySet(items, _labels(dataset, items, looked_at, seen_labels), ids, domain=domain)
    inputs, labels = items.whole()
    domain = domain or _domain_of(dataset, inputs)
    if domain == PIXELS and inputs.ndim == 4:
        _check_pixels(inputs)
        return ImageSet(inputs, labels, ids)
    return TensorSet(inputs, labels, ids, domain=domain)


class _Items(Dataset[tuple[Tensor, int]]):
    """A data set's inputs and labels. Each item is read with a seed of its own; global generators do not change."""

    def __init__(self, dataset: AvalancheDataset, ids: Sequence[str]) -> None:
        self._dataset, self._ids = dataset, ids

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, int]]:
        with isolated_globals(0):
            return [self._read(index) for index in indices]

    def stacked(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Inputs (n, ...) and labels (n,) at some positions."""
        items = self.__getitems__(indices)
        try:
            return torch.stack([image for image, _ in items]), torch.tensor([label for _, label in items])
        except RuntimeError as error:
            shapes = sorted({tuple(image.shape) for image, _ in items})
            raise InvalidDataError(
                f"inputs of shapes {', '.join(map(str, shapes[:3]))} were read; expected one shape: crop images in the"
                " transforms for evaluation"
            ) from error

    def whole(self) -> tuple[Tensor, Tensor]:
        """Inputs and labels of all samples."""
        parts = [self.stacked(part.tolist()) for part in torch.arange(len(self)).split(_BATCH)]
        try:
            return torch.cat([inputs for inputs, _ in parts]), torch.cat([labels for _, labels in parts])
        except RuntimeError as error:
            shapes = sorted({tuple(inputs.shape[1:]) for inputs, _ in parts})
            raise InvalidDataError(
                f"inputs of shapes {', '.join(map(str, shapes[:3]))} were read; expected one shape: crop images in the"
                " transforms for evaluation"
            ) from error

    def _read(self, index: int) -> tuple[Tensor, int]:
        seed_globals(derive_seed("read", self._ids[index]))
        value, label = self._dataset[index][:2]
        try:
            inputs, number = torch.as_tensor(value), operator.index(label)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InvalidDataError(
                f"sample {self._ids[index]!r}: the items do not fit ({type(value).__name__}, {type(label).__name__});"
                " expected a tensor, such as ToTensor() makes, and a label that is a whole number"
            ) from error
        is_token = not inputs.is_floating_point() and inputs.dtype not in (torch.uint8, torch.bool)
        return inputs.to(torch.int64 if is_token else torch.float32), number


def _labels(dataset: AvalancheDataset, items: _Items, looked_at: Sequence[int], seen: Tensor) -> Tensor:
    """The label of every sample: the data set's targets, if what was looked at has these."""
    if "targets" in dataset._data_attributes:
        targets = torch.tensor([int(label) for label in attribute_values(dataset, "targets")], dtype=torch.int64)
        if torch.equal(targets[list(looked_at)], seen):
            return targets
    return torch.tensor([items[index][1] for index in range(len(items))], dtype=torch.int64)


def _domain_of(dataset: AvalancheDataset, inputs: Tensor) -> InputDomain:
    """What inputs (n, ...) are, by the transforms of their data set and by their values."""
    if not inputs.is_floating_point():
        return TOKENS
    found = normalisation_of(dataset)
    if found is not None:
        return normalised_domain(found, inputs) or VALUES
    if inputs.ndim != 4:
        return VALUES
    _check_pixels(inputs)
    return PIXELS


def _check_pixels(images: Tensor) -> None:
    try:
        PIXELS.check(images)
    except InvalidDataError as error:
        low, high = float(images.min()), float(images.max())
        raise InvalidDataError(
            f"images: values from {low:.3g} to {high:.3g} were read, and the transforms have no Normalize; expected"
            " [0, 1]: say how the images are normalised, UnlearningPlugin(domain=InputDomain.normalized(mean, std)), or"
            ' that their range is not known, UnlearningPlugin(domain=InputDomain("values"))'
        ) from error
