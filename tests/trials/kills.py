"""Whether runs that are killed end as they would have: ``python -m tests.trials.kills digits --kills 40 --seed 0``.

Runs a scenario once without a stop. Then runs it again and again, each time in a new folder. Every run is killed with
SIGKILL at up to three random moments and resumed with ``--resume``, or begun again where the folder holds no scenario
yet. A run that came to its end must have the same models, the same ledger and the same ``results.json``, but for times,
counts of messages by device, and the digest of the ledger's last event, which holds times. Prints a line for each run; the last line counts the equal ones.

Processes are forked from one that has imported everything, so that the moments lie within the run. Some kills are
aimed at its first tenth of a second, when the folder is being made.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fed_unlearn.ledger import Ledger

_TIMES = frozenset({"seconds", "oracle_seconds", "speedup", "submitted", "ended", "devices", "versions", "ledger"})
_LIBRARIES = (
    *("flwr.serverapp.strategy", "rich.console", "sklearn.datasets"),
    *(f"fed_unlearn.simulations.cli.{name}" for name in ("commands", "launch")),
    *(f"fed_unlearn.simulations.report.{name}" for name in ("figures", "progress", "table")),
    *(f"fed_unlearn.simulations.{name}" for name in ("client_app", "inprocess", "run.driver")),
)
_MOST_KILLS, _EARLY_SHARE, _EARLY_SECONDS = 3, 0.15, 0.1
_POLL_SECONDS, _LONGEST_RUN = 0.005, 1800.0


@dataclass(frozen=True)
class RunFacts:
    """What a run left, but for times.

    Attributes
    ----------
    results : object
        The content of ``results.json``.
    models : list of (str, str)
        Digest of each accepted model, and what it was accepted after.
    requests : list of tuple
        Id, status and number of attempts of each request.
    checkpoints : list of str
        Names of the files of models.
    is_verified : bool
        Whether the ledger's chain holds.
    strays : list of str
        Temporary files that were left.
    """

    results: object
    models: list[tuple[str, str]]
    requests: list[tuple[str, str, int]]
    checkpoints: list[str]
    is_verified: bool
    strays: list[str]

    @classmethod
    def of(cls, folder: Path) -> RunFacts:
        """Read a run folder."""
        path = folder / "ledger.db"
        ledger = Ledger(path, create=False)
        is_verified = ledger.verify().problem is None
        ledger.close()
        connection = sqlite3.connect(path)
        models = connection.execute("SELECT digest, accepted_after FROM models ORDER BY sequence").fetchall()
        requests = connection.execute("SELECT id, status, attempt FROM requests ORDER BY sequence").fetchall()
        connection.close()
        return cls(
            results=_without_times(json.loads((folder / "results.json").read_text())),
            models=models,
            requests=requests,
            checkpoints=sorted(item.name for item in (folder / "checkpoints").iterdir()),
            is_verified=is_verified,
            strays=[str(item.relative_to(folder)) for item in folder.rglob(".*")],
        )


@dataclass(frozen=True)
class KilledRun:
    """How a run with kills ended.

    Attributes
    ----------
    story : list of str
        The moments of its kills, and how each process ended.
    kills : int
        Number of kills.
    differences : list of str
        What differs from the run without kills; empty if nothing does.
    """

    story: list[str]
    kills: int
    differences: list[str]


def warm_up() -> None:
    """Import everything that a run imports, so that forked processes begin at once."""
    for name in _LIBRARIES:
        importlib.import_module(name)
    import torch

    torch.set_num_threads(1)


def warm_up_on(arguments: Sequence[str]) -> None:
    """Load the data and the libraries of a scenario, such as Avalanche, in this process."""
    from fed_unlearn.simulations.run.driver import prepare
    from fed_unlearn.simulations.scenario import load_scenario

    scenario = load_scenario(arguments[0])
    prepare(scenario)
    if scenario.reporting.loggers:
        import fed_unlearn.avalanche.reporting  # noqa: F401


def uninterrupted(arguments: Sequence[str], folder: Path) -> tuple[RunFacts, float]:
    """Run a scenario without kills; its facts, and how many seconds it took."""
    started = time.monotonic()
    code = _ended(_forked(["run", *arguments, "--out", str(folder)]), _LONGEST_RUN)
    if code not in (0, 1):
        raise SystemExit(f"the run without kills ended with {code}; see {folder}.log")
    return RunFacts.of(folder), time.monotonic() - started


def killed(arguments: Sequence[str], folder: Path, seconds: float, kills: int, draw: random.Random) -> KilledRun:
    """Run a scenario with some kills, each at a random moment, until it is at its end."""
    story: list[str] = []
    done = 0
    left = seconds
    while True:
        is_begun = (folder / "scenario.toml").exists()
        process = _forked(["run", "--resume", str(folder)] if is_begun else ["run", *arguments, "--out", str(folder)])
        moment = _EARLY_SECONDS if draw.random() < _EARLY_SHARE else left
        delay = draw.uniform(0, moment) if done < kills else _LONGEST_RUN
        code = _ended(process, delay)
        if code is not None:
            story.append(f"end {code}")
            return KilledRun(story, done, [] if code in (0, 1) else [f"exit code {code}"])
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        done += 1
        left = max(left - delay, seconds / 10)
        story.append(f"kill {delay:.2f} s")


def _forked(arguments: Sequence[str]) -> int:
    """The id of a process that runs one command line; what it prints is added to a file beside the run folder."""
    sys.stdout.flush()
    process = os.fork()
    if process:
        return process
    code = 70
    try:
        log = os.open(f"{arguments[-1]}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        from fed_unlearn.simulations.cli import run_command

        code = run_command(list(arguments))
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:  # the parent's code must not go on here
        traceback.print_exc()
    finally:
        os._exit(code)


def _ended(process: int, seconds: float) -> int | None:
    """The exit code of a process, or None if it runs longer than that."""
    deadline = time.monotonic() + seconds
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            return None
        time.sleep(min(_POLL_SECONDS, max(deadline - time.monotonic(), 0)))


def differences(expected: object, found: object, place: str = "") -> list[str]:
    """Where two values differ, as texts."""
    if dataclasses.is_dataclass(expected) and dataclasses.is_dataclass(found):
        expected, found = vars(expected), vars(found)
    if isinstance(expected, dict) and isinstance(found, dict):
        keys = sorted({*expected, *found})
        return [text for key in keys for text in differences(expected.get(key), found.get(key), f"{place}.{key}")]
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        pairs = enumerate(zip(expected, found, strict=True))
        return [text for index, pair in pairs for text in differences(*pair, f"{place}[{index}]")]
    return [] if expected == found else [f"{place}: {expected!r} != {found!r}"]


def _without_times(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_times(item) for key, item in value.items() if key not in _TIMES}
    return [_without_times(item) for item in value] if isinstance(value, list) else value


def trial(arguments: Sequence[str], kills: int, seed: int, place: Path) -> list[KilledRun]:
    """Kill runs of a scenario as often as asked, over as many runs as that takes; print a line for each run."""
    warm_up()
    warm_up_on(arguments)
    draw, runs = random.Random(seed), list[KilledRun]()
    expected, seconds = uninterrupted(arguments, place / "uninterrupted")
    print(f"uninterrupted: {seconds:.1f} s", flush=True)
    while (done := sum(run.kills for run in runs)) < kills:
        folder = place / f"run{len(runs) + 1}"
        run = killed(arguments, folder, seconds, min(draw.randint(1, _MOST_KILLS), kills - done), draw)
        if not run.differences:
            run = dataclasses.replace(run, differences=differences(expected, RunFacts.of(folder)))
        runs.append(run)
        told = (
            "equal" if not run.differences else f"{len(run.differences)} differences: {'; '.join(run.differences[:5])}"
        )
        print(f"run {len(runs)}: {', '.join(run.story)}: {told}", flush=True)
        if not run.differences:
            shutil.rmtree(folder)
    return runs


def main() -> None:
    """Run the trial."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario")
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the scenario")
    parser.add_argument("--keep", type=Path, help="folder for the runs, kept afterwards; default: a temporary one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place = options.keep or Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        overrides = [part for value in options.set for part in ("--set", value)]
        runs = trial([options.scenario, *overrides], options.kills, options.seed, place)
    equal = sum(not run.differences for run in runs)
    print(f"{sum(run.kills for run in runs)} kills; {equal} of {len(runs)} equal")
    sys.exit(equal < len(runs))


if __name__ == "__main__":
    main()
