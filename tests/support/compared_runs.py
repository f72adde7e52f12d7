"""Run folders with drawn results, for comparisons."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from sample_results import REQUEST, RESULTS, figures

from fed_unlearn.simulations.run.results import RequestResult, RunResults

METHODS = ("delete", "scrub", "boundary-shrink")


def request(method: str, forget: float, retain: float, **changes: object) -> RequestResult:
    """A class request with these accuracies after it; its oracle's forget accuracy is 0."""
    changed = {"method": method, "after": figures(forget, retain, forget / 2), **changes}
    return dataclasses.replace(REQUEST, **changed)  # type: ignore[arg-type]


def write_run(folder: Path, seed: int, *requests: RequestResult, **changes: object) -> RunResults:
    """A run folder with results."""
    folder.mkdir(parents=True, exist_ok=True)
    changed = {"scenario": "digits", "seed": seed, "requests": requests, "relapse": (), **changes}
    results = dataclasses.replace(RESULTS, **changed)  # type: ignore[arg-type]
    results.save(folder)
    return results


def drawn(
    folder: Path, seeds: Sequence[int] = range(5), methods: Sequence[str] = METHODS, of: int = 2
) -> Mapping[tuple[str, int], list[RequestResult]]:
    """Runs of methods by seeds, each with a few drawn requests; what was drawn, by method and seed."""
    made = {}
    for method in methods:
        for seed in seeds:
            draw = random.Random(f"{method} {seed}")
            requests = [
                request(
                    method, draw.random() / 10, 0.9 + draw.random() / 10, id=f"r{number}", passes=draw.randint(100, 999)
                )
                for number in range(of)
            ]
            write_run(folder / method / f"seed{seed}", seed, *requests)
            made[method, seed] = requests
    return made
