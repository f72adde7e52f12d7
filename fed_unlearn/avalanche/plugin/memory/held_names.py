"""Ids of samples that a strategy has stored before it was told of their ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from avalanche.benchmarks.utils import AvalancheDataset

from fed_unlearn.avalanche.streams.samples import has_sample_ids, located, sample_ids
from fed_unlearn.errors import InvalidDataError


class HeldNames:
    """Finds the ids of stored samples: their own, or those that known data sets give to the same samples.

    Two samples are the same if they lie at the same place of the same data set below Avalanche's views.

    Parameters
    ----------
    known : iterable of AvalancheDataset
        Data sets with ids. Those without are left out. They are asked for only if a stored data set has no ids.
    """

    def __init__(self, known: Iterable[AvalancheDataset] = ()) -> None:
        self._known = known
        self._index: list[tuple[Any, dict[int, str]]] | None = None

    def of(self, dataset: AvalancheDataset) -> Sequence[str]:
        """Return the ids of all samples of a data set in order.

        Raises
        ------
        InvalidDataError
            If the samples have no ids and are not among the known ones, or the known data sets give one of them several
            ids.
        """
        if len(dataset) == 0 or has_sample_ids(dataset):
            return sample_ids(dataset) if len(dataset) else ()
        bases, numbers, positions = located(dataset)
        places = [self._places(base) for base in bases]
        found = [places[n].get(p, "") for n, p in zip(numbers.tolist(), positions.tolist(), strict=True)]
        if not all(found):
            raise InvalidDataError(
                f"{len(dataset)} samples without ids are kept, so that forgotten ones cannot be told from others; build"
                " the benchmark with forget_benchmark before the first training"
            )
        return found

    def _places(self, base: object) -> dict[int, str]:
        """Return the ids by place of the samples of one base. A place with several ids has none."""
        if self._index is None:
            self._index = []
            for dataset in self._known:
                if len(dataset) and has_sample_ids(dataset):
                    self._add(dataset)
        return next((names for known, names in self._index if known is base), {})

    def _add(self, dataset: AvalancheDataset) -> None:
        index: list[tuple[Any, dict[int, str]]] = self._index if self._index is not None else []
        bases, numbers, positions = located(dataset)
        ids = np.array(sample_ids(dataset), dtype=object)
        for number, base in enumerate(bases):
            names = next((names for known, names in index if known is base), None)
            if names is None:
                names = {}
                index.append((base, names))
            held = numbers == number
            for place, name in zip(positions[held].tolist(), ids[held].tolist(), strict=True):
                names[place] = name if names.get(place, name) == name else ""
