"""Whether honest runs are ever held: ``python -m tests.trials.false_alarms --seeds 20``, from the repository's root.

Runs a scenario, ``digits`` unless another one is named, with clients as different as a Dirichlet distribution with
parameter 0.1 makes them, once for each seed. Seeds that leave a client too few samples for its request are passed over.
Prints how each run's requests ended, and how often a client's figures were called implausible; the last line counts the
requests that were held.
"""

import argparse
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from fed_unlearn.simulations.run.driver import run_in_process
from fed_unlearn.simulations.run.logs import quiet_flower
from fed_unlearn.simulations.scenario import load_scenario
from fed_unlearn.simulations.scenario.errors import ScenarioError
from fed_unlearn.strategies.clients.bounds import plausibility
from fed_unlearn.strategies.serving import doubt


@dataclass(frozen=True)
class HonestRun:
    """How an honest run ended.

    Attributes
    ----------
    statuses : Counter of str
        Of its requests.
    judged : int
        Number of comparisons of one client's figures with those of the others.
    implausible : tuple of Deviation
        Comparisons that were called implausible; a request is held only where one of them turns its verdict.
    """

    statuses: Counter[str]
    judged: int
    implausible: tuple[plausibility.Deviation, ...]


def run_honestly(scenario_name: str, seed: int, overrides: tuple[str, ...] = ()) -> HonestRun:
    """Run a scenario whose clients are honest and very different from each other."""
    scenario = load_scenario(scenario_name, (*overrides, "clients.alpha=0.1", f"seed={seed}"))
    seen: list[plausibility.Deviation] = []

    def noted(*given: object, **named: object) -> list[plausibility.Deviation]:
        found = list(plausibility.deviations(*given, **named))  # type: ignore[arg-type]
        seen.extend(found)
        return found

    with tempfile.TemporaryDirectory() as folder, mock.patch.object(doubt, "deviations", noted), quiet_flower():
        results = run_in_process(scenario, Path(folder) / "run")
    statuses = Counter(request.status for request in results.requests)
    return HonestRun(statuses, len(seen), tuple(item for item in seen if item.is_implausible))


def main() -> None:
    """Run the trial."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenario", default="digits")
    parser.add_argument("--seeds", type=int, default=20, help="how many runs")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    held = requests = runs = seed = 0
    while runs < arguments.seeds and seed < 3 * arguments.seeds:
        try:
            run = run_honestly(arguments.scenario, seed, tuple(arguments.set))
        except ScenarioError as error:
            print(f"seed {seed}: no such run: {error}", flush=True)
        else:
            ended = ", ".join(f"{count} {status}" for status, count in sorted(run.statuses.items()))
            print(f"seed {seed}: {ended}; {len(run.implausible)} of {run.judged} comparisons implausible", flush=True)
            held, requests, runs = held + run.statuses["held"], requests + run.statuses.total(), runs + 1
        seed += 1
    print(f"{held} of {requests} requests held")
    sys.exit(held > 0)


if __name__ == "__main__":
    main()
