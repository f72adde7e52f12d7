"""Measures the cost of the unlearning plug-in without requests: an epoch with it over the same epoch without it.

python -m fed_unlearn.simulations.avalanche_overhead
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from avalanche.benchmarks import benchmark_from_datasets
from avalanche.training import Naive, Replay
from avalanche.training.plugins import EvaluationPlugin
from torch.nn import CrossEntropyLoss

from fed_unlearn.avalanche import UnlearningPlugin, as_avalanche_dataset, forget_benchmark
from fed_unlearn.data.images import ImageSet
from fed_unlearn.models import build_model
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.seeding import isolated_random, seeded_generator

STRATEGIES: dict[str, Callable[..., Any]] = {"naive": Naive, "replay": Replay}

EPOCHS = 5
"""Epochs of one training call. The times of single epochs vary by a tenth."""


def ratios(name: str, samples: int = 5000, alternations: int = 5) -> list[float]:
    """Return the processor time of training calls with the plug-in, divided by that of calls without it.

    Parameters
    ----------
    name : str
        Name of a strategy of ``STRATEGIES``.
    samples : int
        Number of samples of 8 x 8 pixels in one experience.
    alternations : int
        Number of calls with and without the plug-in, made in turn after one call of each that is not measured.

    Returns
    -------
    list of float
        Ratios, one for each alternation.
    """
    seconds: dict[bool, list[float]] = {False: [], True: []}
    sides = {plugged: _training(name, samples, plugged) for plugged in (False, True)}
    with isolated_random(0):
        for number in range(alternations + 1):
            for plugged in (False, True) if number % 2 else (True, False):
                started = time.process_time()
                sides[plugged]()
                seconds[plugged].append(time.process_time() - started)
    return [with_it / without for with_it, without in zip(seconds[True][1:], seconds[False][1:], strict=True)]


def _training(name: str, samples: int, plugged: bool) -> Callable[[], None]:
    """Return a function that trains on the next of twelve experiences: the same samples under other ids."""
    generator = seeded_generator("overhead")
    images = torch.rand(samples, 1, 8, 8, generator=generator)
    labels = torch.randint(10, (samples,), generator=generator)
    parts = [
        as_avalanche_dataset(ImageSet(images, labels, [f"{number}-{index}" for index in range(samples)]))
        for number in range(12)
    ]
    scenario = forget_benchmark(benchmark_from_datasets(train=parts, test=parts[:1]), {12: ForgetRequest.for_class(0)})
    model = build_model("small-cnn", class_count=10, image_shape=(1, 8, 8))
    strategy = STRATEGIES[name](
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.01),
        criterion=CrossEntropyLoss(),
        train_mb_size=32,
        train_epochs=EPOCHS,
        plugins=[UnlearningPlugin()] if plugged else [],
        evaluator=EvaluationPlugin(loggers=[]),
    )
    experiences = iter(scenario.train_stream)
    return lambda: strategy.train(next(experiences), eval_streams=[]) and None


def main() -> None:
    """Run the script from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--alternations", type=int, choices=range(1, 12), default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.captureWarnings(True)  # Avalanche warns at every experience of its own deprecated functions
    for name in STRATEGIES:
        measured = ratios(name, alternations=options.alternations)
        shown = ", ".join(f"{ratio:.3f}" for ratio in sorted(measured))
        print(f"{name}: an epoch of 5,000 samples takes {median(measured):.3f} times as long with it ({shown})")


if __name__ == "__main__":
    main()
