"""A strategy with a plug-in that has nothing to do trains as it does without one: weights, optimizer and generators."""

import random
from collections.abc import Callable
from typing import Any

import avalanche.training as training
import avalanche.training.supervised as supervised
import numpy as np
import pytest
import torch
from avalanche.benchmarks import benchmark_from_datasets, class_incremental_benchmark
from avalanche.benchmarks.utils import AvalancheDataset, DataAttribute
from avalanche.training import plugins
from avalanche.training.supervised.joint_training import JointTraining
from digit_strategies import SERVED, digit_benchmark, digit_network, on_digits, plain_digits
from digit_stream import CLASSES
from torch import Tensor, nn
from torch.utils.data import TensorDataset
from torchvision.transforms import RandomCrop

from fed_unlearn.avalanche import UnlearningPlugin, forget_benchmark
from fed_unlearn.errors import InvalidDataError
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.seeding import isolated_globals

pytestmark = pytest.mark.filterwarnings("ignore")


def digit_plugin(kind: Callable[..., Any], *args: Any, **options: Any) -> Any:
    return on_digits(training.Naive, kind(*args, **options))


def _icarl() -> Any:
    network = digit_network()
    return supervised.ICaRL(
        feature_extractor=network.feature_extractor,
        classifier=network.classifier,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        memory_size=24,
        buffer_transform=None,
        fixed_memory=True,
        train_mb_size=8,
        eval_mb_size=64,
        evaluator=plugins.EvaluationPlugin(loggers=[]),
    )


IDLE: dict[str, Callable[[], Any]] = {
    **SERVED,
    "naive": lambda: on_digits(training.Naive),
    "ewc": lambda: on_digits(training.EWC, ewc_lambda=1.0),
    "gem": lambda: on_digits(training.GEM, patterns_per_exp=6, memory_strength=0.5),
    "cope": lambda: digit_plugin(plugins.CoPEPlugin, 12, CLASSES, CLASSES, max_it_cnt=2),
    "cwr": lambda: on_digits(training.CWRStar, cwr_layer_name=None),
    "gss": lambda: on_digits(training.GSS_greedy, mem_size=150, mem_strength=2, input_size=[1, 8, 8]),
    "icarl": _icarl,
    "joint": lambda: on_digits(JointTraining),
    "replay": lambda: on_digits(training.Replay, mem_size=36),
    "rwalk": lambda: digit_plugin(plugins.RWalkPlugin),
    "from-scratch": lambda: on_digits(training.FromScratchTraining),
    "rar": lambda: digit_plugin(plugins.RARPlugin, 4, mem_size=18, use_adversarial_replay=False),
}
KINDS = ("named", "as it is", "without task labels")

NO_TASKS = {"naive", "ewc", "replay", "si", "mas", "agem", "gdumb", "cumulative", "from-scratch", "joint", "er-ace"}
"""Those that run on benchmarks without task labels."""


def _benchmark(kind: str) -> Any:
    data = plain_digits(RandomCrop(8, padding=1))
    if kind == "without task labels":
        streams = {"train": data[0], "test": data[1]}
        return class_incremental_benchmark(streams, num_experiences=3, class_order=list(range(CLASSES)))
    benchmark = digit_benchmark("nc", data)
    return forget_benchmark(benchmark, [ForgetRequest.for_class(0)]) if kind == "named" else benchmark


def _digest(value: Any) -> Any:
    """A value in which every tensor is bytes."""
    if isinstance(value, Tensor):
        return value.detach().numpy().tobytes()
    if isinstance(value, dict):
        return {key: _digest(item) for key, item in value.items()}
    return [_digest(item) for item in value] if isinstance(value, list | tuple) else value


def trained(name: str, kind: str, *, plugged: bool) -> dict[str, Any]:
    """All that a training leaves behind: weights, statistics, the optimizer's state, and the global generators."""
    with isolated_globals(0):
        random.seed(0)
        benchmark, strategy = _benchmark(kind), IDLE[name]()
        strategy.train_epochs = 2
        if plugged:
            strategy.plugins.append(UnlearningPlugin())
        parts = [benchmark.train_stream] if name == "joint" else list(benchmark.train_stream)
        for part in parts:
            strategy.train(part)
            results = strategy.eval(benchmark.test_stream)
        return {
            "model": _digest(strategy.model.state_dict()),
            "optimizer": _digest(strategy.optimizer.state_dict()),
            "metrics": {key: value for key, value in results.items() if "Time" not in key},
            "clock": vars(strategy.clock),
            "torch": torch.get_rng_state().tolist(),
            "numpy": np.random.get_state()[1].tolist(),
            "random": random.getstate(),
            "modes": [module.training for module in strategy.model.modules()],
        }


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for name in IDLE for kind in KINDS if kind != "without task labels" or name in NO_TASKS],
)
def test_a_plug_in_without_requests_changes_nothing(name: str, kind: str) -> None:
    alone, plugged = (trained(name, kind, plugged=plugged) for plugged in (False, True))
    for part, value in alone.items():
        assert plugged[part] == value, part
    assert len(set(alone["torch"])) > 1


def test_a_benchmark_without_classes_is_refused_at_the_first_request() -> None:
    base = TensorDataset(torch.rand(6, 1, 8, 8), torch.rand(6, 2))
    targets = DataAttribute([{"box": index} for index in range(6)], "targets")
    dataset = AvalancheDataset([base], data_attributes=[targets])
    strategy = on_digits(training.Naive, UnlearningPlugin(), model=nn.Linear(8, 2))
    [plugin, *_] = strategy.plugins
    strategy.train_epochs = 0
    strategy.train(benchmark_from_datasets(train=[dataset], test=[dataset]).train_stream)
    with pytest.raises(InvalidDataError, match="the labels of a classification benchmark"):
        plugin.unlearn(strategy, ForgetRequest.for_class(0))
