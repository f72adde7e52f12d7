"""The samples of a training stream: ids, labels, tasks, and the experience that each arrives with."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from fed_unlearn.requests import ClassScope


@dataclass(frozen=True)
class Arrivals:
    """The samples of a training stream in the order of arrival.

    Attributes
    ----------
    ids : tuple of str
        Sample ids, each once.
    labels : Tensor of shape (n,), int64
        Labels of the samples.
    experiences : Tensor of shape (n,), int64
        Number of the training experience that each sample arrives with, counted from 1.
    originals : Tensor of shape (n,), int64
        Position of each sample in the data set that the stream was made from.
    tasks : Tensor of shape (n,), int64, optional
        Task labels of the samples; None if they have none.
    """

    ids: tuple[str, ...]
    labels: Tensor
    experiences: Tensor
    originals: Tensor
    tasks: Tensor | None = None

    def of_classes(self, scope: ClassScope) -> Tensor:
        """Return a mask of the samples that a class request names, arrived or not."""
        named = torch.isin(self.labels, torch.tensor(scope.classes, dtype=torch.int64))
        for task, label in scope.pairs if self.tasks is not None else ():
            named |= (self.tasks == task) & (self.labels == label)
        return named

    def after(self, count: int) -> Tensor:
        """Return a mask of the samples that arrive with the first ``count`` experiences."""
        return self.experiences <= count

    def among(self, ids: Collection[str]) -> Tensor:
        """Return a mask of the samples whose id is among ``ids``."""
        return torch.tensor([name in ids for name in self.ids], dtype=torch.bool)

    def followed_by(self, later: Arrivals) -> Arrivals:
        """Return these samples and those of experiences after them."""
        held, new = self.tasks, later.tasks
        return Arrivals(
            ids=self.ids + later.ids,
            labels=torch.cat([self.labels, later.labels]),
            experiences=torch.cat([self.experiences, later.experiences]),
            originals=torch.cat([self.originals, later.originals + len(self.ids)]),
            tasks=None if held is None or new is None else torch.cat([held, new]),
        )
