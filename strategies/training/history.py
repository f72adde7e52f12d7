"""Training rounds kept on disk: the model that each started from, and what every client made of it.

Whole models of clients are kept, not differences from the round's model. They come back as the clients sent them,
integer buffers included. The difference is one subtraction away, whereas adding a rounded difference to a model does
not give back what was sent. A client's arrays are no smaller either way.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fed_unlearn.arrays import Arrays
from fed_unlearn.checkpoints import CheckpointStore, write_atomically
from fed_unlearn.errors import FedUnlearnError, InvalidModelError, InvalidParameterError
from fed_unlearn.records import decode, encode

logger = logging.getLogger("fed_unlearn.strategies")

DEFAULT_MAX_BYTES = 2**32

_VERSION = 1
_INDEX = "index.json"
_PART_BYTES = 2**26
_BASE = "base"


@dataclass(frozen=True)
class StoredRound:
    """One training round.

    Attributes
    ----------
    base : dict of ndarray
        The model that the clients started from.
    clients : dict of str to (dict of ndarray, float)
        Model after the client's training and its weight in the average, by client, in the order of the record.
    """

    base: Arrays
    clients: dict[str, tuple[Arrays, float]]


@dataclass(frozen=True)
class _Entry:
    """Where a round lies: its files in order, and whose models they hold."""

    parts: tuple[str, ...]
    clients: tuple[str, ...]
    weights: tuple[float, ...]


@dataclass
class _Index:
    every: int
    version: int = _VERSION
    rounds: dict[int, _Entry] = field(default_factory=dict)

    @classmethod
    def from_file(cls, path: Path) -> _Index:
        try:
            index = decode(cls, json.loads(path.read_bytes()))
        except (OSError, ValueError, FedUnlearnError) as error:
            raise FedUnlearnError(
                f"{path}: not the index of a history: {error}; restore it, or delete the folder and go on without the"
                " rounds so far"
            ) from error
        if index.version != _VERSION:
            raise FedUnlearnError(f"{path}: a history of version {index.version}; this library reads {_VERSION}")
        return index


class HistoryStore:
    """Training rounds in one folder, as content-addressed safetensors files and an index of them.

    A crash leaves the rounds before the one that was being written. When the bound is exceeded, every second stored
    round goes, and from then on half as many are stored: what is left still begins with the first round.

    Parameters
    ----------
    folder : str or Path
        Folder of the rounds, made if it is not there.
    every : int, default 1
        Store rounds 1, 1 + every, 1 + 2 every, ...; at least 1.
    max_bytes : int, default 4 GiB
        Bound on all models together; at least 1. A round that exceeds it alone is not stored.

    Raises
    ------
    InvalidParameterError
        If ``every`` or ``max_bytes`` is out of range.
    FedUnlearnError
        If the folder's index is not one.
    """

    def __init__(self, folder: str | Path, *, every: int = 1, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        for name, value in (("every", every), ("max_bytes", max_bytes)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InvalidParameterError(f"history: {name} = {value!r} was given; allowed is a whole number from 1")
        self.folder = Path(folder)
        self._every, self._max_bytes = every, max_bytes
        self._models = CheckpointStore(self.folder / "models")
        self._path = self.folder / _INDEX
        self._index = _Index.from_file(self._path) if self._path.exists() else _Index(every)
        self._index.every = max(self._index.every, every)
        self._clean()

    @property
    def every(self) -> int:
        """Which rounds are stored now: thinning out doubles it."""
        return self._index.every

    @property
    def size(self) -> int:
        """Bytes of all stored models."""
        return sum(path.stat().st_size for path in map(self._models.path, self._digests()) if path.exists())

    def rounds(self) -> tuple[int, ...]:
        """Numbers of the stored rounds, ascending."""
        return tuple(sorted(self._index.rounds))

    def record(self, number: int, base: Arrays, clients: Mapping[str, tuple[Arrays, float]]) -> None:
        """Store a round, if it is one of those that are stored.

        A round recorded again, repeated after a crash, takes the place of the one before. If it is another one, later
        rounds go: they came after a model that is no more.

        Parameters
        ----------
        number : int
            Running number over all experiences, from 1.
        base : dict of ndarray
            The model that the round started from.
        clients : mapping of str to (dict of ndarray, float)
            Each client's model and its weight, at least 0. Nothing is stored where there is none.

        Raises
        ------
        InvalidParameterError
            If the number is below 1.
        """
        if number < 1:
            raise InvalidParameterError(f"history: round {number} was recorded; rounds are numbered from 1")
        if (number - 1) % self._index.every or not clients:
            return
        length = _bytes_of(base) + sum(_bytes_of(arrays) for arrays, _ in clients.values())
        if length > self._max_bytes:
            logger.warning("history: round %d has %d bytes, more than %d: not stored", number, length, self._max_bytes)
            return
        entry = self._saved(base, clients)
        known = self._index.rounds.get(number)
        if known == entry:
            return
        if known is not None:
            self._keep({earlier for earlier in self._index.rounds if earlier < number})
        self._index.rounds[number] = entry
        self._thin_out()
        self._write()

    def load(self, number: int) -> StoredRound:
        """Read a round back.

        Raises
        ------
        FedUnlearnError
            If it is not stored.
        InvalidModelError
            If one of its files is missing or damaged; the file is named.
        """
        entry = self._index.rounds.get(number)
        if entry is None:
            stored = ", ".join(map(str, self.rounds())) or "none"
            raise FedUnlearnError(f"{self.folder}: round {number} is not stored; stored are {stored}")
        owners = (_BASE, *map(str, range(len(entry.clients))))
        models: dict[str, Arrays] = {owner: {} for owner in owners}
        for digest in entry.parts:
            for key, value in self._models.load(digest).items():
                owner, _, name = key.partition("/")
                if owner not in models:
                    raise InvalidModelError(
                        f"{self._models.path(digest)}: not a part of round {number}; restore the file"
                    )
                models[owner][name] = value
        clients = {
            client: (models[str(position)], weight)
            for position, (client, weight) in enumerate(zip(entry.clients, entry.weights, strict=True))
        }
        return StoredRound(models[_BASE], clients)

    def drop_client(self, client: str) -> None:
        """Take a client's models out of every round; a round in which nobody else trained goes.

        The models that rounds started from still carry what the client contributed: :meth:`purge` ends that.
        """
        for number in self.rounds():
            if client not in self._index.rounds[number].clients:
                continue
            stored = self.load(number)
            del stored.clients[client]
            del self._index.rounds[number]
            if stored.clients:
                self._index.rounds[number] = self._saved(stored.base, stored.clients)
        self._write()

    def purge(self) -> None:
        """Delete every round: after a commit, all of them carry what was forgotten."""
        self._index = _Index(self._every)
        self._write()

    def _saved(self, base: Arrays, clients: Mapping[str, tuple[Arrays, float]]) -> _Entry:
        models = {_BASE: base, **{str(position): arrays for position, (arrays, _) in enumerate(clients.values())}}
        parts = tuple(self._models.save(part) for part in _parts_of(models))
        return _Entry(parts, tuple(clients), tuple(float(weight) for _, weight in clients.values()))

    def _thin_out(self) -> None:
        while (size := self.size) > self._max_bytes and self._index.rounds:
            if len(self._index.rounds) == 1:  # within the bound but for what its files add
                self._keep(set())
                return
            self._index.every *= 2
            self._keep({number for number in self._index.rounds if (number - 1) % self._index.every == 0})
            logger.info(
                "history: %d bytes, more than %d: only every %d. round is kept from now on",
                size,
                self._max_bytes,
                self._index.every,
            )

    def _keep(self, numbers: set[int]) -> None:
        self._index.rounds = {number: entry for number, entry in self._index.rounds.items() if number in numbers}

    def _digests(self) -> set[str]:
        return {digest for entry in self._index.rounds.values() for digest in entry.parts}

    def _write(self) -> None:
        """The index first: a crash in between leaves files that nothing names, which go when the folder is opened."""
        write_atomically(self._path, json.dumps(encode(self._index)[0]).encode())
        self._clean()

    def _clean(self) -> None:
        """Delete whatever the index does not name, also what a crash left of a file: it may carry anybody's data."""
        named = {self._models.path(digest) for digest in self._digests()}
        for path in self._models.folder.iterdir():
            if path not in named:
                path.unlink()


def _parts_of(models: Mapping[str, Arrays]) -> Iterator[Arrays]:
    """All models in files of some size: one file for small models, which syncs once, and no huge one for large ones."""
    part: Arrays = {}
    size = 0
    for owner, arrays in models.items():
        length = _bytes_of(arrays)
        if part and size + length > _PART_BYTES:
            yield part
            part, size = {}, 0
        part.update({f"{owner}/{name}": value for name, value in arrays.items()})
        size += length
    yield part


def _bytes_of(arrays: Arrays) -> int:
    return sum(value.nbytes for value in arrays.values())
