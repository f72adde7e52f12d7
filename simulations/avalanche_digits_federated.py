"""Runs the experiences and requests of :mod:`fed_unlearn.simulations.avalanche_digits` in a federation of five clients.

    python -m fed_unlearn.simulations.avalanche_digits_federated --out runs/twin

``fed-unlearn run digits-avalanche`` runs the same scenario, also on Ray. This script compares the streams with those of
the other script sample by sample, and prints the same table.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from fed_unlearn.avalanche.streams.samples import sample_ids
from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.simulations import avalanche_digits
from fed_unlearn.simulations.avalanche_digits import Parts, Row
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
    """Return the sample ids of every training and forget experience."""
    return {
        name: [sample_ids(experience.dataset) for experience in benchmark.streams[name]] for name in ("train", "forget")
    }


def print_table(results: RunResults) -> None:
    """Print the state after each event of the run."""
    retained = {point.event: point.test_accuracy for point in results.history}
    rows = [Row(row.after, row.forget_accuracy, retained[row.after]) for row in results.relapse]
    avalanche_digits.print_table([item.id for item in results.requests], rows)


def main() -> None:
    """Run the script from the command line."""
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
