"""Watched strategies with the plug-in for unlearning, quick settings for it, and a plug-in that looks for forgotten samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from avalanche.benchmarks import CLScenario, benchmark_from_datasets
from avalanche.core import SupervisedPlugin as Callbacks
from avalanche.training.plugins import SupervisedPlugin
from torch import nn
from watched_strategies import OTHERS, OTHERS_WITH_TASKS, REPLAYING, made_benchmark, made_dataset

from fed_unlearn.avalanche.plugin import UnlearningPlugin
from fed_unlearn.avalanche.plugin.memory.buffers import buffered
from fed_unlearn.avalanche.streams import forget_benchmark
from fed_unlearn.avalanche.streams.samples import sample_ids
from fed_unlearn.gate import Gate, Thresholds
from fed_unlearn.local import LocalPlan
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.training import TrainingSettings

_ALL_PASS = Thresholds(max_forget_accuracy=None, max_retain_drop=None, max_total_retain_drop=None)
OPEN_GATE = Gate(
    class_thresholds=_ALL_PASS,
    sample_thresholds=_ALL_PASS,
    client_thresholds=_ALL_PASS,
    indistinguishable_thresholds=_ALL_PASS,
)
_NONE_PASSES = Thresholds(max_forget_accuracy=0.0, max_retain_drop=0.0, max_total_retain_drop=0.0)
CLOSED_GATE = Gate(class_thresholds=_NONE_PASSES, sample_thresholds=_NONE_PASSES, max_repair_rounds=0, max_attempts=1)
"""Accepts nothing of QUICK, which is too gentle to forget."""

QUICK = LocalPlan(
    parameters={"boundary-shrink": {"epochs": 1, "learning_rate": 0.01}, "instance-wise": {"max_steps": 3}},
    repair=TrainingSettings(local_epochs=1, learning_rate=0.01, momentum=0.0, batch_size=16),
    repair_rounds=1,
    max_steps=1,
    escalation={},
)
FORGETTING = LocalPlan(
    parameters={"boundary-shrink": {"epochs": 20, "learning_rate": 0.1}, "instance-wise": {"max_steps": 200}},
    repair=TrainingSettings(local_epochs=1, learning_rate=0.01, momentum=0.0, batch_size=16),
    repair_rounds=1,
    escalation={},
)

EVERY_KIND: dict[str, Callable[[], Any]] = {**REPLAYING, **OTHERS, **OTHERS_WITH_TASKS}


_WITHIN_AN_ITERATION = ("before_forward", "after_forward", "before_backward", "after_backward", "before_update")
"""The model of these strategies notes what it is trained on by itself."""


class Watcher(SupervisedPlugin):
    """Notes every event, and every forgotten sample that is kept or trained on at one; to be the last of all plug-ins."""

    def __init__(self, plugin: UnlearningPlugin) -> None:
        super().__init__()
        self.plugin = plugin
        self.events: list[tuple[str, str]] = []
        self.leaks: list[tuple[str, str]] = []

    def forget(self, strategy: Any, forgotten: frozenset[str]) -> None:
        """It keeps none."""

    def names(self, *without: str) -> list[str]:
        return [event for event, _ in self.events if event not in without]

    def note(self, event: str, strategy: Any) -> None:
        experience = strategy.experience
        self.events.append((event, type(experience).__name__))
        if event in _WITHIN_AN_ITERATION:
            return
        datasets = list(buffered(strategy))
        if strategy.is_training:
            datasets += [strategy.adapted_dataset] if strategy.adapted_dataset is not None else []
            if experience is not None and "unlearning" not in event and event != "after_training":
                datasets.append(experience.dataset)
        held = {name for dataset in datasets for name in (sample_ids(dataset) if len(dataset) else ())}
        if strategy.is_training and strategy.mbatch is not None:
            held.update(str(index) for index in (strategy.mbatch[0][:, 0, 0, 0] * 1000).round().int().tolist())
        self.leaks.extend((event, name) for name in sorted(held & self.plugin.forgotten))


def _noting(event: str) -> Callable[..., None]:
    return lambda self, strategy, **options: self.note(event, strategy)


for _event in [name for name in dir(Callbacks) if name.startswith(("before_", "after_"))]:
    setattr(Watcher, _event, _noting(_event))


class Told(Watcher):
    """Is told of forget experiences too."""


for _event in ("before_unlearning_exp", "after_unlearning_exp"):
    setattr(Told, _event, _noting(_event))


def plugged(strategy: Any, **options: Any) -> tuple[Any, UnlearningPlugin, Told]:
    """A strategy with the plug-in, in its usual place, and a watcher behind all others."""
    options.setdefault("plan", QUICK)
    options.setdefault("gate", OPEN_GATE)
    plugin = UnlearningPlugin(**options)
    watcher = Told(plugin)
    strategy.plugins.insert(0, plugin)
    strategy.plugins.append(watcher)
    return strategy, plugin, watcher


def scenario_of(kind: str, requests: Any, **options: Any) -> Any:
    """Three experiences: ``ci`` and ``nc`` with two classes each, ``ni`` with all six in each."""
    return forget_benchmark(new_instances() if kind == "ni" else made_benchmark(kind), requests, **options)


def new_instances() -> CLScenario:
    """Samples 0 to 17 (three of each class), 18 to 35, 36 to 59."""
    train = made_dataset()
    parts = [train.subset(range(start, end)) for start, end in ((0, 18), (18, 36), (36, 60))]
    return benchmark_from_datasets(train=parts, test=[made_dataset(12, 60, "test:")])


def state_of(model: nn.Module) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in model.state_dict().items()}


CLASS_0 = ForgetRequest.for_class(0)
