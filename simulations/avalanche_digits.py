"""Learns five experiences of handwritten digits with Avalanche and forgets four requests in between.

    python -m fed_unlearn.simulations.avalanche_digits --strategy replay

:mod:`fed_unlearn.simulations.avalanche_digits_federated` does the same with the same samples at five clients.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from avalanche.benchmarks import class_incremental_benchmark
from avalanche.benchmarks.scenarios import CLScenario
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.logging import TensorboardLogger, TextLogger
from avalanche.training import DER, EWC, GDumb, LwF, Naive, Replay, SynapticIntelligence
from avalanche.training.plugins import EvaluationPlugin
from torch.nn import CrossEntropyLoss

from fed_unlearn.avalanche import ForgetExperience, UnlearningPlugin, forget_benchmark, forget_metrics, interleave
from fed_unlearn.avalanche.compat import mend_synaptic_intelligence, with_one_task
from fed_unlearn.avalanche.plugin.memory.buffers import buffered
from fed_unlearn.avalanche.streams.benchmarks import new_instances
from fed_unlearn.avalanche.streams.reading import as_samples
from fed_unlearn.avalanche.streams.samples import as_avalanche_dataset, sample_ids
from fed_unlearn.data.clients import client_data
from fed_unlearn.data.images import ImageSet
from fed_unlearn.data.sources import load_source
from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.gate import Gate, Thresholds
from fed_unlearn.local import LocalPlan
from fed_unlearn.logits import predict_logits
from fed_unlearn.models import build_model
from fed_unlearn.plan import Repair
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.seeding import derive_seed, isolated_random

CLIENTS = 5
"""Number of clients of the federated twin. Their training samples together are the samples of this script."""

REQUESTS = {
    2: ForgetRequest.for_class(1, id="class-1"),
    3: ForgetRequest.for_class(4, id="class-4"),
    4: ForgetRequest.for_class(7, id="class-7"),
    5: ForgetRequest.for_samples("3", count=4, id="samples"),
}
"""Requests by the number of training experiences that come before them."""

STRATEGIES: dict[str, tuple[type[Any], dict[str, float]]] = {
    "naive": (Naive, {}),
    "replay": (Replay, {"mem_size": 200}),
    "ewc": (EWC, {"ewc_lambda": 100.0}),
    "si": (SynapticIntelligence, {"si_lambda": 1.0}),
    "lwf": (LwF, {"alpha": 1.0, "temperature": 2.0}),
    "der": (DER, {"mem_size": 200}),
    "gdumb": (GDumb, {"mem_size": 200}),
}
"""Strategies by name, each with its settings."""

TASK_AWARE = frozenset({"lwf", "der"})
"""Strategies that need task labels. Their experiences are of one task."""

PLAN = LocalPlan(
    parameters={
        "boundary-shrink": {"trained_layers": 0, "learning_rate": 0.005, "epochs": 5},
        # Small steps, since there are few samples to keep.
        "instance-wise": {"joint_weight": 0.01, "consolidation_steps": 400, "max_steps": 1000},
    },
    repair=Repair(rounds=2, config={"local-epochs": 4, "learning-rate": 0.01, "momentum": 0.9, "batch-size": 32}),
)
GATE = Gate(
    class_thresholds=Thresholds(max_forget_accuracy=0.0, max_retain_drop=0.02, max_total_retain_drop=None),
    sample_thresholds=Thresholds(max_forget_accuracy=0.0, max_retain_drop=0.05, max_total_retain_drop=None),
)


def benchmark(train: AvalancheDataset, test: AvalancheDataset) -> CLScenario:
    """Return a benchmark of two classes per experience, in order. The scenario of the federated twin names it, too."""
    streams = {"train": train, "test": test}
    return class_incremental_benchmark(streams, num_experiences=5, class_order=list(range(10)))


@dataclass(frozen=True)
class Parts:
    """The samples of all clients of the twin.

    Attributes
    ----------
    train, validation, test : ImageSet
        Samples of all clients together.
    clients : dict of str to tuple of str
        Ids of the training samples of each client.
    """

    train: ImageSet
    validation: ImageSet
    test: ImageSet
    clients: dict[str, tuple[str, ...]]

    @classmethod
    def of(cls, seed: int) -> Parts:
        """Divide the digits like the twin with the same seed."""
        digits = load_source("digits")
        held = [client_data(digits, client, CLIENTS, validation_fraction=0.15, seed=seed) for client in range(CLIENTS)]
        return cls(
            train=digits.train.only([sample_id for client in held for sample_id in client.train.ids]),
            validation=digits.train.only([sample_id for client in held for sample_id in client.validation.ids]),
            test=digits.test,
            clients={str(number): client.train.ids for number, client in enumerate(held)},
        )

    def scenario(self, seed: int, stream: str = "class-incremental", *, task_labels: bool = False) -> CLScenario:
        """Return the benchmark with its forget stream, and with task label 0 on all samples if asked."""
        train, test = as_avalanche_dataset(self.train), as_avalanche_dataset(self.test)
        if stream == "class-incremental":
            learning = benchmark(train, test)
        else:
            learning = new_instances(train, test, experiences=5, seed=seed)
        if task_labels:
            learning = with_one_task(learning)
        return forget_benchmark(learning, REQUESTS, clients=self.clients, seed=seed)


@dataclass(frozen=True)
class Row:
    """The state after an event.

    Attributes
    ----------
    event : str
        Name of the experience or request.
    forget : dict of str to float
        Top-1 on the forget set of each request so far, in [0, 1].
    retained : float
        Top-1 on test samples of classes that have arrived and are not forgotten, in [0, 1].
    buffered : int
        Number of forgotten samples in the strategy's buffers.
    """

    event: str
    forget: Mapping[str, float]
    retained: float
    buffered: int = 0


def run(
    name: str,
    seed: int,
    *,
    stream: str = "class-incremental",
    with_requests: bool = True,
    loggers: Sequence[Any] = (),
) -> list[Row]:
    """Train on the experiences and serve the requests in between.

    Parameters
    ----------
    name : str
        Name of a strategy of ``STRATEGIES``.
    seed : int
        Seed of the whole run.
    stream : {"class-incremental", "new-instances"}
        Whether an experience brings two classes, or a fifth of the samples of all classes.
    with_requests : bool
        Whether requests are served. The same figures are measured without.
    loggers : sequence
        Loggers of Avalanche.

    Returns
    -------
    list of Row
        Rows, one for each experience and request.
    """
    parts = Parts.of(seed)
    unlearning = UnlearningPlugin(plan=PLAN, gate=GATE, retain="memory", validation=parts.validation, seed=seed)
    model = build_model("small-cnn", class_count=10, image_shape=parts.train.image_shape, seed=seed)
    strategy_class, settings = STRATEGIES[name]
    if strategy_class is SynapticIntelligence:
        mend_synaptic_intelligence()
    strategy = strategy_class(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9),
        criterion=CrossEntropyLoss(),
        train_mb_size=32,
        train_epochs=20,
        plugins=[unlearning] if with_requests else [],
        evaluator=EvaluationPlugin(accuracy_metrics(epoch=True, stream=True), forget_metrics(), loggers=list(loggers)),
        **settings,
    )
    rows: list[Row] = []
    arrived: set[int] = set()
    asked: list[ForgetExperience] = []
    with isolated_random(derive_seed(seed, "avalanche-digits")):
        for experience in interleave(parts.scenario(seed, stream, task_labels=name in TASK_AWARE)):
            if isinstance(experience, ForgetExperience):
                asked.append(experience)
                event = str(experience.request.id)
                if with_requests:
                    strategy.train(experience)
            else:
                arrived |= set(experience.classes_in_this_experience)
                event = f"experience {experience.current_experience + 1}"
                strategy.train(experience)
            rows.append(_row(event, strategy, asked, arrived, parts.test))
    return rows


def _row(event: str, strategy: Any, asked: list[ForgetExperience], arrived: set[int], test: ImageSet) -> Row:
    forgotten = {class_id for item in asked for class_id in getattr(item.request.scope, "classes", ())}
    held = {sample_id for dataset in buffered(strategy) for sample_id in sample_ids(dataset)}
    forget = {str(item.request.id): _accuracy(strategy.model, item.dataset) for item in asked}
    gone = {sample_id for item in asked for sample_id in item.sample_ids}
    return Row(event, forget, _accuracy(strategy.model, test.of_classes(arrived - forgotten)), len(held & gone))


def _accuracy(model: torch.nn.Module, samples: Any) -> float:
    images = samples if isinstance(samples, ImageSet) else as_samples(samples)
    return float((predict_logits(model, images).argmax(1) == images.labels).float().mean())


def main() -> None:
    """Run the script from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strategy", choices=STRATEGIES, default="replay")
    parser.add_argument("--stream", choices=("class-incremental", "new-instances"), default="class-incremental")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--logs", type=Path, help="a folder for Avalanche's loggers: log.txt and TensorBoard's events")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.captureWarnings(True)  # Avalanche warns at every experience of its own deprecated functions
    with ExitStack() as stack:
        loggers: list[Any] = []
        if options.logs:
            options.logs.mkdir(parents=True, exist_ok=True)
            text = stack.enter_context((options.logs / "log.txt").open("w"))
            loggers = [TextLogger(text), TensorboardLogger(options.logs / "tensorboard")]
        rows = run(options.strategy, options.seed, stream=options.stream, loggers=loggers)
    others = run(options.strategy, options.seed, stream=options.stream, with_requests=False)
    print_table(list(rows[-1].forget), rows, [f"{other.retained:.3f}" for other in others])


def print_table(requests: Sequence[str], rows: Sequence[Row], without_requests: Sequence[str] = ()) -> None:
    """Print the states after all events, beside the retained accuracies of a run without requests if given."""
    print(f"{'':14}{'forget accuracy':40}retained test accuracy")
    last = f"{'':10}without requests" if without_requests else ""
    print(f"{'after':14}" + "".join(f"{name:10}" for name in requests) + last)
    for row, other in zip(rows, without_requests or [""] * len(rows), strict=True):
        shown = "".join(f"{row.forget[name]:<10.3f}" if name in row.forget else " " * 10 for name in requests)
        print(f"{row.event:14}{shown}{row.retained:<10.3f}{other}".rstrip())


if __name__ == "__main__":
    try:
        main()
    except FedUnlearnError as error:
        sys.exit(f"error: {error}")
