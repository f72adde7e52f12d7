"""Many models, made in parallel over processes and kept as files by the digest of all that determines them."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from fed_unlearn.checkpoints import make_private_folder, remove_temporary_files, write_atomically
from fed_unlearn.errors import InvalidModelError, InvalidParameterError
from fed_unlearn.locks import exclusive
from fed_unlearn.models import load_checkpoint
from fed_unlearn.simulations.bench.model_jobs import Material, ModelJob
from fed_unlearn.simulations.engines.errors import RunFailedError

_HEADER, _LOCK = "made", "models.lock"
_COSTS = ("forward_passes", "backward_passes", "steps", "seconds", "converged")


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """A model in its file.

    Attributes
    ----------
    path : Path
        Path of a safetensors file.
    forward_passes, backward_passes, steps : int
        What it cost to make it.
    seconds : float
        Wall time that this took, with one thread of torch on a CPU, when it was made.
    converged : bool or None
        Whether a method reports that it reached its aim; None for a model that was trained.
    is_new : bool
        Whether it was made just now, and not found.
    """

    path: Path
    forward_passes: int
    backward_passes: int
    steps: int
    seconds: float
    converged: bool | None
    is_new: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainedModels:
    """Makes models and keeps them. The same jobs give the same weights, however many processes make them.

    Attributes
    ----------
    folder : Path
        Folder of the files, made if it does not exist. Files of other data, settings or versions may lie beside them.
    material : Material
    workers : int or None
        Maximum number of processes, each with one thread of torch and the material in memory; by default the number of
        cores that this process may use. On another device than the CPU all models are made in this process.
    on_progress : callable
        Called with a line of text after every model, and for a file that is damaged.
    """

    folder: Path
    material: Material
    workers: int | None = None
    on_progress: Callable[[str], None] = field(default=lambda text: None)

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise InvalidParameterError(f"workers {self.workers} were given; expected at least 1")

    def make(self, jobs: Sequence[ModelJob], what: str = "models") -> list[ModelFile]:
        """Make the models that are not there yet, in parallel.

        Parameters
        ----------
        jobs : sequence of ModelJob
            Jobs to do. Equal ones are made once.
        what : str
            What they are, for progress.

        Returns
        -------
        list of ModelFile
            The files of the models, in the order of the jobs.

        Raises
        ------
        FedUnlearnError
            If a model cannot be made; those that were made stay.
        LockedError
            If another process makes models in the same folder.
        RunFailedError
            If a worker process ended.
        """
        make_private_folder(self.folder)
        advice = "wait for its end, or give another folder"
        with exclusive(self.folder / _LOCK, f"the folder of models {self.folder}", advice):
            remove_temporary_files(self.folder)
            paths = [self.path_of(job) for job in jobs]
            found = {path: file for path in dict.fromkeys(paths) if (file := self._found(path)) is not None}
            missing = {path: job for path, job in zip(paths, jobs, strict=True) if path not in found}
            count = len(found) + len(missing)
            if found:
                self.on_progress(f"{what}: {len(found)} of {count} are in {self.folder}")
            for file in self._made(list(missing.values())):
                found[file.path] = file
                self.on_progress(f"{what}: {len(found)} of {count} made")
        return [found[path] for path in paths]

    def path_of(self, job: ModelJob) -> Path:
        """The file of a job's model, whether it exists or not."""
        return self.folder / f"{job.digest(self._fingerprint, self.material.device.type)}.safetensors"

    def load(self, job: ModelJob) -> nn.Module:
        """A model that was made, in evaluation mode and on the device.

        Raises
        ------
        InvalidModelError
            If it was not made, or its file is damaged.
        """
        path = self.path_of(job)
        read_model_file(path)
        model = job.network.build()
        load_checkpoint(model, path)
        return model.to(self.material.device).eval()

    def make_one(self, job: ModelJob) -> ModelFile:
        """Make one model in this process and write its file."""
        started = time.perf_counter()
        made = job.make(self.material, self._find)
        if self.material.device.type == "cuda":
            torch.cuda.synchronize(self.material.device)
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in made.model.state_dict().items()}
        file = ModelFile(
            path=self.path_of(job),
            forward_passes=made.passes.forward,
            backward_passes=made.passes.backward,
            steps=made.steps,
            seconds=time.perf_counter() - started,
            converged=made.converged,
            is_new=True,
        )
        costs = {name: getattr(file, name) for name in _COSTS}
        header = json.dumps({"content": _content_digest(state), "costs": costs})
        write_atomically(file.path, save({name: tensor.clone() for name, tensor in state.items()}, {_HEADER: header}))
        return file

    @cached_property
    def _fingerprint(self) -> str:
        return self.material.fingerprint()

    def _find(self, job: ModelJob) -> nn.Module:
        if self._found(self.path_of(job)) is None:
            self.make_one(job)
        return self.load(job)

    def _found(self, path: Path) -> ModelFile | None:
        if not path.exists():
            return None
        try:
            return read_model_file(path)
        except InvalidModelError as error:
            self.on_progress(f"{error}; the model is made again")
            return None

    def _made(self, jobs: Sequence[ModelJob]) -> Iterator[ModelFile]:
        workers = min(len(jobs), self.workers or usable_cores())
        if workers <= 1 or self.material.device.type != "cpu":
            for job in jobs:
                with _one_thread():
                    file = self.make_one(job)
                yield file
            return
        context, others = multiprocessing.get_context("spawn"), set(multiprocessing.active_children())
        given = pickle.dumps(TrainedModels(folder=self.folder, material=self.material, on_progress=_say_nothing))
        pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin_worker, initargs=(given,))
        try:
            for future in as_completed([pool.submit(_make_in_worker, job) for job in jobs]):
                yield future.result()
        except BrokenProcessPool as error:
            raise RunFailedError(
                f"a process that made models ended ({error}); try again with more memory or fewer workers: what was"
                f" made is in {self.folder}"
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_model_file(path: Path) -> ModelFile:
    """Read what a model's file says of it, and check its bytes.

    Raises
    ------
    InvalidModelError
        If the file is missing, is not one that :class:`TrainedModels` wrote, or its bytes have changed.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})[_HEADER])
            content = _content_digest({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
        if header["content"] == content:
            return ModelFile(path=path, is_new=False, **header["costs"])
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidModelError(f"{path}: not a file of a model that was made here ({error})") from error
    raise InvalidModelError(f"{path}: its bytes do not match the digest in its header")


def _content_digest(state: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(f"{name}\x1f{state[name].dtype}{tuple(state[name].shape)}".encode())
        digest.update(state[name].contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


@contextmanager
def _one_thread() -> Iterator[None]:
    """As in a worker, since sums over more threads differ in their last digits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _say_nothing(text: str) -> None:
    pass


_models: TrainedModels | None = None


def _begin_worker(given: bytes) -> None:
    """Begin a worker process, which ends quietly with Ctrl-C and with the process that started it."""
    global _models
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent,), daemon=True).start()
    torch.set_num_threads(1)
    with suppress(RuntimeError):  # once parallel work has begun
        torch.set_num_interop_threads(1)
    _models = pickle.loads(given)


def _end_after(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _make_in_worker(job: ModelJob) -> ModelFile:
    if _models is None:
        raise RunFailedError("a worker process was not begun; make models by TrainedModels.make")
    return _models.make_one(job)
