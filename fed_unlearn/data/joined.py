"""Several sets of samples as one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Self, TypeVar, overload

import torch
from torch import Tensor
from torch.utils.data import Dataset

from fed_unlearn.data.sample_set import Indices, SampleSet, checked_ids
from fed_unlearn.data.tensors import TensorSet
from fed_unlearn.errors import InvalidDataError


class JoinedSet(SampleSet):
    """The samples of several sets, in order, without copying their inputs.

    Parameters
    ----------
    parts : sequence of SampleSet
        The sets, at least one, all with inputs of one shape and domain.
    ids : sequence of str, optional
        Ids of all samples. If none are given, they are numbered.

    Raises
    ------
    InvalidDataError
        If shapes or domains differ, or there is not one id for each sample.
    """

    def __init__(self, parts: Sequence[SampleSet], ids: Sequence[str] | None = None) -> None:
        domains = {part.domain for part in parts}
        shapes = {part.input_shape for part in parts}
        if len(domains) > 1 or len(shapes) > 1:
            raise InvalidDataError(
                f"sets with inputs of shapes {sorted(shapes)} and domains"
                f" {sorted(str(domain) for domain in domains)} were given; expected one of each"
            )
        self.domain = parts[0].domain
        self.labels = torch.cat([part.labels for part in parts])
        self.ids = checked_ids(len(self.labels), self.labels, ids)
        self._parts = tuple(parts)
        sizes = torch.tensor([len(part) for part in parts])
        self._part = torch.arange(len(parts)).repeat_interleave(sizes)
        self._position = torch.cat([torch.arange(len(part)) for part in parts])

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return self._parts[0].input_shape

    def batch(self, indices: Indices = slice(None)) -> tuple[Tensor, Tensor]:
        """Inputs (n, ...) and labels (n,) at some positions."""
        return next(self._read([indices]))

    def batches(self, positions: Iterable[Indices]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the :meth:`batch` of each set of positions. Every part reads ahead as it does alone."""
        return self._read(positions)

    def _read(self, positions: Iterable[Indices]) -> Iterator[tuple[Tensor, Tensor]]:
        plan = [each if isinstance(each, slice) else each.cpu() for each in positions]
        readers = [self._reader(number, plan) for number in range(len(self._parts))]
        for chosen in plan:
            of_part = self._part[chosen]
            inputs = torch.empty(0)
            for number in of_part.unique().tolist():
                found, _ = next(readers[number])
                if len(found) == len(of_part):
                    inputs = found
                    break
                if not len(inputs):
                    inputs = found.new_empty(len(of_part), *found.shape[1:])
                inputs[(of_part == number).to(found.device)] = found
            if not len(of_part):
                inputs, _ = self._parts[0].batch(torch.empty(0, dtype=torch.int64))
            yield inputs, self.labels[chosen if isinstance(chosen, slice) else chosen.to(self.labels.device)]

    def subset(self, indices: Tensor) -> Self:
        """The samples at ``indices`` (int64), in that order, with their ids."""
        chosen = indices.cpu()
        made = self._copy()
        made._part, made._position = self._part[chosen], self._position[chosen]
        made.labels = self.labels[indices.to(self.labels.device)]
        made.ids = tuple(self.ids[index] for index in chosen.tolist())
        return made

    def relabelled(self, labels: Tensor) -> Self:
        """The same inputs and ids under other labels."""
        checked_ids(len(self), labels, self.ids)
        made = self._copy()
        made.labels = labels
        return made

    def to(self, device: torch.device) -> Self:
        """The same samples, with batches and labels on a device."""
        return self._with(tuple(part.to(device) for part in self._parts), self.labels.to(device))

    def located(self) -> list[tuple[Dataset[Any], int]]:
        """Where each part reads its samples from."""
        places = [part.located() for part in self._parts]
        numbers = zip(self._part.tolist(), self._position.tolist(), strict=True)
        return [places[number][position] for number, position in numbers]

    def evaluated(self) -> Self:
        """The same samples, each part read without random augmentation."""
        return self._with(tuple(part.evaluated() for part in self._parts), self.labels)

    def _reader(self, number: int, plan: Sequence[Indices]) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of one part: what of it is in each set of positions that has some of it."""
        chosen = (self._position[each][self._part[each] == number] for each in plan)
        device = self._parts[number].labels.device
        return self._parts[number].batches(part.to(device) for part in chosen if len(part))

    def _with(self, parts: tuple[SampleSet, ...], labels: Tensor) -> Self:
        made = self._copy()
        made._parts, made.labels = parts, labels
        return made

    def _copy(self) -> Self:
        made = type(self).__new__(type(self))
        made.__dict__.update(self.__dict__)
        return made


InMemory = TypeVar("InMemory", bound=TensorSet)


@overload
def concatenate(*parts: InMemory) -> InMemory: ...
@overload
def concatenate(*parts: SampleSet) -> SampleSet: ...


def concatenate(*parts: SampleSet) -> SampleSet:
    """The samples of all parts, in order. If ids repeat, all samples are numbered anew.

    Sets in memory become one set in memory. All others are read from where they are.

    Raises
    ------
    InvalidDataError
        If the parts' inputs differ in shape or domain.
    """
    filled = [part for part in parts if len(part)]
    if not filled:
        return parts[0]
    if len(filled) == 1:
        return filled[0]
    ids: list[str] | None = [sample_id for part in filled for sample_id in part.ids]
    if ids is not None and len(set(ids)) < len(ids):
        ids = None
    merged = filled[0].merged_with(filled[1:], ids)
    return merged if merged is not None else JoinedSet(filled, ids)
