"""One label space for the classes of all tasks of a benchmark."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from fed_unlearn.avalanche.streams.samples import labels_of, task_labels_of
from fed_unlearn.errors import InvalidDataError
from fed_unlearn.requests import ClassScope


@dataclass(frozen=True)
class JointLabels:
    """Numbers every class of every task, so that a model with several heads has one label space.

    The joint label of class ``c`` of task ``t`` is the place of ``(t, c)`` in ``pairs``. One more label, ``none``,
    stands for all outputs of a head that are no class of its task. No sample has it.

    Attributes
    ----------
    pairs : tuple of (int, int)
        Task and class of each joint label, each pair once.

    Raises
    ------
    InvalidDataError
        If there is no pair.
    """

    pairs: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        if not self.pairs:
            raise InvalidDataError("no data set with samples was given; expected one whose samples have task labels")

    @classmethod
    def of(cls, datasets: Iterable[Any]) -> Self:
        """Return the labels of all samples of some data sets, ordered by task and class.

        Parameters
        ----------
        datasets : iterable of AvalancheDataset
            Data sets with targets and task labels. Empty ones are left out.

        Raises
        ------
        InvalidDataError
            If no data set has a sample, or samples have no task label.
        """
        found: set[tuple[int, int]] = set()
        for dataset in datasets:
            found.update(zip(task_labels_of(dataset), labels_of(dataset), strict=True))
        return cls(tuple(sorted(found)))

    @property
    def none(self) -> int:
        """The label of outputs that are no class of their task."""
        return len(self.pairs)

    @property
    def tasks(self) -> tuple[int, ...]:
        """All tasks in order."""
        return tuple(sorted({task for task, _ in self.pairs}))

    def extended(self, datasets: Iterable[Any]) -> JointLabels:
        """Return these labels with those of further data sets behind them. Labels stay as they are."""
        filled = [dataset for dataset in datasets if len(dataset)]
        new = [pair for pair in JointLabels.of(filled).pairs if pair not in self.pairs] if filled else []
        return JointLabels((*self.pairs, *new)) if new else self

    def joint(self, tasks: Sequence[int], classes: Sequence[int]) -> Tensor:
        """Return the joint labels of samples, int64 of shape (n,).

        Raises
        ------
        InvalidDataError
            If a sample is of a pair that is unknown.
        """
        place = {pair: label for label, pair in enumerate(self.pairs)}
        wanted = list(zip(tasks, classes, strict=True))
        unknown = next((pair for pair in wanted if pair not in place), None)
        if unknown is not None:
            raise InvalidDataError(
                f"a sample of class {unknown[1]} of task {unknown[0]} was given; the benchmark has"
                f" {len(self.pairs)} classes in tasks {list(self.tasks)}, and this is none of them"
            )
        return torch.tensor([place[pair] for pair in wanted], dtype=torch.int64)

    def named(self, scope: ClassScope) -> tuple[int, ...]:
        """Return the joint labels that a class request names."""
        return tuple(label for label, pair in enumerate(self.pairs) if pair[1] in scope.classes or pair in scope.pairs)
