"""Exclusive locks: a ledger and a run folder are worked on by one process at a time."""

from __future__ import annotations

import importlib
import importlib.util
import os
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fed_unlearn.errors import FedUnlearnError


def _module(name: str) -> Any:
    """A module of some systems, or None on the others."""
    return importlib.import_module(name) if importlib.util.find_spec(name) else None


_fcntl, _msvcrt = _module("fcntl"), _module("msvcrt")
RUN_LOCK = "run.lock"
"""The lock file in the folder of a run."""

LAUNCH_LOCK = "launch.lock"
"""The lock file of the processes that were started for a run."""

_LONGEST_ID, _LOCKED_BYTE = 20, 2**30
_TRIES, _PAUSE_SECONDS = 20, 0.01
"""A look at a lock holds it, shared, for a moment: whoever finds it held in that moment tries again."""


class LockedError(FedUnlearnError, RuntimeError):
    """Raised if another process, or another thread of this one, works on the same ledger or folder."""


@dataclass(frozen=True)
class Worker:
    """A process that works on a ledger.

    Attributes
    ----------
    process : int
        Process id of the worker, as it is in its own container.
    since : int
        Time at which the worker took the ledger's lock, in nanoseconds since the epoch by the clock of the file system.
        Together with the process id, which may be used again, it tells one time of working from another.
    """

    process: int
    since: int


@dataclass
class _Held:
    """A lock that this process holds."""

    descriptor: int
    thread: int
    depth: int


_held: dict[Path, _Held] = {}
_guard = threading.Lock()


@contextmanager
def exclusive(path: Path, what: str, advice: str) -> Iterator[None]:
    """Hold an exclusive lock for the time of a ``with`` block.

    The lock is the kernel's, so that it ends with the process, however that ends. The lock file holds the process id
    and stays in its folder. The same thread may take the lock again inside the block. Where the kernel has no locks,
    neither those of POSIX nor those of Windows, the process id alone counts: the file of a process that is gone, or
    whose id this process has now, is taken over.

    Parameters
    ----------
    path : Path
        The lock file. Its folder must exist.
    what : str
        What is locked, for the error.
    advice : str
        What to do, for the error.

    Raises
    ------
    LockedError
        If it is held already. The message names the process.
    OSError
        If the lock file cannot be made.
    """
    path = path.resolve()
    with _guard:
        held = _held.get(path)
        if held is None:
            held = _held[path] = _Held(_taken(path, what, advice), threading.get_ident(), 0)
        elif held.thread != threading.get_ident():
            raise LockedError(f"{what} is in use by another thread of this process ({os.getpid()}); {advice}")
        held.depth += 1
    try:
        yield
    finally:
        with _guard:
            held.depth -= 1
            if not held.depth and _held.get(path) is held:
                del _held[path]
                with suppress(OSError):
                    os.ftruncate(held.descriptor, 0)
                os.close(held.descriptor)


def ledger_lock(ledger: Path) -> AbstractContextManager[None]:
    """The lock of whoever trains and unlearns with a ledger. Requests may be put into the ledger meanwhile."""
    advice = "wait for its end, or end it; requests can be put into the ledger meanwhile"
    return exclusive(_lock_file(ledger), f"the ledger {ledger}", advice)


def _lock_file(ledger: Path) -> Path:
    return ledger.with_name(f"{ledger.name}.lock")


def who_works_on(ledger: Path) -> int | None:
    """The process of this machine that trains and unlearns with a ledger; None if there is none."""
    worker = worker_on(ledger)
    return None if worker is None else worker.process


def worker_on(ledger: Path) -> Worker | None:
    """Who trains and unlearns with a ledger on this machine; None if nobody does.

    The kernel is asked whether the lock is held. The process id in the lock file alone says little: the file of a
    process that was killed still has it, and another process may have it now.

    Parameters
    ----------
    ledger : Path
        The ledger's file.
    """
    path = _lock_file(ledger)
    for _ in range(_TRIES):
        try:
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        except FileNotFoundError:
            return None
        try:
            if not _is_held(path, descriptor):
                return None
            holder = _holder(descriptor)
            if holder is not None and (holder == os.getpid() or _is_alive(holder)):
                return Worker(holder, os.fstat(descriptor).st_mtime_ns)
        finally:
            os.close(descriptor)
        time.sleep(_PAUSE_SECONDS)  # it is about to write its id
    return None if holder is None else Worker(holder, path.stat().st_mtime_ns)


def run_lock(folder: Path) -> AbstractContextManager[None]:
    """The lock of whoever writes into the folder of a run, which must exist."""
    return exclusive(
        folder / RUN_LOCK, f"the run folder {folder}", "wait for its end, or end it, or give another --out"
    )


def _taken(path: Path, what: str, advice: str) -> int:
    """The descriptor of the lock file, locked, with this process's id in it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
    try:
        tries = 1
        while not _locked(descriptor, holder := _holder(descriptor)):
            if tries == _TRIES:
                name = f"process {holder}" if holder is not None else "another process"
                raise LockedError(f"{what} is in use by {name}; {advice}")
            tries += 1
            time.sleep(_PAUSE_SECONDS)
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, str(os.getpid()).encode())
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _holder(descriptor: int) -> int | None:
    """The process id in a lock file, or None if there is none."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    text = os.read(descriptor, _LONGEST_ID).decode("ascii", "replace").strip()
    return int(text) if text.isascii() and text.isdigit() else None


def _locked(descriptor: int, holder: int | None) -> bool:
    """Whether the lock file could be locked."""
    try:
        if _fcntl is not None:
            _fcntl.flock(descriptor, _fcntl.LOCK_EX | _fcntl.LOCK_NB)
        elif _msvcrt is not None:
            os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
            _msvcrt.locking(descriptor, _msvcrt.LK_NBLCK, 1)
        else:
            return not _is_alive(holder)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _is_held(path: Path, descriptor: int) -> bool:
    """Whether the lock of a file is held, by this process or by another. The descriptor is one that holds nothing."""
    if path.resolve() in _held:
        return True
    if _fcntl is not None:
        try:
            _fcntl.flock(descriptor, _fcntl.LOCK_SH | _fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return True
        except OSError:  # a file system without locks
            pass
        else:
            _fcntl.flock(descriptor, _fcntl.LOCK_UN)
            return False
    holder = _holder(descriptor)
    return holder is not None and (holder == os.getpid() or _is_alive(holder))


def _is_alive(process: int | None) -> bool:
    """Whether another process of this id is there, as far as the system says."""
    if process is None or process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _forget_in_child() -> None:
    """A forked process does not hold its parent's locks, and must not keep them when the parent ends."""
    global _guard
    _guard = threading.Lock()
    for held in _held.values():
        with suppress(OSError):
            os.close(held.descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
