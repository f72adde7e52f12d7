"""Runs that are killed at chosen points and go on: ``python crashing.py FOLDER [NAME ...]``.

Points are counted from 1: every message that reaches a client, before it is handled and after, every transaction of the
ledger, before it is committed and after, named by the last event in it, and every file of a receipt. At the chosen one
the process kills itself, as a power cut would; another one then runs the timeline to its end. One point of each name is
taken: in the middle of every kind of round, and at every step in the life of a request; or of the names that are given
alone. A line of JSON is printed for each run: the points that it passed, and what it came to. The first is of the run
that nothing cuts short.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from federation import Federation, initial_arrays, make_federation
from flwr.app import Context, Message
from flwr.serverapp.strategy import FedAdam

from fed_unlearn.gate import Gate, Thresholds
from fed_unlearn.ledger import Ledger
from fed_unlearn.receipts import files, read_public_key, verify
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies import ContinualUnlearning, Forget, Train, UnlearningPlan

PLAN = UnlearningPlan(
    max_request_norm=12.0,
    parameters={"boundary-shrink": {"epochs": 2, "learning_rate": 0.02}, "instance-wise": {"max_steps": 20}},
    repair_rounds=1,
    alternations=1,
    retention_days=1.0,
    backoff_seconds=0.0,
    durable_seconds=0.0,
    client_method="retrain",
)
_OPEN = Thresholds(max_forget_accuracy=None, max_retain_drop=None, max_total_retain_drop=None)
_NEVER = Thresholds(max_forget_accuracy=0.0, max_retain_drop=0.0, max_total_retain_drop=0.0)
GATE = Gate(
    class_thresholds=_OPEN,
    sample_thresholds=_OPEN,
    client_thresholds=_OPEN,
    indistinguishable_thresholds=_NEVER,
    max_repair_rounds=1,
    max_attempts=2,
)
TIMELINE = (
    Train(rounds=2),
    Forget((ForgetRequest.for_class(3, id="class"),)),
    Forget(
        (
            ForgetRequest.for_samples(0, count=2, id="samples-0"),
            ForgetRequest.for_samples(1, count=2, id="samples-1"),
            ForgetRequest.for_samples(1, ["no-such-sample"], id="impossible"),
        )
    ),
    Train(rounds=2),
    Forget((ForgetRequest.for_samples(3, count=2, id="in-vain", goal="indistinguishable"),)),
    Forget((ForgetRequest.for_client(2, id="client"),)),
    Train(rounds=1),
)


class Points:
    """Counts the points that are passed, and ends the process at one of them."""

    def __init__(self, last: int | None) -> None:
        self.passed: list[str] = []
        self._last = last

    def pass_by(self, name: str) -> None:
        """Reach one more point."""
        self.passed.append(name)
        if len(self.passed) == self._last:
            os.kill(os.getpid(), signal.SIGKILL)


def watch_messages(federation: Federation, points: Points) -> None:
    """Make every message that a client handles a point, before and after."""
    for name, handler in list(federation.app._registered_funcs.items()):

        def watched(message: Message, context: Context, name: str = name, handler=handler) -> Message:  # type: ignore[no-untyped-def]
            points.pass_by(f"{name} arrives")
            answer: Message = handler(message, context)
            points.pass_by(f"{name} is done")
            return answer

        federation.app._registered_funcs[name] = watched


def watch_ledger(points: Points) -> None:
    """Make every outermost transaction a point, before it is committed and after."""
    original = Ledger.transaction

    @contextmanager
    def watched(ledger: Ledger) -> Iterator[None]:
        outermost = not ledger._connection.in_transaction
        with original(ledger):
            yield
            event = ledger._first("SELECT name FROM events ORDER BY sequence DESC LIMIT 1")
            if outermost:
                points.pass_by(f"before {event[0] if event else 'anything'}")
        if outermost:
            points.pass_by(f"after {event[0] if event else 'anything'}")

    Ledger.transaction = watched  # type: ignore[method-assign]


def watch_receipts(points: Points) -> None:
    """Make every file of a receipt a point, before it is written and after."""
    original = files.write_atomically

    def watched(path: Path, content: bytes) -> None:
        points.pass_by(f"before a file {path.suffix}")
        original(path, content)
        points.pass_by(f"after a file {path.suffix}")

    files.write_atomically = watched  # type: ignore[assignment]


def receipts_of(folder: Path) -> list[str]:
    """What each receipt says in short, sorted; an error where one is not signed by the server's key."""
    key = read_public_key(folder / "server" / "receipts.pub")
    receipts = [verify(file.read_bytes(), key).receipt for file in (folder / "receipts").glob("*.json")]
    return sorted(f"{receipt.scope} {receipt.status} {receipt.number}" for receipt in receipts)


def run(folder: Path, last: int | None) -> dict[str, object]:
    """Run the timeline, or go on with it; what is known at its end."""
    torch.set_num_threads(1)
    points = Points(last)
    watch_ledger(points)
    federation = make_federation(folder, clients=4)
    watch_messages(federation, points)
    watch_receipts(points)
    strategy = ContinualUnlearning(
        FedAdam(eta=0.02, fraction_evaluate=0.0),
        ledger=folder / "server" / "ledger.db",
        gate=GATE,
        plan=PLAN,
        receipts=folder / "receipts",
    )
    result = strategy.run(federation.grid, TIMELINE, initial_arrays())
    digest = hashlib.sha256()
    for name, array in result.arrays.items():
        digest.update(name.encode())
        digest.update(array.numpy().tobytes())
    events = strategy.ledger.events()
    return {
        "points": points.passed,
        "digest": digest.hexdigest(),
        "status": {entry.id: str(entry.status) for entry in strategy.ledger.entries()},
        "attempts": {entry.id: entry.attempt for entry in strategy.ledger.entries()},
        "commits": [event.request_id for event in events if event.name == "committed"],
        "problem": strategy.ledger.verify().problem,
        "receipts": receipts_of(folder),
    }


def in_a_process(folder: Path, last: int | None) -> dict[str, object] | None:
    """What a run comes to; None where it was killed. A fork, so that libraries are imported once."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        with os.fdopen(writer, "w") as pipe:
            json.dump(run(folder, last), pipe)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    if not killed and os.waitstatus_to_exitcode(status) != 0:
        raise RuntimeError(f"the run in {folder} ended with {os.waitstatus_to_exitcode(status)}")
    return None if killed else json.loads(text)


def of_each_name(names: list[str]) -> list[int]:
    """Points, one for each name that matters: the middle one of those in rounds, the first of the ledger's steps."""
    chosen: list[int] = []
    for name in dict.fromkeys(names):
        found = [index + 1 for index, other in enumerate(names) if other == name]
        if name.endswith("is done"):
            chosen.append(found[len(found) // 2])
        elif name.startswith("after "):
            chosen.append(found[0])
    return chosen


if __name__ == "__main__":
    torch.set_num_threads(1)
    root = Path(sys.argv[1])
    whole = in_a_process(root / "whole", None) or {}
    print(json.dumps(whole), flush=True)
    passed = list(map(str, whole["points"]))
    for point in of_each_name(passed):
        if sys.argv[2:] and passed[point - 1] not in sys.argv[2:]:
            continue
        if in_a_process(root / str(point), point) is not None:
            raise RuntimeError(f"point {point} was not reached")
        print(json.dumps({"point": point, **(in_a_process(root / str(point), None) or {})}), flush=True)
