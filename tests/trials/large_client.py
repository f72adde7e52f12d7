"""A client whose images do not fit in memory: it trains, unlearns and is audited, and the most memory is printed.

The images are made when they are read. Server and clients are in this process, whose peak of resident memory is that
of all of them together, Python and torch included.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from federation import DigitsTask, make_federation
from flwr.app import ArrayRecord
from made_images import BYTES, CLASSES, images_of, loader_grid, pooling_model

from fed_unlearn.arrays import to_state_dict
from fed_unlearn.data.images import ClientData
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.logits import predict_logits
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies import UnlearningPlan
from fed_unlearn.training import TrainingSettings

SMALL = 200  # images of the other client
FORGOTTEN = 3
SETTINGS = TrainingSettings(local_epochs=1, learning_rate=0.05, momentum=0.9, batch_size=32)
PLAN = UnlearningPlan(
    class_method="delete", repair_rounds=1, backoff_seconds=0.0, parameters={"delete": {"epochs": 2, "batch_size": 32}}
)


@dataclass(frozen=True)
class Peak:
    """What a life of the federation took.

    Attributes
    ----------
    data_bytes : int
        Of the large client's images, as a model reads them.
    start_bytes, peak_bytes : int
        Resident memory of the process before the first image was read, and the most of it.
    status : str
        Of the class request.
    before, after : list of float
        Share of each class's test images that the model has right, before the request and after it.
    seconds : float
    """

    data_bytes: int
    start_bytes: int
    peak_bytes: int
    status: str
    before: list[float]
    after: list[float]
    seconds: float


def peak_of(count: int, rounds: int, folder: Path, *, by_loaders: bool) -> Peak:
    """Train, forget a class and audit with one client of ``count`` images and a small one.

    Parameters
    ----------
    by_loaders : bool
        Whether the clients are an app of DataLoaders with a training function, instead of a task of their own.
    """

    @cache
    def data_of(client: int) -> ClientData:
        return images_of(client, 2, count if client == 0 else SMALL)

    def right(arrays: ArrayRecord) -> list[float]:
        model = pooling_model()
        model.load_state_dict(to_state_dict(arrays))
        return [_share_right(model, data_of(0).test.of_classes([label])) for label in range(CLASSES)]

    federation = make_federation(folder, clients=2, task=DigitsTask(data_of, pooling_model, SETTINGS))
    grid = loader_grid(folder, count, SMALL) if by_loaders else federation.grid
    strategy = federation.strategy(plan=PLAN)
    start_bytes, started = peak_bytes(), time.monotonic()
    trained = strategy.start(grid, ArrayRecord(pooling_model().state_dict()), num_rounds=rounds)
    strategy.submit(ForgetRequest.for_class(FORGOTTEN))
    result = strategy.start(grid, num_rounds=0)
    seconds = time.monotonic() - started
    return Peak(
        count * BYTES,
        start_bytes,
        peak_bytes(),
        str(result.requests[0].status),
        right(trained.arrays),
        right(result.arrays),
        seconds,
    )


def _share_right(model: torch.nn.Module, samples: SampleSet) -> float:
    return float((predict_logits(model, samples).argmax(1) == samples.labels).float().mean())


def peak_bytes() -> int:
    """The most resident memory of this process so far.

    The counter of ``getrusage`` begins with that of the process by which this one was started.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no VmHWM; expected a Linux of its own memory")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the peak; 1 if it is above the bound, or the request was not committed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=20.0, help="of the large client's images")
    parser.add_argument("--most-gigabytes", type=float, default=2.0, help="of resident memory")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument(
        "--loaders", action="store_true", help="by LoaderTask, with DataLoaders and a training function"
    )
    given = parser.parse_args(arguments)
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        peak = peak_of(round(given.gigabytes * 1e9 / BYTES), given.rounds, Path(folder), by_loaders=given.loaders)
    print(
        f"{peak.data_bytes / 1e9:.1f} GB of images: at most {peak.peak_bytes / 1e9:.2f} GB resident,"
        f" {(peak.peak_bytes - peak.start_bytes) / 1e9:.2f} GB above the start; request {peak.status};"
        f" accuracy by class {_shown(peak.before)} before and {_shown(peak.after)} after; {peak.seconds:.0f} s"
    )
    return int(peak.peak_bytes > given.most_gigabytes * 1e9 or peak.status != "committed")


def _shown(shares: Sequence[float]) -> str:
    return " ".join(f"{share:.2f}" for share in shares)


if __name__ == "__main__":
    sys.exit(main())
