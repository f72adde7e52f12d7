"""Samples that do not fit in memory: their inputs are read when a batch asks for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from fed_unlearn.data.domain import PIXELS, InputDomain
from fed_unlearn.data.planned import planned_loader
from fed_unlearn.data.sample_set import Indices, SampleSet, checked_ids
from fed_unlearn.errors import EmptySetError, InvalidDataError, InvalidParameterError

InputOf = Callable[[Any], Tensor]
"""Gives the input of an item of a data set."""

Collate = Callable[[list[Any]], Tensor]
"""Gives the inputs (n, ...) of n items of a data set."""


class LazySet(SampleSet):
    """Samples of a map-style dataset. Labels and ids are in memory, inputs are read when a batch asks for them.

    No more is held than the batches that are being read: one, and with workers two more for each of them.

    Parameters
    ----------
    dataset : Dataset
        A map-style dataset of any items. An item must be the same each time it is read, but for augmentation.
    labels : Tensor of shape (len(dataset),), int64
        Label of each item.
    ids : sequence of str, optional
        Stable id of each item. If none are given, the dataset's ``ids`` if it has some, else the index.
    input_of : callable, optional
        Gives the input of an item. By default the item's first part.
    collate : callable, optional
        Gives the inputs (n, ...) of a list of n items, in place of ``input_of``. All batches have inputs of one shape.
    workers : int, default 0
        Number of processes that read ahead.
    worker_init : callable, optional
        Called in each of these processes with its number, as a DataLoader's ``worker_init_fn``.
    domain : InputDomain, default pixels in [0, 1]
        What the inputs are.
    evaluation : SampleSet, optional
        The same samples in the same order, read without random augmentation. Audits, searches and guards read it.

    Raises
    ------
    InvalidDataError
        If the dataset is iterable-style, or labels, ids or ``evaluation`` do not fit it.
    InvalidParameterError
        If both ``input_of`` and ``collate`` are given, or ``workers`` is below 0.

    Examples
    --------
    >>> LazySet(files, labels, ids, input_of=lambda item: item["image"], workers=2)  # doctest: +SKIP
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        labels: Tensor,
        ids: Sequence[str] | None = None,
        *,
        input_of: InputOf | None = None,
        collate: Collate | None = None,
        workers: int = 0,
        worker_init: Callable[[int], None] | None = None,
        domain: InputDomain = PIXELS,
        evaluation: SampleSet | None = None,
    ) -> None:
        if input_of is not None and collate is not None:
            raise InvalidParameterError("both input_of and collate were given; expected one: collate gets whole items")
        if workers < 0:
            raise InvalidParameterError(f"workers = {workers} was given; expected 0 or more")
        size = size_of(dataset)
        if ids is None:
            own = getattr(dataset, "ids", None)
            ids = [str(sample_id) for sample_id in own] if own is not None else None
        self.ids = checked_ids(size, labels, ids)
        self.labels = labels
        self.domain = domain
        if evaluation is not None and len(evaluation) != size:
            raise InvalidDataError(
                f"evaluation: {len(evaluation)} samples were given for {size}; expected the same samples in the same"
                " order"
            )
        self._evaluation = evaluation
        self._source = _Source(dataset, collate or _stacking(input_of or _first), workers, worker_init)
        self._positions = torch.arange(size)
        self._device = labels.device

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input. The first sample is read for it, once.

        Raises
        ------
        EmptySetError
            If the dataset has no sample.
        """
        shapes = self._source.shapes
        if not shapes:
            if size_of(self._source.dataset) == 0:
                raise EmptySetError("the dataset has no sample; at least one was expected")
            next(self._source.read([[0]], self.domain))
        return shapes[0]

    def batch(self, indices: Indices = slice(None)) -> tuple[Tensor, Tensor]:
        """Inputs (n, ...), float32 or int64, and labels (n,) at some positions."""
        return next(self._read([indices]))

    def batches(self, positions: Iterable[Indices]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the :meth:`batch` of each set of positions. The workers read ahead.

        Raises
        ------
        InvalidDataError
            If what is read is no tensor of inputs, or the inputs differ in shape.
        """
        return self._read(positions)

    def _read(self, positions: Iterable[Indices]) -> Iterator[tuple[Tensor, Tensor]]:
        plan = [each if isinstance(each, slice) else each.to(self.labels.device) for each in positions]
        chosen = [self._positions[each if isinstance(each, slice) else each.cpu()] for each in plan]
        filled = self._source.read([each.tolist() for each in chosen if len(each)], self.domain)
        for indices, places in zip(plan, chosen, strict=True):
            inputs = next(filled) if len(places) else self._none()
            yield inputs.to(self._device), self.labels[indices]

    def subset(self, indices: Tensor) -> Self:
        """The samples at ``indices`` (int64), in that order, with their ids. Nothing is read."""
        chosen = indices.cpu()
        made = self._copy()
        made._positions = self._positions[chosen]
        made.labels = self.labels[indices.to(self.labels.device)]
        made.ids = tuple(self.ids[index] for index in chosen.tolist())
        return made

    def relabelled(self, labels: Tensor) -> Self:
        """The same inputs and ids under other labels."""
        checked_ids(len(self), labels, None)
        made = self._copy()
        made.labels = labels.to(self._device)
        return made

    def to(self, device: torch.device) -> Self:
        """The same samples, with batches and labels on a device."""
        made = self._copy()
        made._device = device
        made.labels = self.labels.to(device)
        return made

    def located(self) -> list[tuple[Dataset[Any], int]]:
        """The dataset that was given, and each sample's position in it."""
        return [(self._source.dataset, position) for position in self._positions.tolist()]

    def evaluated(self) -> SampleSet:
        """The same samples as ``evaluation`` reads them, under this set's labels and ids."""
        if self._evaluation is None:
            return self
        view = self._evaluation.to(self._device)
        return view.subset(self._positions.to(self._device)).relabelled(self.labels)

    def merged_with(self, others: Sequence[SampleSet], ids: Sequence[str] | None) -> SampleSet | None:
        """One set, if all are of the same dataset; see :meth:`SampleSet.merged_with`."""
        parts = [self, *(each for each in others if isinstance(each, LazySet) and each._source is self._source)]
        if len(parts) <= len(others) or any(part._device != self._device for part in parts):
            return None
        made = self._copy()
        made._positions = torch.cat([part._positions for part in parts])
        made.labels = torch.cat([part.labels for part in parts])
        made.ids = checked_ids(len(made.labels), made.labels, ids)
        return made

    def _none(self) -> Tensor:
        dtype = torch.int64 if self.domain.kind == "tokens" else torch.float32
        return torch.empty(0, *self.input_shape, dtype=dtype)

    def _copy(self) -> Self:
        made = type(self).__new__(type(self))
        made.__dict__.update(self.__dict__)
        return made


@dataclass(frozen=True, eq=False)
class _Source:
    """What sets of one dataset share: how its items become inputs. ``shapes`` holds the shape of the first input."""

    dataset: Dataset[Any]
    collate: Collate
    workers: int
    worker_init: Callable[[int], None] | None
    shapes: list[tuple[int, ...]] = field(default_factory=list)

    def read(self, plan: Sequence[list[int]], domain: InputDomain) -> Iterator[Tensor]:
        """Yield the inputs at each list of positions."""
        if not plan:
            return
        planned = planned_loader(
            self.dataset, plan, collate=self.collate, workers=self.workers, worker_init=self.worker_init
        )
        for inputs in planned:
            yield self._checked(inputs, domain)

    def _checked(self, inputs: object, domain: InputDomain) -> Tensor:
        name = type(self.dataset).__name__
        if not isinstance(inputs, Tensor) or inputs.ndim < 1:
            raise InvalidDataError(
                f"{name}: {type(inputs).__name__} was read as inputs; expected a tensor (n, ...): give input_of or"
                " collate"
            )
        shape = tuple(inputs.shape[1:])
        if not self.shapes:
            self.shapes.append(shape)
        if shape != self.shapes[0]:
            raise InvalidDataError(
                f"{name}: inputs of shape {shape} were read, and of {self.shapes[0]} before; expected one shape: crop"
                " images, and pad texts to a fixed length"
            )
        try:
            return domain.read(inputs)
        except InvalidDataError as error:
            raise InvalidDataError(f"{name}: {error}") from None


def size_of(dataset: Dataset[Any]) -> int:
    """Number of items of a map-style dataset.

    Raises
    ------
    InvalidDataError
        If it is iterable-style: whoever reads samples chooses their order.
    """
    if isinstance(dataset, IterableDataset) or not isinstance(dataset, Sized):
        raise InvalidDataError(
            f"{type(dataset).__name__}: an iterable-style dataset was given; expected a map-style one, because the"
            " method chooses the order of samples"
        )
    return len(dataset)


def _first(item: Any) -> Tensor:
    if not isinstance(item, list | tuple) or not item:
        raise InvalidDataError(
            f"an item of type {type(item).__name__} was read; expected a pair (input, label): give input_of"
        )
    return torch.as_tensor(item[0])


def _stacking(input_of: InputOf) -> Collate:
    def stack(items: list[Any]) -> Tensor:
        inputs = [torch.as_tensor(input_of(item)) for item in items]
        shapes = sorted({tuple(each.shape) for each in inputs})
        if len(shapes) > 1:
            raise InvalidDataError(
                f"inputs of shapes {', '.join(str(shape) for shape in shapes[:3])} were read; expected one shape: crop"
                " images, and pad texts to a fixed length"
            )
        return torch.stack(inputs)

    return stack
