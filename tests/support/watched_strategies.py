"""Avalanche's strategies on 60 tiny images whose first pixel tells their index, with a model that notes what it is trained on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import avalanche.training as training
import avalanche.training.supervised as supervised
import torch
from avalanche.benchmarks import CLScenario, class_incremental_benchmark, nc_benchmark
from avalanche.benchmarks.utils import AvalancheDataset, as_classification_dataset
from avalanche.training import plugins
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.storage_policy import (
    ClassBalancedBuffer,
    ExperienceBalancedBuffer,
    HerdingSelectionStrategy,
    ParametricBuffer,
    ReservoirSamplingBuffer,
)
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from fed_unlearn.avalanche.streams.samples import with_sample_ids

SIZE = 60
CLASSES = 6
TEST_SIZE = 12


class Watched(nn.Module):
    """A small network; ``trained_on`` holds the indices of the samples that were in its training batches."""

    def __init__(self) -> None:
        super().__init__()
        self.features_of = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh())
        self.head = nn.Linear(8, CLASSES)
        self.trained_on: set[int] = set()

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            self.trained_on.update((images[:, 0, 0, 0] * 1000).round().int().tolist())
        return self.head(self.features_of(images))


def watched_model() -> Watched:
    model = Watched()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 4)
    return model


def made_dataset(size: int = SIZE, first: int = 0, prefix: str = "", named: bool = True) -> AvalancheDataset:
    """Sample ``i`` has class ``i % 6``, its index in the first pixel and, where wanted, its index as id."""
    images = torch.rand(size, 1, 8, 8, generator=torch.Generator().manual_seed(first))
    images[:, 0, 0, 0] = torch.arange(first, first + size) / 1000
    samples = TensorDataset(images, torch.arange(size) % CLASSES)
    samples.targets = (torch.arange(size) % CLASSES).tolist()
    dataset = as_classification_dataset(samples)
    return with_sample_ids(dataset, [f"{prefix}{first + i}" for i in range(size)]) if named else dataset


def made_benchmark(kind: str, named: bool = True) -> CLScenario:
    """Three experiences of two classes each: old-style with task labels (``nc``) or new-style without (``ci``)."""
    train = made_dataset(named=named)
    test = made_dataset(TEST_SIZE, SIZE, "test:", named)
    if kind == "nc":
        return nc_benchmark(train, test, n_experiences=3, task_labels=False, fixed_class_order=list(range(CLASSES)))
    return class_incremental_benchmark(
        {"train": train, "test": test}, num_experiences=3, class_order=list(range(CLASSES))
    )


def made(kind: Callable[..., Any], model: nn.Module | None = None, **options: Any) -> Any:
    """A strategy over a watched model."""
    network = watched_model() if model is None else model
    options.setdefault("optimizer", torch.optim.SGD(network.parameters(), lr=0.1))
    options.setdefault("evaluator", EvaluationPlugin(loggers=[]))
    return kind(model=network, criterion=nn.CrossEntropyLoss(), train_mb_size=8, eval_mb_size=20, **options)


def naive_with(*given: Any) -> Any:
    return made(training.Naive, plugins=list(given))


def replay_with(policy: Any) -> Any:
    return naive_with(plugins.ReplayPlugin(policy.max_size, storage_policy=policy))


def _herding() -> Any:
    model = watched_model()
    policy = ParametricBuffer(18, groupby="class", selection_strategy=HerdingSelectionStrategy(model, "features_of"))
    return made(training.Naive, model, plugins=[plugins.ReplayPlugin(18, storage_policy=policy)])


REPLAYING: dict[str, Callable[[], Any]] = {
    "replay": lambda: made(training.Replay, mem_size=18),
    "replay-fixed": lambda: replay_with(ExperienceBalancedBuffer(18, adaptive_size=False, num_experiences=3)),
    "replay-reservoir": lambda: replay_with(ReservoirSamplingBuffer(18)),
    "replay-parametric": lambda: replay_with(ParametricBuffer(18)),
    "replay-by-experience": lambda: replay_with(ParametricBuffer(18, groupby="experience")),
    "agem": lambda: naive_with(plugins.AGEMPlugin(patterns_per_experience=6, sample_size=6)),
    "mir": lambda: naive_with(plugins.MIRPlugin(batch_size_mem=2, mem_size=18, subsample=9)),
    "rar": lambda: naive_with(plugins.RARPlugin(4, mem_size=18, use_adversarial_replay=False)),
    "gdumb": lambda: made(training.GDumb, mem_size=18),
    "cumulative": lambda: made(supervised.Cumulative),
}
"""Strategies that keep samples and run with and without task labels."""

REPLAYING_WITH_TASKS: dict[str, Callable[[], Any]] = {
    "replay-by-class": lambda: replay_with(ClassBalancedBuffer(18)),
    "replay-parametric-by-class": lambda: replay_with(ParametricBuffer(18, groupby="class")),
    "replay-herding": _herding,
    "replay-task-balanced": lambda: naive_with(plugins.ReplayPlugin(18, task_balanced_dataloader=True)),
}
"""Strategies that keep samples and run only with task labels."""

OTHERS: dict[str, Callable[[], Any]] = {
    "naive": lambda: made(training.Naive),
    "ewc": lambda: made(training.EWC, ewc_lambda=1.0),
    "ewc-online": lambda: made(training.EWC, ewc_lambda=1.0, mode="online", decay_factor=0.5),
    "si": lambda: made(training.SynapticIntelligence, si_lambda=1.0),
    "mas": lambda: made(training.MAS),
    "from-scratch": lambda: made(training.FromScratchTraining),
}
"""Strategies that keep no samples and run with and without task labels."""

OTHERS_WITH_TASKS: dict[str, Callable[[], Any]] = {"lwf": lambda: made(training.LwF, alpha=1.0, temperature=2.0)}
