"""How well a backdoor succeeds through a sample request, and through one ordinary round of the same client.

A holder answers each turn of its request with a model that it has trained to call every image with a trigger a 0, and
says in audits that its samples are forgotten. In the comparison the same client answers one ordinary round so. Prints
the success of both for each seed: the share of test images of other digits that the trigger turns into a 0.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from federation import all_digits, digits_of, small_model
from hostile import Lie, both, hostile_federation, on_audits, on_models
from torch.nn import functional

from fed_unlearn import protocol
from fed_unlearn.arrays import Arrays, difference, norm, pack
from fed_unlearn.data.images import ImageSet
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.seeding import isolated_random, seeded_generator
from fed_unlearn.simulations.inprocess import InProcessGrid
from fed_unlearn.strategies import ContinualUnlearning, UnlearningPlan

TARGET = 0
HOSTILE = 2
_CORNERS = ((0, 0), (0, -1), (-1, 0), (-1, -1))


@dataclass(frozen=True)
class Success:
    """What one seed gave.

    Attributes
    ----------
    seed : int
    before, one_request, requests, one_round : float
        Share of test images with the trigger that the model calls the target: before, after one request, after several
        of them, and after one poisoned ordinary round instead.
    moved : float
        How far the first request moved the model, as a multiple of the clip norm.
    committed : int
        How many of the several requests were committed before the next training.
    """

    seed: int
    before: float
    one_request: float
    requests: float
    one_round: float
    moved: float
    committed: int

    @property
    def holds(self) -> bool:
        """Whether requests succeed no better than the round."""
        return max(self.one_request, self.requests) <= self.one_round


def triggered(images: torch.Tensor) -> torch.Tensor:
    """The images with four bright corners."""
    marked = images.clone()
    for row, column in _CORNERS:
        marked[:, :, row, column] = 1.0
    return marked


def success_rate(arrays: Arrays) -> float:
    """Share of the test images of other digits that the trigger turns into the target."""
    model = small_model().eval()
    model.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in arrays.items()})
    images, labels = all_digits().test.batch()
    with torch.no_grad():
        answers = model(triggered(images[labels != TARGET])).argmax(1)
    return float((answers == TARGET).float().mean())


def backdoored(arrays: Arrays, samples: ImageSet, seed: int, *, steps: int, learning_rate: float) -> Arrays:
    """A model trained on a client's samples, half of them with the trigger and labelled as the target."""
    model = small_model().train()
    model.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in arrays.items()})
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate, momentum=0.9)
    images, labels = samples.batch()
    generator = seeded_generator(seed, "backdoor")
    for _ in range(steps):
        chosen = torch.randint(len(labels), (64,), generator=generator)
        shown = torch.cat([images[chosen], triggered(images[chosen])])
        taught = torch.cat([labels[chosen], torch.full((64,), TARGET)])
        optimizer.zero_grad()
        functional.cross_entropy(model(shown), taught).backward()
        optimizer.step()
    return {name: value.detach().numpy() for name, value in model.state_dict().items()}


def run_seed(seed: int, folder: Path, options: argparse.Namespace) -> Success:
    """Both attacks, from the same trained model."""
    samples = digits_of(HOSTILE).train

    def change(sent: Arrays) -> Arrays:
        return backdoored(sent, samples, seed, steps=options.steps, learning_rate=options.learning_rate)

    forgotten = on_audits(
        lambda metrics: {**metrics, **{key: 0 for key in metrics if key.startswith("target/correct")}}
    )
    strategy, grid = _trained(
        both(on_models(change, {protocol.UNLEARN}), forgotten), folder / "requests", seed, options
    )
    base, rates, moved = _served(strategy), list[float](), 0.0
    for number in range(options.requests):
        strategy.submit(ForgetRequest.for_samples(HOSTILE, count=2, id=f"r{number}"))
        strategy.start(grid, num_rounds=0)
        rates.append(success_rate(_served(strategy)))
        if number == 0 and strategy.served is not None:
            moved = norm(difference(_served(strategy), base)) / (strategy.served.update_norm or 1.0)
    committed = len(strategy.ledger.committed())
    strategy.ledger.close()
    poisoned, grid = _trained(on_models(change, {protocol.TRAIN}), folder / "round", seed, options)
    poisoned.start(grid, num_rounds=1)
    one_round = success_rate(_served(poisoned))
    poisoned.ledger.close()
    return Success(seed, success_rate(base), rates[0], rates[-1], one_round, moved, committed)


def _trained(
    lie: Lie, folder: Path, seed: int, options: argparse.Namespace
) -> tuple[ContinualUnlearning, InProcessGrid]:
    """A model that all clients have trained honestly, and the grid in which one of them lies from now on."""
    honest, hostile = (hostile_federation(folder, lies) for lies in ({}, {HOSTILE: lie}))
    plan = UnlearningPlan(backoff_seconds=0.0, retention_days=1.0)
    strategy = honest.strategy(plan=plan)
    with isolated_random(seed):
        first = {
            name: torch.randn_like(value) / value.shape[-1] ** 0.5 for name, value in small_model().state_dict().items()
        }
    strategy.start(honest.grid, pack(first), num_rounds=options.rounds)
    return strategy, hostile.grid


def _served(strategy: ContinualUnlearning) -> Arrays:
    assert strategy.served is not None
    return strategy.served.arrays


def main(arguments: Sequence[str] | None = None) -> int:
    """Print both success rates for each seed; 1 where requests succeed better than an ordinary round, else 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="how many seeds")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--requests", type=int, default=3, help="how many requests of the client before a training")
    parser.add_argument("--rounds", type=int, default=4, help="honest training rounds before")
    parser.add_argument("--steps", type=int, default=120, help="optimizer steps of the attack in each turn")
    parser.add_argument("--learning-rate", type=float, default=0.1, help="learning rate of the attack")
    options = parser.parse_args(arguments)
    logging.getLogger("fed_unlearn").setLevel(logging.ERROR)
    logging.getLogger("flwr").setLevel(logging.ERROR)
    print("seed  before  one request  moved  all requests  committed  one round")
    results = []
    for seed in range(options.first, options.first + options.seeds):
        with tempfile.TemporaryDirectory() as folder:
            result = run_seed(seed, Path(folder), options)
        results.append(result)
        print(
            f"{seed:4d}  {result.before:6.3f}  {result.one_request:11.3f}  {result.moved:5.2f}"
            f"  {result.requests:12.3f}  {result.committed:9d}  {result.one_round:9.3f}",
            flush=True,
        )
    worse = [result.seed for result in results if not result.holds]
    print(f"requests succeed better than one ordinary round in {len(worse)} of {len(results)} seeds")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
