"""One lying client of four: ``python -m tests.trials.hostile_clients``, from the repository's root.

Every lie is told in trainings of one round and of six, and in requests for a class, for samples of another client, for
samples of the liar, and for another client. Each step must be refused, held or failed, or else end with a model that is
as good on the other classes as without the lie, within 0.03; what is committed must be forgotten; and nobody but the liar
may be left out.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from federation import FAST_PLAN, DigitsTask, Federation, digits_of, initial_arrays
from flwr.app import ArrayRecord
from hostile import Lie, accuracy, hostile_federation
from lies import LIES

from fed_unlearn.arrays import pack, to_state_dict
from fed_unlearn.client.store import ClientStore
from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies import ContinualUnlearning

LIAR = 2
TOLERANCE = 0.03
CLASS = 3
STEPS = ("training", "class", "samples of another", "samples of the liar", "another client", "a long training")
_ROUNDS = {"training": 1, "a long training": 6}

_REQUESTS = {
    "class": ForgetRequest.for_class(CLASS),
    "samples of another": ForgetRequest.for_samples("1", count=2, goal="misclassify"),
    "samples of the liar": ForgetRequest.for_samples(str(LIAR), count=2, goal="misclassify"),
    "another client": ForgetRequest.for_client("1", method="retrain"),
}


@dataclass(frozen=True)
class Ending:
    """How one step ended beside one lying client.

    Attributes
    ----------
    status : str
        Of the request; ``"served"`` or ``"not served"`` for a training, or the error of the call.
    accuracy : float
        Of the served model on the test images of the other classes.
    forgotten : bool
        Whether what was committed is forgotten, as far as it can be seen from outside; true where nothing was.
    named : bool
        Whether a warning, a reason or an error names the liar.
    others_named : tuple of str
        Lines by which another client was left out.
    """

    status: str
    accuracy: float
    forgotten: bool
    named: bool
    others_named: tuple[str, ...]

    def faults(self, honest: Ending) -> Iterator[str]:
        """What is wrong with it, beside the same step without the lie."""
        if self.status in ("committed", "served") and self.accuracy < honest.accuracy - TOLERANCE:
            yield f"{self.status} with an accuracy of {self.accuracy:.3f}, and {honest.accuracy:.3f} without the lie"
        if not self.forgotten:
            yield "committed, and not forgotten"
        yield from self.others_named


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


class Trial:
    """A federation that was trained honestly, from which every step begins anew.

    Parameters
    ----------
    folder : Path
        An empty folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._task = DigitsTask()
        honest = hostile_federation(folder / "base", {}, task=self._task)
        strategy = honest.strategy(plan=FAST_PLAN)
        strategy.start(honest.grid, initial_arrays=initial_arrays(), num_rounds=6)
        strategy.ledger.close()

    def run(self, step: str, lie: Lie | None) -> Ending:
        """Do one step beside a client that lies, or without a lie."""
        place = self._folder / "step"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self._folder / "base", place)
        federation = hostile_federation(place, {LIAR: lie} if lie is not None else {}, task=self._task)
        strategy = federation.strategy(plan=FAST_PLAN)
        lines = _Lines()
        logger = logging.getLogger("fed_unlearn")
        logger.addHandler(lines)
        try:
            return self._ending(step, federation, strategy, lines)
        finally:
            logger.removeHandler(lines)
            strategy.ledger.close()

    def _ending(self, step: str, federation: Federation, strategy: ContinualUnlearning, lines: _Lines) -> Ending:
        error = ""
        try:
            if step in _ROUNDS:
                strategy.start(federation.grid, num_rounds=_ROUNDS[step])
            else:
                strategy.submit(_REQUESTS[step])
                strategy.start(federation.grid, num_rounds=0)
        except FedUnlearnError as caught:
            error = str(caught)
        entries = strategy.ledger.entries()
        served = strategy.served.arrays
        status = str(entries[0].status) if entries else "served" if not error else "not served"
        said = [*lines.lines, error, *(str(entry.reason) for entry in entries)]
        if step in _ROUNDS and any("is not served" in line for line in lines.lines):
            status = "not served"
        others = tuple(line for line in said if any(f"client {client} is left out" in line for client in (0, 1, 3)))
        return Ending(
            status=status,
            accuracy=accuracy(served, without=[CLASS] if step == "class" else []),
            forgotten=status != Status.COMMITTED or self._is_forgotten(step, federation, pack(served)),
            named=any(f"client {LIAR}" in line for line in said),
            others_named=others,
        )

    def _is_forgotten(self, step: str, federation: Federation, served: ArrayRecord) -> bool:
        if step == "class":
            return accuracy(served, only=[CLASS]) <= 0.05
        if step == "samples of another":
            return self._right(federation, 1, served) == 0
        return True

    @staticmethod
    def _right(federation: Federation, client: int, served: ArrayRecord) -> int:
        """How many of the samples that a client has marked as forgotten the model has right, counted apart."""
        data = digits_of(client)
        store = ClientStore(federation.folder / "clients" / str(client), data.fingerprint)
        images, labels = data.train.only(store.tombstoned_ids()).batch()
        weights = to_state_dict(served)
        hidden = torch.relu(images.flatten(1) @ weights["1.weight"].T + weights["1.bias"])
        answers = (hidden @ weights["3.weight"].T + weights["3.bias"]).argmax(1)
        return int((answers == labels).sum())


def main() -> None:
    """Run the trial."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lie", action="append", choices=sorted(LIES), help="only these; all by default")
    arguments = parser.parse_args()
    logging.getLogger("flwr").setLevel(logging.ERROR)
    logging.getLogger("fed_unlearn").propagate = False
    torch.set_num_threads(1)
    wrong = trials = 0
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(Path(folder))
        honest = {step: trial.run(step, None) for step in STEPS}
        for name in arguments.lie or LIES:
            for step in STEPS:
                ending = trial.run(step, LIES[name])
                faults = list(ending.faults(honest[step]))
                trials, wrong = trials + 1, wrong + bool(faults)
                named = "named" if ending.named else "not named"
                figures = f"{ending.accuracy:.3f} ({honest[step].accuracy:.3f})"
                print("; ".join((f"{name:32s} {step:20s} {ending.status:10s} {figures} {named}", *faults)), flush=True)
    print(f"{trials - wrong} of {trials} steps as they should be")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
