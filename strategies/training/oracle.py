"""The retrain oracle: the same training from scratch without all that was forgotten so far (the gold standard)."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from flwr.app import ConfigRecord

from fed_unlearn.arrays import Arrays, pack
from fed_unlearn.audits.pooled import Measured
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies.clients.audit import Auditor
from fed_unlearn.strategies.outcomes import OracleOutcome
from fed_unlearn.strategies.training.trainer import Trainer


@dataclass(frozen=True)
class Experience:
    """One training experience of the timeline, as it was run.

    Attributes
    ----------
    rounds : int
    train_config : ConfigRecord
    """

    rounds: int
    train_config: ConfigRecord


def retrain(
    trainer: Trainer,
    initial: Arrays,
    experiences: Sequence[Experience],
    auditor: Auditor,
    requests: Sequence[ForgetRequest],
    forgotten_classes: Collection[int],
) -> dict[str, OracleOutcome]:
    """Repeat all experiences: same rounds, same seeds of data order, same hyper-parameters, retained data only.

    Clients leave out what they have quarantined or tombstoned by themselves, so the server needs to know no sample.

    Parameters
    ----------
    trainer : Trainer
        With an inner strategy that carries no server state.
    initial : dict of ndarray
        The model that the first experience started from.
    experiences : sequence of Experience
    auditor : Auditor
    requests : sequence of ForgetRequest
        Those that the oracle is held against.
    forgotten_classes : collection of int
        Classes of all committed requests.
    """
    trainer.grid.take_traffic()
    started = time.perf_counter()
    arrays, number = initial, 0
    for experience in experiences:
        for _ in range(experience.rounds):
            number += 1
            arrays = trainer.train(arrays, number, experience.train_config).arrays
    seconds = time.perf_counter() - started
    traffic = trainer.grid.take_traffic()
    arrived = experiences[-1].train_config.get("arrived", 0) if experiences else 0
    audit = auditor.audit(pack(arrays), requests, arrived=arrived if isinstance(arrived, int) else 0)
    measured = Measured(audit, forgotten_classes)
    return {
        request.id: OracleOutcome(figures=measured.figures(request), seconds=seconds, traffic=traffic)
        for request in requests
    }
