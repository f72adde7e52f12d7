"""Strategies and plug-ins that keep raw samples by themselves, as users write them."""

from __future__ import annotations

from typing import Any

import torch
from avalanche.training import Naive
from avalanche.training.plugins import ReplayPlugin, SupervisedPlugin
from torch import nn


class MyReplay(ReplayPlugin):
    """Derived from Avalanche's; keeps raw batches besides."""

    def __init__(self, mem_size: int = 12) -> None:
        super().__init__(mem_size=mem_size)
        self.x: list[Any] = []
        self.y: list[Any] = []

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        self.x.append(strategy.mb_x.clone())
        self.y.append(strategy.mb_y.clone())


class ForgettingReplay(MyReplay):
    """Removes the batches with a class that was asked for."""

    def __init__(self, unwanted: int, mem_size: int = 12) -> None:
        super().__init__(mem_size)
        self.unwanted, self.told = unwanted, list[frozenset[str]]()

    def forget(self, strategy: Any, sample_ids: frozenset[str]) -> None:
        self.told.append(sample_ids)
        kept = [(x[y != self.unwanted], y[y != self.unwanted]) for x, y in zip(self.x, self.y, strict=True)]
        self.x, self.y = [x for x, _ in kept], [y for _, y in kept]


class Hoard(SupervisedPlugin):
    """Keeps the inputs of the last batches."""

    def __init__(self) -> None:
        super().__init__()
        self.xs: list[Any] = []

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        self.xs = [*self.xs, strategy.mb_x.clone()][-50:]


class Mine(Naive):
    """A strategy with a list of (input, label) pairs of its own, that it trains on."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.mem: list[Any] = []

    def _after_training_exp(self, **kwargs: Any) -> None:
        super()._after_training_exp(**kwargs)
        dataset = self.experience.dataset
        self.mem += [dataset[row][:2] for row in range(min(20, len(dataset)))]

    def criterion(self) -> Any:
        loss = super().criterion()
        if self.is_training and self.mem:
            inputs = torch.stack([x for x, _ in self.mem])
            loss = loss + nn.functional.cross_entropy(self.model(inputs), torch.tensor([int(y) for _, y in self.mem]))
        return loss


class Careful(Mine):
    """Forgets what it is told to forget."""

    def forget(self, sample_ids: frozenset[str]) -> None:
        self.mem = []


class Early(Naive):
    """Stores the samples of a forget experience when its data sets are adapted, which is after the commit."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.mem: list[Any] = []

    def _after_train_dataset_adaptation(self, **kwargs: Any) -> None:
        super()._after_train_dataset_adaptation(**kwargs)
        if hasattr(self.experience, "request"):
            self.mem += [item[:2] for item in self.experience.dataset]
