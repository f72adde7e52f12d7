"""Forget experiences have what training experiences have, and Avalanche's metrics and loggers take them."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from avalanche.benchmarks import class_incremental_benchmark, nc_benchmark, ni_benchmark, tensors_benchmark
from avalanche.evaluation.metrics import (
    accuracy_metrics,
    bwt_metrics,
    confusion_matrix_metrics,
    forgetting_metrics,
    loss_metrics,
    timing_metrics,
)
from avalanche.logging import CSVLogger, InteractiveLogger, TensorboardLogger, TextLogger
from avalanche.training import Naive
from avalanche.training.plugins import EvaluationPlugin
from plugged_strategies import plugged
from watched_strategies import CLASSES, made, made_dataset

from fed_unlearn.avalanche.metrics import forget_metrics
from fed_unlearn.avalanche.streams import forget_benchmark
from fed_unlearn.avalanche.streams.order import interleave
from fed_unlearn.requests import ForgetRequest

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("seeded")]
ORDER = [5, 3, 1, 0, 2, 4]


def benchmark(kind: str) -> Any:
    train, test = made_dataset(named=False), made_dataset(12, 60, named=False)
    if kind == "nc":
        return nc_benchmark(train, test, 3, False, fixed_class_order=ORDER)
    if kind == "nc-tasks":
        return nc_benchmark(train, test, 3, True, fixed_class_order=ORDER)
    if kind == "ni":
        return ni_benchmark(train, test, 3, seed=1)
    if kind == "ci":
        return class_incremental_benchmark({"train": train, "test": test}, num_experiences=3, class_order=ORDER)
    parts = [tensors_of(made_dataset(), range(start, start + 20)) for start in (0, 20, 40)]
    return tensors_benchmark(
        train_tensors=parts,
        test_tensors=[tensors_of(test, range(12))],
        task_labels=[0, 0, 0],
        complete_test_set_only=True,
    )


def tensors_of(dataset: Any, rows: range) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.stack([dataset[row][0] for row in rows]), torch.tensor([dataset[row][1] for row in rows])


KINDS = ["nc", "nc-tasks", "ni", "ci", "tensors"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_forget_experience_has_what_training_experiences_have(kind: str) -> None:
    scenario = forget_benchmark(
        benchmark(kind), {1: ForgetRequest.for_class(5), 2: ForgetRequest.for_samples("0", count=4)}
    )
    trained = scenario.train_stream[1]
    for experience in scenario.forget_stream:
        labels = {int(label) for label in experience.dataset.targets}
        assert set(experience.classes_in_this_experience) == labels
        assert type(experience.classes_in_this_experience) is type(trained.classes_in_this_experience)
        assert experience.origin_stream is scenario.forget_stream
        assert experience.benchmark is getattr(trained, "benchmark", scenario)
        assert hasattr(experience, "task_labels") == hasattr(trained, "task_labels") == (kind != "ci")
        if kind != "ci":
            tasks = sorted({int(item[-1]) for item in experience.dataset})
            assert experience.task_labels == tasks
            assert len(tasks) > 1 or experience.task_label == tasks[0]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda item: pickle.loads(pickle.dumps(item))])
def test_a_copied_forget_experience_has_a_benchmark(copied: Any) -> None:
    experience = copied(forget_benchmark(benchmark("ci"), {1: ForgetRequest.for_class(5)}).forget_stream[0])
    assert experience.benchmark is experience.origin_stream.benchmark
    assert list(experience.benchmark.streams) == ["train", "test", "forget"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_metric_and_logger_takes_the_forget_stream(kind: str, tmp_path: Path) -> None:
    scenario = forget_benchmark(benchmark(kind), {1: ForgetRequest.for_class(5), 3: ForgetRequest.for_class(1)})
    with (tmp_path / "log.txt").open("w") as file:
        evaluator = EvaluationPlugin(
            accuracy_metrics(minibatch=True, epoch=True, experience=True, stream=True),
            loss_metrics(epoch=True, experience=True),
            forgetting_metrics(experience=True, stream=True),
            bwt_metrics(experience=True),
            confusion_matrix_metrics(num_classes=CLASSES, stream=True),
            timing_metrics(epoch=True),
            forget_metrics(),
            loggers=[
                InteractiveLogger(),
                TextLogger(file),
                CSVLogger(str(tmp_path / "csv")),
                TensorboardLogger(tmp_path / "tensorboard"),
            ],
        )
        strategy, _, _ = plugged(made(Naive, evaluator=evaluator))
        for experience in interleave(scenario):
            strategy.train(experience)
        found = strategy.eval(scenario.forget_stream)
        evaluator.loggers[-1].writer.close()
    [matrix] = [value for name, value in found.items() if name.startswith("ConfusionMatrix_Stream/eval_phase/forget")]
    counts = torch.zeros(CLASSES, CLASSES)
    strategy.model.eval()
    for experience in scenario.forget_stream:
        for item in experience.dataset.eval():
            counts[item[1], strategy.model(item[0][None]).argmax()] += 1
    assert torch.equal(matrix.best_supported_value(torch.Tensor).float(), counts)
    assert counts.sum() == sum(len(experience.dataset) for experience in scenario.forget_stream) > 0
