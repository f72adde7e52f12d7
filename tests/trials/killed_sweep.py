"""Whether a sweep that is killed ends as it would have: ``python -m tests.trials.killed_sweep``.

Sweeps ``tests/support/tiny.toml`` with five methods and five seeds, once without a stop. Then it sweeps again in a new
folder, kills the sweep with SIGKILL at drawn moments, and gives the same command again after each kill. At the end the
tables and the scenarios in the folder must be the same byte for byte. Each run must have the same models, the same
requests and the same ``results.json``, but for times and what goes with them. Prints a line for each step.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fed_unlearn.simulations.run.results import ResultsError, RunResults
from tests.trials.kills import RunFacts, differences

TINY = Path(__file__).parents[1] / "support" / "tiny.toml"
METHODS = "boundary-shrink,boundary-expanding,delete,negative-gradient+,random-label"

_POLL_SECONDS, _LONGEST_SWEEP, _LONGEST_DELAY = 0.02, 7200.0, 2.0
_TABLES = 5


@dataclass(frozen=True)
class Sweeps:
    """How a folder is swept.

    Attributes
    ----------
    scenario, methods, seeds : str
        As they are typed.
    jobs : int
        Runs at once.
    """

    scenario: str
    methods: str
    seeds: str
    jobs: int

    def begin(self, out: Path) -> subprocess.Popen[bytes]:
        """Begin the sweep of a folder, or go on with it. What it prints is added to a file beside the folder."""
        order = ("--methods", self.methods, "--seeds", self.seeds, "--jobs", str(self.jobs), "--out", str(out))
        command = [sys.executable, "-m", "fed_unlearn.simulations.cli", "sweep", self.scenario, *order]
        with Path(f"{out}.log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)

    def finish(self, out: Path) -> float:
        """Sweep a folder until its end; the seconds that it took."""
        started = time.monotonic()
        if code := self.begin(out).wait(_LONGEST_SWEEP):
            raise SystemExit(f"the sweep ended with {code}; see {out}.log")
        return time.monotonic() - started


def killed(sweeps: Sweeps, out: Path, at: int, delay: float) -> int:
    """Kill a sweep some seconds after so many of its runs are complete; the number that were when it was killed."""
    process = sweeps.begin(out)
    deadline = time.monotonic() + _LONGEST_SWEEP
    while complete(out) < at:
        if process.poll() is not None:
            raise SystemExit(f"the sweep ended with {process.returncode} before it could be killed; see {out}.log")
        if time.monotonic() > deadline:
            process.kill()
            raise SystemExit(f"fewer than {at} runs were complete after {_LONGEST_SWEEP:.0f} s; see {out}.log")
        time.sleep(_POLL_SECONDS)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    if process.wait() != -signal.SIGKILL:
        raise SystemExit(f"the sweep ended with {process.returncode} before it was killed; see {out}.log")
    return complete(out)


def complete(out: Path) -> int:
    """The number of runs whose results are complete."""
    return sum(_is_complete(path.parent) for path in out.rglob("results.json"))


def _is_complete(folder: Path) -> bool:
    try:
        return RunResults.load(folder).complete
    except ResultsError:
        return False


def unlike(expected: Path, found: Path) -> list[str]:
    """What differs between two sweeps, as texts."""
    told = []
    files = {folder: _files(folder) for folder in (expected, found)}
    if len([name for name in files[expected] if name.startswith("compare")]) != _TABLES:
        told.append(f"{expected}: expected {_TABLES} tables")
    for name in sorted({*files[expected], *files[found]}):
        if files[expected].get(name) != files[found].get(name):
            told.append(f"{name} differs")
    for path in sorted(expected.rglob("results.json")):
        folder = path.parent.relative_to(expected)
        facts = [RunFacts.of(sweep / folder) for sweep in (expected, found)]
        told += differences(*facts, str(folder))
    return told


def _files(out: Path) -> dict[str, bytes]:
    """The tables and scenarios of a sweep; those of runs are not among them."""
    found = [*out.glob("compare*"), *out.glob("*/*.toml")]
    return {str(path.relative_to(out)): path.read_bytes() for path in found}


def trial(sweeps: Sweeps, kills: int, seed: int, place: Path) -> list[str]:
    """Sweep without a stop and with kills, a line for each step; what differs between the two."""
    whole, stopped, draw = place / "whole", place / "stopped", random.Random(seed)
    seconds = sweeps.finish(whole)
    runs = len(list(whole.rglob("results.json")))
    print(f"without a stop: {runs} runs in {seconds:.0f} s", flush=True)
    part = (runs - 2 * sweeps.jobs) // kills
    if part < 1:
        raise SystemExit(f"{runs} runs are too few for {kills} kills with --jobs {sweeps.jobs}")
    for number in range(kills):
        at = draw.randrange(number * part, (number + 1) * part)
        there = killed(sweeps, stopped, at, draw.uniform(0, _LONGEST_DELAY))
        print(f"kill {number + 1}: {there} of {runs} runs were complete", flush=True)
    print(f"the rest: {sweeps.finish(stopped):.0f} s", flush=True)
    return unlike(whole, stopped)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the trial."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", default=str(TINY))
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--seeds", default="0-4", help="of the runs")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    parser.add_argument("--keep", type=Path, help="folder for the sweeps, kept afterwards; default: a temporary one")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        place = (options.keep or Path(temporary)).absolute()
        place.mkdir(parents=True, exist_ok=True)
        sweeps = Sweeps(options.scenario, options.methods, options.seeds, options.jobs)
        found = trial(sweeps, options.kills, options.seed, place)
        names = ", ".join(sorted(path.name for path in (place / "whole").glob("compare*")))
    print("\n".join(found) or f"equal: {names}, byte for byte, and all runs but for times")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
