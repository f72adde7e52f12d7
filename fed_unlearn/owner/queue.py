"""The file in which a client's node keeps the requests of its data's owner."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from fed_unlearn.checkpoints import write_atomically
from fed_unlearn.errors import FedUnlearnError, InvalidRequestError
from fed_unlearn.locks import LockedError, exclusive
from fed_unlearn.owner.account import check_account
from fed_unlearn.owner.records import OwnerAnswer, OwnerRequest
from fed_unlearn.text import quoted

FILE = "owner.json"
MOST_OPEN = 1000
"""Maximum number of requests of one owner that are open at a time at the node."""

_LOCK = "owner.lock"
_LONGEST_WAIT = 10.0
_PAUSE = 0.05


class _Body(BaseModel):
    """The content of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    version: Literal[1] = 1
    ledgers: dict[str, float] = {}
    """Time at which the node first heard of each ledger since there is a queue, in seconds since the epoch."""
    requests: tuple[OwnerRequest, ...] = ()


class OwnerQueue:
    """The requests of one client's owner. A method returns only after its change is on disk.

    The owner's command and the node's own processes may use one folder at once: each change is made under a lock.

    Parameters
    ----------
    folder : Path
        The client's store folder, which exists.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / FILE
        self._signature: tuple[int, int, int] | None = None
        self._body = _Body()

    @classmethod
    def open(cls, folder: Path) -> OwnerQueue:
        """The queue of a folder, as this process used it last: its file is read only if it has changed since."""
        if folder not in _opened:
            _opened[folder] = cls(folder)
        return _opened[folder]

    @property
    def is_used(self) -> bool:
        """Whether the owner has ever queued a request here."""
        return self._path.exists()

    def requests(self) -> tuple[OwnerRequest, ...]:
        """All requests, in the order in which they were queued.

        Raises
        ------
        FedUnlearnError
            If the file is no queue of this version.
        """
        return self._read().requests

    def find(self, request_id: str) -> OwnerRequest:
        """One request.

        Raises
        ------
        InvalidRequestError
            If none of that id was queued here.
        """
        for request in self.requests():
            if request.id == request_id:
                return request
        raise InvalidRequestError(f"owner's request {quoted(request_id)} is not queued at this client")

    def add(self, request: OwnerRequest) -> str:
        """Queue a request, as made by :func:`new_request`, and return its id.

        Raises
        ------
        InvalidRequestError
            If too many are open, or all of this client is to be forgotten already.
        FedUnlearnError
            If it is another account's node.
        """
        check_account(self._folder)
        with self._changing():
            before = self._read().requests
            unended = [other for other in before if not other.is_over]
            if len(unended) >= MOST_OPEN:
                raise InvalidRequestError(
                    f"{len(unended)} requests are open at this client; at most {MOST_OPEN} are allowed: wait until some"
                    " have ended, or withdraw some"
                )
            if any(other.kind == "all" for other in unended):
                raise InvalidRequestError(
                    "all of this client is to be forgotten already; withdraw that request first to ask for less"
                )
            self._write((*before, request))
        return request.id

    def withdraw(self, request_id: str) -> OwnerRequest:
        """Withdraw a request. A server that knows of it is told, and says whether it was in time.

        Raises
        ------
        InvalidRequestError
            If none of that id was queued here, or it has ended.
        FedUnlearnError
            If it is another account's node.
        """
        check_account(self._folder)
        with self._changing():
            found = self.find(request_id)
            if found.is_over and not found.is_withdrawn:
                status = ", ".join(sorted({answer.status for answer in found.answers.values()})) or "refused"
                raise InvalidRequestError(f"request {request_id} has ended: {status}; nothing is left to withdraw")
            change: dict[str, object] = (
                {"is_withdrawn": True} if found.told else {"is_withdrawn": True, "sample_ids": ()}
            )
            self._change(lambda item: item.model_copy(update=change) if item.id == found.id else item)
            return self.find(request_id)

    def check(self, look: Callable[[OwnerRequest], OwnerRequest]) -> None:
        """Let the node look for the samples of the requests that it has not looked at yet.

        Parameters
        ----------
        look : callable
            Returns the request with the samples that were found, or with the reason why it is refused.
        """
        if all(request.is_checked for request in self.requests()):
            return
        with self._changing():
            self._change(lambda item: item if item.is_checked else look(item).model_copy(update={"is_checked": True}))

    def to_be_told(self, ledger: str, *, again: bool) -> list[OwnerRequest]:
        """What the server of a ledger is to be told of now. From here on it may know of these requests.

        Parameters
        ----------
        ledger : str
            Identity of the ledger.
        again : bool
            Whether to tell of requests that were told before, as in :meth:`OwnerRequest.is_to_be_told`.
        """
        due = self._due(ledger, again)
        if any(ledger not in request.told for request in due):
            with self._changing():
                body = self._read()
                new = {request.id for request in self._due(ledger, again) if ledger not in request.told}
                told = tuple(
                    item.model_copy(update={"told": (*item.told, ledger)}) if item.id in new else item
                    for item in body.requests
                )
                self._write(told, {ledger: time.time(), **body.ledgers})
                due = self._due(ledger, again)
        return due

    def _due(self, ledger: str, again: bool) -> list[OwnerRequest]:
        body = self._read()
        since = body.ledgers.get(ledger, time.time())
        return [item for item in body.requests if item.is_to_be_told(ledger, known_since=since, again=again)]

    def hear(self, ledger: str, answers: Sequence[OwnerAnswer]) -> list[str]:
        """Keep what a server answered, and return the digests of these answers.

        Nothing is kept of answers to what is not queued here: the folder may be an older copy of itself. The samples
        of a request that is withdrawn everywhere are erased here.
        """
        known = {request.id: request for request in self.requests()}
        news = {
            answer.owner_request: answer
            for answer in answers
            if answer.owner_request in known and known[answer.owner_request].answers.get(ledger) != answer
        }
        if news:
            with self._changing():
                self._change(lambda item: _answered(item, ledger, news[item.id]) if item.id in news else item)
        return [answer.digest() for answer in answers]

    def erase_forgotten(self, tombstoned: Callable[[], Collection[str]]) -> None:
        """Erase the ids of samples that are forgotten wherever they were to be; the store's tombstones exclude them.

        ``tombstoned`` gives the ids of all samples that have one; it is called where something may be erased.
        """
        ledgers = self._read().ledgers
        settled = [item for item in self.requests() if item.sample_ids and item.is_settled(ledgers)]
        if not settled:
            return
        known = frozenset(tombstoned())
        ended = {item.id for item in settled if known.issuperset(item.sample_ids)}
        if ended:
            with self._changing():
                self._change(lambda item: item.model_copy(update={"sample_ids": ()}) if item.id in ended else item)

    @property
    def excludes_all(self) -> bool:
        """Whether no sample of this client must be trained on: its owner asks that all of it is forgotten."""
        return any(request.kind == "all" and request.excludes for request in self.requests())

    def excluded_ids(self) -> frozenset[str]:
        """Ids of the samples that must not be trained on, from the moment on in which they were queued."""
        return frozenset(
            sample_id for request in self.requests() if request.excludes for sample_id in request.sample_ids
        )

    # ------------------------------------------------------------------ file

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Hold the lock. Whoever has it keeps it for one change, so that others wait a little."""
        until = time.monotonic() + _LONGEST_WAIT
        with ExitStack() as stack:
            while True:
                try:
                    stack.enter_context(exclusive(self._folder / _LOCK, f"the queue of {self._folder}", "try again"))
                    break
                except LockedError:
                    if time.monotonic() > until:
                        raise
                    time.sleep(_PAUSE)
                except OSError as error:
                    raise FedUnlearnError(f"{self._folder / _LOCK}: {error.strerror}; chown it to the node") from error
            yield

    def _change(self, change: Callable[[OwnerRequest], OwnerRequest]) -> None:
        before = self._read().requests
        after = tuple(map(change, before))
        if after != before:
            self._write(after)

    def _read(self) -> _Body:
        """The file's content. It is read only if the file has changed since it was last used."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return _Body()
        except OSError as error:
            raise FedUnlearnError(f"{self._path}: cannot be read: {error.strerror}") from error
        signature = (found.st_ino, found.st_mtime_ns, found.st_size)
        if signature != self._signature:
            try:
                self._body = _Body.model_validate_json(self._path.read_bytes())
            except ValidationError as error:
                what = error.errors(include_input=False, include_url=False)[0]
                raise FedUnlearnError(
                    f"{self._path}: not an owner's queue of version 1: {what['msg']}; restore it from a backup"
                ) from None
            except OSError as error:
                raise FedUnlearnError(f"{self._path}: cannot be read: {error.strerror}") from error
            self._signature = signature
        return self._body

    def _write(self, requests: Sequence[OwnerRequest], ledgers: Mapping[str, float] | None = None) -> None:
        body = _Body(ledgers=dict(self._read().ledgers if ledgers is None else ledgers), requests=tuple(requests))
        try:
            write_atomically(self._path, body.model_dump_json().encode())
        except OSError as error:
            raise FedUnlearnError(f"{self._path}: cannot be written: {error.strerror}; nothing was queued") from error


_opened: dict[Path, OwnerQueue] = {}
"""Queues that this process has opened, by folder."""


def _answered(request: OwnerRequest, ledger: str, answer: OwnerAnswer) -> OwnerRequest:
    told = request.told if ledger in request.told else (*request.told, ledger)
    answers, answered = {**request.answers, ledger: answer}, {**request.answered, ledger: time.time()}
    changed = request.model_copy(update={"answers": answers, "answered": answered, "told": told})
    is_erased = changed.is_withdrawn and changed.is_over and not changed.excludes
    return changed.model_copy(update={"sample_ids": ()}) if is_erased else changed
