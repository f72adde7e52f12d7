"""Avalanche's strategies on real digits, each with a small network that learns them in three experiences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import avalanche.training as training
import avalanche.training.supervised as supervised
import torch
from avalanche.benchmarks import nc_benchmark, ni_benchmark
from avalanche.benchmarks.utils import as_classification_dataset
from avalanche.models import IncrementalClassifier
from avalanche.models.base_model import BaseModel
from avalanche.training.losses import MaskedCrossEntropy
from avalanche.training.plugins import EvaluationPlugin
from digit_stream import CLASSES, digits
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from fed_unlearn.avalanche.streams.samples import as_avalanche_dataset
from fed_unlearn.seeding import isolated_random


class DigitNetwork(nn.Module, BaseModel):
    """One hidden layer. The head has a row for each class, or grows as classes arrive."""

    def __init__(self, growing: bool = False) -> None:
        super().__init__()
        self.feature_extractor = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU())
        self.classifier = IncrementalClassifier(32) if growing else nn.Linear(32, CLASSES)

    def get_features(self, images: Tensor) -> Tensor:
        return self.feature_extractor(images)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.feature_extractor(images))


def digit_network(growing: bool = False) -> DigitNetwork:
    with isolated_random(0):
        return DigitNetwork(growing)


def plain_digits(transform: Any = None) -> tuple[Any, Any]:
    """The digits as a user's data sets are: without sample ids. The transformation is for training alone."""
    made = []
    for images in digits():
        samples = TensorDataset(images.images, images.labels)
        samples.targets = images.labels.tolist()
        groups = {"train": (transform, None), "eval": (None, None)}
        made.append(as_classification_dataset(samples, transform_groups=groups))
    return made[0], made[1]


def digit_benchmark(kind: str, data: Any = None, *, task_labels: bool = False) -> Any:
    """Three experiences of two classes each (``nc``), or of all six in each (``ni``). With ``task_labels`` each of the
    former is a task; otherwise all are task 0."""
    train, test = data or (as_avalanche_dataset(images) for images in digits())
    if kind == "nc":
        return nc_benchmark(
            train, test, n_experiences=3, task_labels=task_labels, fixed_class_order=list(range(CLASSES))
        )
    return ni_benchmark(train, test, n_experiences=3, seed=0, balance_experiences=True)


def on_digits(kind: Callable[..., Any], *given: Any, model: nn.Module | None = None, **options: Any) -> Any:
    network = digit_network() if model is None else model
    options.setdefault("optimizer", torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9))
    settings = {"criterion": nn.CrossEntropyLoss(), "train_mb_size": 8, "train_epochs": 10, **options}
    return kind(model=network, eval_mb_size=64, plugins=list(given), evaluator=EvaluationPlugin(loggers=[]), **settings)


def _er_aml() -> Any:
    model = digit_network()
    options = {"feature_extractor": model.feature_extractor, "mem_size": 36, "batch_size_mem": 8, "train_mb_size": 4}
    return on_digits(training.ER_AML, model=model, **options)


def _masked(mask: str) -> Any:
    return on_digits(training.Replay, mem_size=36, criterion=MaskedCrossEntropy(mask=mask))


SERVED: dict[str, Callable[[], Any]] = {
    "agem": lambda: on_digits(training.AGEM, patterns_per_exp=12, sample_size=12),
    "der": lambda: on_digits(training.DER, mem_size=36, batch_size_mem=8),
    "er-ace": lambda: on_digits(training.ER_ACE, mem_size=36, batch_size_mem=8),
    "er-aml": _er_aml,
    "ewc-online": lambda: on_digits(training.EWC, ewc_lambda=1.0, mode="online", decay_factor=0.5),
    "gdumb": lambda: on_digits(training.GDumb, mem_size=36, train_epochs=20),
    "lfl": lambda: on_digits(training.LFL, lambda_e=0.1),
    "lwf": lambda: on_digits(training.LwF, alpha=1.0, temperature=2.0),
    "mas": lambda: on_digits(training.MAS, lambda_reg=0.1),
    "masked-seen": lambda: _masked("seen"),
    "masked-all": lambda: _masked("all"),
    "mir": lambda: on_digits(training.MIR, mem_size=36, subsample=18, batch_size_mem=8),
    "si": lambda: on_digits(training.SynapticIntelligence, si_lambda=1.0),
    "replay-growing": lambda: on_digits(training.Replay, model=digit_network(growing=True), mem_size=36),
    "cumulative": lambda: on_digits(supervised.Cumulative),
}
"""Strategies that are served."""
