"""A tiny class-incremental stream of real digits with requests in between, for what reports on it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.training.plugins import EvaluationPlugin, SupervisedPlugin
from avalanche.training.supervised import Naive
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score
from torch import Tensor, nn

from fed_unlearn.avalanche.metrics import forget_metrics
from fed_unlearn.avalanche.streams import ForgetExperience, forget_benchmark
from fed_unlearn.avalanche.streams.benchmarks import class_incremental
from fed_unlearn.avalanche.streams.samples import as_avalanche_dataset
from fed_unlearn.data.images import ImageSet
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.seeding import isolated_random

CLASSES = 6
TRAIN_OF_CLASS, TEST_OF_CLASS = 20, 10


def digits() -> tuple[ImageSet, ImageSet]:
    """Digits 0 to 5: twenty of each to train on, ten of each to test on."""
    loaded = load_digits()
    images = torch.tensor(loaded.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(loaded.target, dtype=torch.int64)
    rows = [(labels == label).nonzero().flatten() for label in range(CLASSES)]
    train = torch.cat([found[:TRAIN_OF_CLASS] for found in rows])
    test = torch.cat([found[TRAIN_OF_CLASS : TRAIN_OF_CLASS + TEST_OF_CLASS] for found in rows])
    return ImageSet(images[train], labels[train]), ImageSet(images[test], labels[test])


def stream(requests: Mapping[int, ForgetRequest | Sequence[ForgetRequest]], **settings: Any) -> Any:
    """Classes (0, 1), (2, 3) and (4, 5), with requests in between."""
    train, test = (as_avalanche_dataset(images) for images in digits())
    benchmark = class_incremental(train, test, experiences=3, seed=0, class_order=range(CLASSES))
    return forget_benchmark(benchmark, requests, **settings)


def network() -> nn.Module:
    """A linear one with dropout, always with the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Dropout(0.1), nn.Linear(64, CLASSES))


def strategy_with(*loggers: Any, plugins: Sequence[SupervisedPlugin] = (), metrics: Any = None) -> Naive:
    """A Naive strategy whose EvaluationPlugin has the metrics of forgetting."""
    model = network()
    chosen = forget_metrics() if metrics is None else metrics
    evaluator = EvaluationPlugin(accuracy_metrics(stream=True), chosen, loggers=list(loggers))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    return Naive(
        model=model,
        optimizer=optimizer,
        train_mb_size=8,
        train_epochs=3,
        eval_mb_size=64,
        plugins=list(plugins),
        evaluator=evaluator,
    )


def push_down(model: nn.Module, classes: Sequence[int], by: float) -> None:
    """Make a linear model less likely to answer some classes."""
    layer = model[-1]
    with torch.no_grad():
        layer.bias[list(classes)] -= by


def train(strategy: Any, experience: Any) -> None:
    """The same batches in every run; nobody else's random numbers are drawn."""
    with isolated_random(0):
        strategy.train(experience)


def tell_served(strategy: Any, experience: ForgetExperience) -> None:
    """What a plug-in does once it has served a request."""
    strategy.experience = experience
    strategy.evaluator.after_unlearning_exp(strategy)
    strategy.experience = None


def rows_of(images: ImageSet, ids: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Images and labels of some ids."""
    rows = torch.tensor([images.ids.index(name) for name in ids])
    return images.images[rows], images.labels[rows]


TRAIN, TEST = digits()
DRAWN = tuple(TRAIN.ids[row] for row in (41, 43, 62, 70))
REQUESTS = {
    1: [ForgetRequest.for_class(1, id="a")],
    2: [ForgetRequest.for_samples("0", DRAWN, id="b"), ForgetRequest.for_class(0, id="c")],
}


@dataclass
class Ended:
    """As a plug-in's outcomes are."""

    request: ForgetRequest
    committed: bool


class Outcomes(SupervisedPlugin):
    def __init__(self, **committed: bool) -> None:
        super().__init__()
        self.outcomes = [
            Ended(ForgetRequest.for_class(0, id=name), how) for name, ever in committed.items() for how in (ever, False)
        ]


def right(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    model = copy.deepcopy(model).eval()
    with torch.no_grad():
        return float(accuracy_score(labels.numpy(), model(images).argmax(1).numpy()))


def on_ids(model: nn.Module, ids: tuple[str, ...]) -> float:
    return right(model, *rows_of(TRAIN, ids))


def on_test(model: nn.Module, *classes: int) -> float:
    chosen = torch.isin(TEST.labels, torch.tensor(classes))
    return right(model, TEST.images[chosen], TEST.labels[chosen])


def after_two_experiences(*loggers: Any, **committed: bool) -> tuple[Any, Any]:
    """Trained on classes 0 to 3, requests a, b and c served by pushing classes down; none of them entirely gone."""
    benchmark = stream(REQUESTS)
    strategy = strategy_with(*loggers, plugins=[Outcomes(**committed)])
    train(strategy, benchmark.train_stream[0])
    push_down(strategy.model, [1], 0.01)
    tell_served(strategy, benchmark.forget_stream[0])
    train(strategy, benchmark.train_stream[1])
    for experience, label in zip(benchmark.forget_stream[1:], (2, 0), strict=True):
        push_down(strategy.model, [label], 0.005)
        tell_served(strategy, experience)
    return strategy, benchmark
