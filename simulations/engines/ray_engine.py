"""The Ray engine: it starts ``flwr run`` for the user, and reports how the run really ended."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.simulations.engines.errors import EngineError
from fed_unlearn.simulations.engines.superlink import LocalSuperLink

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_ERROR = re.compile(r"(\w+\.)*\w*(Error|Exception|Interrupt)\b.*")
_LAST_LINES = 12


@dataclass(frozen=True, kw_only=True)
class RayResources:
    """The number of clients and the resources of each.

    Parameters
    ----------
    clients : int
        Simulated nodes.
    cpus_per_client, gpus_per_client : float
        CPUs and GPUs that one client holds while it works. As many clients work in parallel as the machine allows.
    cpus : int, optional
        CPUs that Ray may use. Default: those that this process may use.
    gpus : int, optional
        GPUs that Ray assumes. Default: those that it finds. More than there are is useful in tests only.
    """

    clients: int
    cpus_per_client: float = 1
    gpus_per_client: float = 0
    cpus: int | None = None
    gpus: int | None = None

    def __post_init__(self) -> None:
        if self.clients < 1:
            raise InvalidParameterError(f"{self.clients} clients were given; expected at least 1")
        if not self.gpus_per_client >= 0:
            raise InvalidParameterError(f"--gpus-per-client {self.gpus_per_client}: expected 0 or more")

    def federation(self) -> dict[str, float | int]:
        """The settings as ``flwr run --federation-config`` takes them.

        Raises
        ------
        InvalidParameterError
            If clients need GPUs and there are too few for one client.
        """
        if self.gpus is None and self.gpus_per_client > 0:
            _check_gpus(self.gpus_per_client)
        cpus = self.cpus if self.cpus is not None else _usable_cpus()
        settings: dict[str, float | int] = {
            "num-supernodes": self.clients,
            "client-resources-num-cpus": self.cpus_per_client,
            "client-resources-num-gpus": self.gpus_per_client,
            "init-args-num-cpus": cpus,
        }
        return settings if self.gpus is None else {**settings, "init-args-num-gpus": self.gpus}


@dataclass(frozen=True)
class RayRun:
    """How a run on Ray ended.

    Attributes
    ----------
    run_id : str
        The run id of Flower.
    status : str
        ``finished:completed``, ``finished:failed`` or ``finished:stopped``, as in ``flwr ls``.
    last_lines : tuple of str
        The last lines of its log.
    """

    run_id: str
    status: str
    last_lines: tuple[str, ...]

    @property
    def completed(self) -> bool:
        """Whether the ServerApp ended without an error."""
        return self.status == "finished:completed"

    @property
    def error_line(self) -> str:
        """The last line that names an error, or else the last line."""
        errors = [line for line in self.last_lines if _ERROR.match(line)]
        return (errors or list(self.last_lines) or ["no log"])[-1]


def run_on_ray(
    out: Path,
    resources_: RayResources,
    *,
    oracle: bool = False,
    ledger_key: Path | None = None,
    app: Path | None = None,
    on_line: Callable[[str], None] = lambda line: None,
) -> RayRun:
    """Run the scenario of a run folder as a Flower app on the local simulation runtime, and wait for its end.

    Parameters
    ----------
    out : Path
        The run folder. The resolved ``scenario.toml`` is in it.
    resources_ : RayResources
    oracle : bool
        Whether the retrain oracle is trained.
    ledger_key : Path, optional
        The file of the ledger's key, if it is not to stand beside the ledger.
    app : Path, optional
        The folder of another Flower app that takes the same settings.
    on_line : callable
        Called with every line that the run prints.

    Returns
    -------
    RayRun

    Raises
    ------
    EngineError
        If the runtime does not start or does not answer.
    KeyboardInterrupt
        On Ctrl-C, after the run was stopped and all of its processes ended.
    """
    out = out.resolve()
    settings = {"scenario": str(out / "scenario.toml"), "out": str(out), "oracle": oracle, "engine": "ray"}
    if ledger_key is not None:
        settings["ledger-key"] = str(ledger_key.resolve())
    federation = resources_.federation()
    folder = app if app is not None else Path(str(resources.files("fed_unlearn.simulations")))
    last_lines: deque[str] = deque(maxlen=_LAST_LINES)
    superlink = LocalSuperLink(out / "superlink.log")
    with contextlib.ExitStack() as stack:
        stack.enter_context(superlink)
        run_id = None
        try:
            run_id = superlink.start_run(folder, federation, settings)
            for line in _cleaned(superlink.log_lines(run_id)):
                last_lines.append(line)
                on_line(line)
            return RayRun(run_id, superlink.final_status(run_id), tuple(last_lines))
        except KeyboardInterrupt:
            with _without_interrupts():
                if run_id is not None:
                    with contextlib.suppress(EngineError):
                        superlink.stop_run(run_id)
                stack.close()
            raise


def _cleaned(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        text = _COLOUR.sub("", line).rstrip()
        if text and text != "INFO :":
            yield text


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Ignore Ctrl-C while the run is being stopped."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _usable_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check_gpus(share: float) -> None:
    import torch

    found = torch.cuda.device_count()
    if share > found:
        raise InvalidParameterError(f"--gpus-per-client {share:g}: {found} GPUs were found; expected 0 to {found}")
