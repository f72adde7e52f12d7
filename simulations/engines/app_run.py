"""A run of a Flower app: it is started, followed line by line to its end, and stopped if the user interrupts it."""

from __future__ import annotations

import contextlib
import re
import signal
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from fed_unlearn.simulations.engines.commands import FlowerCommands
from fed_unlearn.simulations.engines.errors import EngineError
from fed_unlearn.simulations.engines.processes import interrupts_afterwards, without_interrupts

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_ERROR = re.compile(r"(\w+\.)*\w*(Error|Exception|Interrupt)\b.*")
_LAST_LINES = 12


@dataclass(frozen=True)
class AppRun:
    """How a run of a Flower app ended.

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


def run_app(
    commands: FlowerCommands,
    app: Path,
    settings: Mapping[str, object],
    *,
    federation: Mapping[str, float | int] | None = None,
    on_line: Callable[[str], None] = lambda line: None,
    check: Callable[[], None] = lambda: None,
    stops: bool = True,
) -> AppRun:
    """Run a Flower app on the SuperLink of a connection, and wait for its end.

    Parameters
    ----------
    commands : FlowerCommands
    app : Path
        The folder of the app's ``pyproject.toml``.
    settings : mapping
        Values that override the app's ``[tool.flwr.app.config]``.
    federation : mapping, optional
        Settings of the simulation runtime.
    on_line : callable
        Called with every line that the run prints.
    check : callable
        Called about every second while the run lasts. It raises if the run cannot go on.
    stops : bool
        Whether the SuperLink is told of an interrupt. It need not be where all of its processes are ended at once.

    Raises
    ------
    EngineError
        If the runtime does not answer.
    KeyboardInterrupt
        On Ctrl-C.
    """
    run_id = None
    try:
        with interrupts_afterwards(*((signal.SIGINT, signal.SIGTERM) if stops else ())):
            run_id = commands.start_run(app, settings, federation)
        return follow_run(commands, run_id, on_line=on_line, check=check)
    except KeyboardInterrupt:
        with without_interrupts(signal.SIGINT, signal.SIGTERM):
            if run_id is not None and stops:
                with contextlib.suppress(EngineError):
                    commands.stop_run(run_id)
        raise


def follow_run(
    commands: FlowerCommands,
    run_id: str,
    *,
    on_line: Callable[[str], None] = lambda line: None,
    check: Callable[[], None] = lambda: None,
) -> AppRun:
    """Follow a run line by line to its end.

    Parameters
    ----------
    commands : FlowerCommands
    run_id : str
    on_line, check : callable
        Functions that are called while the run lasts, as for :func:`run_app`.

    Raises
    ------
    EngineError
        If the runtime does not answer.
    """
    last_lines: deque[str] = deque(maxlen=_LAST_LINES)
    for line in _cleaned(commands.log_lines(run_id, check)):
        last_lines.append(line)
        on_line(line)
    return AppRun(run_id, commands.final_status(run_id), tuple(last_lines))


def run_settings(
    out: Path, engine: str, *, oracle: bool, ledger_key: Path | None, receipt_key: Path | None = None
) -> dict[str, object]:
    """What the app of the scenarios is told: the folder of the run, and the resolved scenario that is in it.

    Parameters
    ----------
    out : Path
        The run folder.
    engine : str
        The engine's name in the results.
    oracle : bool
        Whether the retrain oracle is trained.
    ledger_key : Path or None
        The file of the ledger's key, if it is not to stand beside the ledger.
    receipt_key : Path, optional
        The file of the key that signs receipts, if it is not to stand in the run folder.
    """
    settings: dict[str, object] = {
        "scenario": str(out / "scenario.toml"),
        "out": str(out),
        "oracle": oracle,
        "engine": engine,
    }
    keys = {"ledger-key": ledger_key, "receipt-key": receipt_key}
    return {**settings, **{name: str(key.resolve()) for name, key in keys.items() if key is not None}}


def scenario_app() -> Path:
    """The folder of the Flower app that runs scenarios."""
    return Path(str(resources.files("fed_unlearn.simulations")))


def _cleaned(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        text = _COLOUR.sub("", line).rstrip()
        if text and text != "INFO :":
            yield text
