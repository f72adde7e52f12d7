"""The experiences and requests of :mod:`fed_unlearn.simulations.avalanche_digits` at five clients, sample for sample.

    python -m fed_unlearn.simulations.avalanche_digits_federated --out runs/twin

It is the scenario ``digits-avalanche``; ``fed-unlearn run digits-avalanche`` runs it too, on Ray if asked. This script
also compares its streams with those of the other script, and prints the same table.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from fed_unlearn.avalanche.streams.samples import sample_ids
from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.simulations.avalanche_digits import Parts
from fed_unlearn.simulations.run.driver import run_in_process
from fed_unlearn.simulations.run.folders import make_folder, usable_folder
from fed_unlearn.simulations.run.logs import quiet_flower
from fed_unlearn.simulations.run.report_stream import forget_benchmark_of
from fed_unlearn.simulations.run.results import FILE_NAME, RunResults
from fed_unlearn.simulations.scenario import load_scenario
from fed_unlearn.simulations.scenario.sections import Scenario
from fed_unlearn.simulations.task import source_of

SCENARIO = "digits-avalanche"


def streams(benchmark: Any) -> dict[str, list[tuple[str, ...]]]:
    """Ids of the samples of every training and forget experience."""
    return {
        name: [sample_ids(experience.dataset) for experience in benchmark.streams[name]] for name in ("train", "forget")
    }


def print_table(results: RunResults) -> None:
    """Print what the run left after each event, as the other script does."""
    names = [item.id for item in results.requests]
    retained = {point.event: point.test_accuracy for point in results.history}
    print(f"{'':14}{'forget accuracy':40}retained test accuracy")
    print(f"{'after':14}" + "".join(f"{name:10}" for name in names))
    for row in results.relapse:
        known = [row.forget_accuracy.get(name) for name in names]
        shown = "".join(" " * 10 if value is None else f"{value:<10.3f}" for value in known)
        print(f"{row.after:14}{shown}{retained[row.after]:.3f}")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="the run folder; new or empty")
    options = parser.parse_args()
    scenario: Scenario = load_scenario(SCENARIO, [f"seed={options.seed}"])
    out = usable_folder(options.out, FILE_NAME)
    federated = streams(forget_benchmark_of(scenario, source_of(scenario.data)))
    alone = streams(Parts.of(options.seed).scenario(options.seed))
    for name, experiences in federated.items():
        same = "the same" if [set(part) for part in experiences] == [set(part) for part in alone[name]] else "OTHERS"
        print(f"{name} stream: {' + '.join(str(len(part)) for part in experiences)} samples, {same} as on one machine")
    make_folder(out)
    with quiet_flower():
        results = run_in_process(scenario, out)
    for item in results.requests:
        print(f"{item.id}: {item.status} after {item.attempts} attempt{'s' if item.attempts > 1 else ''}")
    print_table(results)


if __name__ == "__main__":
    try:
        main()
    except FedUnlearnError as error:
        sys.exit(f"error: {error}")
