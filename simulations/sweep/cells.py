"""One run of a sweep: how it is begun or resumed, and what came of it."""

from __future__ import annotations

import time
from pathlib import Path

from fed_unlearn.locks import RUN_LOCK, LockedError, run_lock
from fed_unlearn.simulations.run.folders import holds_a_run
from fed_unlearn.simulations.run.results import ResultsError, RunResults
from fed_unlearn.simulations.sweep.record import Cell, CellEnd

_RUN_ENDED = (0, 1)
"""Exit codes of runs that ended in order: all requests were committed, or some were not."""

_ENDED = ("committed", "failed", "rejected")
_WAIT_SECONDS, _POLL_SECONDS = 30.0, 0.1
_LOG_BYTES = 20_000


def argument_list(cell: Cell, folder: Path, scenario: Path, *, oracle: bool) -> tuple[str, ...]:
    """The arguments of ``fed-unlearn`` that begin the run of a cell, or go on with it.

    Parameters
    ----------
    cell : Cell
    folder : Path
        Its run folder.
    scenario : Path
        The file of its scenario, with its method.
    oracle : bool
    """
    begins = (str(scenario), "--seed", str(cell.seed), "--out", str(folder))
    where = ("--resume", str(folder)) if holds_a_run(folder) else begins
    return ("run", *where, *(("--oracle",) if oracle else ()))


def is_complete(folder: Path) -> bool:
    """Whether a run folder holds complete results."""
    results = _results(folder)
    return results is not None and results.complete


def end_of_run(cell: Cell, folder: Path, code: int) -> tuple[CellEnd, str]:
    """How a cell ended, by its process's exit code and its results; and what there is to say of its requests.

    Requests that were not committed are results. A run has failed if its timeline has no end.
    """
    results = _results(folder)
    if code not in _RUN_ENDED or results is None:
        return CellEnd(cell=cell, state="failed", exit_code=code), ""
    others = [request for request in results.requests if request.status != "committed"]
    if results.complete:
        told = f", {len(others)} of {len(results.requests)} requests not committed" if others else ""
        return CellEnd(cell=cell, state="ended", exit_code=code), told
    waits = any(request.status not in _ENDED for request in others)
    return CellEnd(cell=cell, state="waiting" if waits else "failed", exit_code=code), ""


def error_line(log: Path) -> str:
    """The last line of a run's log that names an error, or its last line."""
    try:
        with log.open("rb") as file:
            file.seek(max(log.stat().st_size - _LOG_BYTES, 0))
            lines = [line for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    except OSError:
        return "no log"
    errors = [line for line in lines if line.startswith("fed-unlearn: ")]
    return (errors or lines or ["nothing was printed"])[-1].removeprefix("fed-unlearn: ")


def wait_until_free(folder: Path) -> None:
    """Wait until no process works in a run folder: one of a sweep that was killed may still be ending.

    Raises
    ------
    LockedError
        If it takes too long.
    """
    if not (folder / RUN_LOCK).exists():
        return
    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        try:
            with run_lock(folder):
                return
        except LockedError:
            if time.monotonic() > deadline:
                raise
        time.sleep(_POLL_SECONDS)


def _results(folder: Path) -> RunResults | None:
    try:
        return RunResults.load(folder)
    except ResultsError:
        return None
