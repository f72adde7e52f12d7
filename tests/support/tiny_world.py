"""What outlives a process of the server and of its clients: folders, faults, and where the power goes.

A power cut is an exception that no handler of errors sees. It is raised at a point: where a message reaches a client or
was handled, and before and after each transaction of the ledger and each file that is written.
"""

from __future__ import annotations

import shutil
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord
from flwr.clientapp import ClientApp
from torch import nn

from fed_unlearn import protocol
from fed_unlearn.client import store as client_store
from fed_unlearn.client import stored as client_stored
from fed_unlearn.data.images import ImageSet
from fed_unlearn.ledger import Ledger
from fed_unlearn.ledger import file as ledger_file
from fed_unlearn.methods.base import Method, Outcome

TRAINING = (protocol.TRAIN, protocol.REPAIR, protocol.UNLEARN)
"""Messages on which a client changes a model."""


class PowerCut(BaseException):
    """The process ends here; no handler of errors sees it."""


@dataclass(frozen=True)
class Fault:
    """What a client does wrong.

    Attributes
    ----------
    kind : str
        See :meth:`World.answer` and :class:`FaultyGrid`.
    message : str
        Type of the messages at which it does.
    client : int or None
        None for every client.
    first, times : int
        From which of those messages on, counted from 0 for each client, and how often. Of kind ``"offline"``, whatever
        the type: from which exchange on, and for how many.
    """

    kind: str
    message: str
    client: int | None
    first: int
    times: int

    def hits(self, client: int, number: int) -> bool:
        """Whether it is this client's, and due."""
        return self.client in (None, client) and self.first <= number < self.first + self.times


@dataclass(frozen=True)
class Cut:
    """Where the power goes: after so many points, or only such as are named.

    Attributes
    ----------
    after : int
    point : str or None
        ``"committed"``, for instance: right after a transaction of the ledger.
    """

    after: int
    point: str | None = None


@dataclass
class World:
    """What outlives a process.

    Attributes
    ----------
    folder : Path
    clients, classes : int
    faults : tuple of Fault
    cuts : deque of Cut
        One after the other.
    deeds : dict of int to callable
        What somebody else does beside the server, by the number of points passed since the beginning.
    on_message, on_training, on_point : callable
        Told of each message before a client handles it and after; of sample ids that a model is changed with; of each
        point of the run.
    """

    folder: Path
    clients: int
    classes: int
    faults: tuple[Fault, ...] = ()
    cuts: deque[Cut] = field(default_factory=deque)
    deeds: dict[int, Callable[[], None]] = field(default_factory=dict)
    on_message: Callable[[int, Message], None] = lambda client, message: None
    on_training: Callable[[int, Message, set[str]], None] = lambda client, message, ids: None
    on_point: Callable[[str], None] = lambda name: None
    exchanges: int = 0
    points: int = 0
    _due: Cut | None = None
    _passed: int = 0
    _counts: Counter[tuple[str, int]] = field(default_factory=Counter)
    _read: set[str] | None = None
    _quiet: bool = False
    _is_locked: bool = False

    def begin_process(self) -> None:
        """Start counting towards the next power cut; what the last process held open is gone."""
        client_store._opened.clear()
        self._quiet = self._is_locked = False
        if self._due is None and self.cuts:
            self._due, self._passed = self.cuts.popleft(), 0

    def heal(self) -> None:
        """From here on nothing goes wrong any more."""
        self.faults, self.deeds, self._due = (), {}, None
        self.cuts.clear()

    def pass_point(self, name: str) -> None:
        """Reach one more point: somebody may act there, and the power may go."""
        if self._quiet:
            return
        self.points += 1
        with self.unseen():
            self.on_point(name)
            deed = self.deeds.get(self.points)
            if deed is not None and self._is_locked:  # another process waits until the ledger is free
                self.deeds.setdefault(self.points + 1, deed)
            elif deed is not None:
                deed()
        if self._due is not None and self._due.point in (None, name):
            self._passed += 1
            if self._passed >= self._due.after:
                self._due = None
                raise PowerCut

    @contextmanager
    def unseen(self) -> Iterator[None]:
        """What is done here is not the server's: it passes no points."""
        before, self._quiet = self._quiet, True
        try:
            yield
        finally:
            self._quiet = before

    def store_path(self, client: int) -> Path:
        """Where a client keeps what it must not forget."""
        return self.folder / "clients" / str(client) / "state.json"

    def lose_store(self, client: int) -> None:
        """A disk that fails."""
        client_store._opened.clear()
        shutil.rmtree(self.store_path(client).parent, ignore_errors=True)

    def is_offline(self, client: int) -> bool:
        """Whether a client cannot be reached now."""
        return any(fault.kind == "offline" and fault.hits(client, self.exchanges) for fault in self.faults)

    def fault_at(self, client: int, message_type: str) -> str | None:
        """What a client does wrong with its next message of a type, which is counted."""
        number = self._counts[message_type, client]
        self._counts[message_type, client] += 1
        due = [
            fault.kind
            for fault in self.faults
            if fault.kind != "offline" and fault.message == message_type and fault.hits(client, number)
        ]
        return due[0] if due else None

    def answer(self, app: ClientApp, kind: str | None, message: Message, context: Context) -> Message:
        """What a client answers, right or wrong."""
        client = int(context.node_config["partition-id"])
        self.pass_point(f"{message.metadata.message_type} arrives")
        if kind == "raises":
            raise ValueError("sample 17 has label 3")
        self.on_message(client, message)
        self._read = set() if message.metadata.message_type in TRAINING else None
        try:
            reply = app(message, context)
        finally:
            read, self._read = self._read, None
            if read is not None:
                self.on_training(client, message, read)
        self.on_message(client, message)
        self.pass_point(f"{message.metadata.message_type} is done")
        if kind == "raises-late":
            raise OSError("disk full")
        if kind in _SPOILED:
            _spoil(reply, kind)
        return reply

    def read(self, ids: Iterable[str]) -> None:
        """Note samples that are read while a client changes a model."""
        if self._read is not None:
            self._read.update(ids)


_SPOILED = ("nan", "shape", "dtype", "huge", "weightless")


def _spoil(reply: Message, kind: str) -> None:
    """Turn a client's model into one that must not be used, or at least not as it is."""
    for record in reply.content.values():
        if isinstance(record, MetricRecord) and kind == "weightless" and protocol.WEIGHT in record:
            record[protocol.WEIGHT] = 0
    for name, record in list(reply.content.items()):
        if isinstance(record, ArrayRecord) and record and kind != "weightless":
            changed = {key: _spoiled(array.numpy(), kind) for key, array in record.items()}
            reply.content[name] = ArrayRecord({key: Array(value) for key, value in changed.items()})


def _spoiled(value: np.ndarray, kind: str) -> np.ndarray:
    match kind:
        case "nan":
            return np.full_like(value, np.nan)
        case "shape":
            return np.concatenate([value, value])
        case "dtype":
            return value.astype(np.float64)
    return np.asarray(value * np.float32(1e6))


@contextmanager
def watched(world: World) -> Iterator[None]:
    """Make points of the ledger's outermost transactions and of every file, and note what training reads.

    Nothing is synced to disk meanwhile: a power cut is an exception here, and the machine stays up.
    """
    transaction, open_ledger = Ledger.transaction, ledger_file.open_ledger
    batch, unlearn, write = ImageSet.batch, Method.unlearn, client_stored.write_atomically

    @contextmanager
    def watched_transaction(ledger: Ledger) -> Iterator[None]:
        outermost = not ledger._connection.in_transaction
        with transaction(ledger):
            if outermost:
                world._is_locked = not world._quiet
            try:
                yield
                if outermost:
                    world.pass_point("transaction")
            finally:
                if outermost:
                    world._is_locked = False
        if outermost:
            world.pass_point("committed")

    def watched_write(path: Path, content: bytes) -> None:
        world.pass_point("file")
        write(path, content)
        world.pass_point("written")

    def unsynced(path: Path, key_file: Path, *, create: bool = True):  # type: ignore[no-untyped-def]
        connection, key = open_ledger(path, key_file, create=create)
        connection.execute("PRAGMA synchronous=OFF")
        return connection, key

    def watched_batch(samples: ImageSet, indices: torch.Tensor | slice = slice(None)):  # type: ignore[no-untyped-def]
        chosen = range(len(samples))[indices] if isinstance(indices, slice) else indices.tolist()
        world.read(samples.ids[index] for index in chosen)
        return batch(samples, indices)

    def watched_unlearn(method: Method, model: nn.Module, forget: ImageSet, *rest: object, **named: object) -> Outcome:
        for samples in (forget, *rest, *named.values()):
            if isinstance(samples, ImageSet):
                world.read(samples.ids)
        return unlearn(method, model, forget, *rest, **named)  # type: ignore[arg-type]

    with (
        mock.patch.object(Ledger, "transaction", watched_transaction),
        mock.patch.object(ledger_file, "open_ledger", unsynced),
        mock.patch.object(ImageSet, "batch", watched_batch),
        mock.patch.object(Method, "unlearn", watched_unlearn),
        mock.patch("os.fsync", lambda descriptor: None),
        mock.patch.object(client_stored, "write_atomically", watched_write),
        mock.patch("fed_unlearn.checkpoints.write_atomically", watched_write),
        mock.patch("fed_unlearn.strategies.training.history.write_atomically", watched_write),
    ):
        yield
