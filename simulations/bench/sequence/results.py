"""``sequence.json``, the results of ``fed-unlearn bench sequence``. Its table is made from it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fed_unlearn.audits.oracles.prediction import WIDEST, reach
from fed_unlearn.checkpoints import write_atomically
from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.simulations.bench.sequence.cells import Count, FigureCell, count_inside, count_left_out
from fed_unlearn.simulations.run.damaged_files import fault_in_words, finite_json

FILE_NAME = "sequence.json"
ORIGINAL, LEFT_OUT = "original", "oracles left out"
TOLERANCE = 0.01
"""A retained accuracy that lies no further below the oracles' mean is as good as theirs."""


@dataclass(frozen=True, kw_only=True)
class Accuracies:
    """Test accuracy on the classes that stay, after one event."""

    event: str
    model: float
    oracles: tuple[float, ...]

    @property
    def difference(self) -> float:
        """The model's minus the mean of the oracles'."""
        return self.model - sum(self.oracles) / len(self.oracles)


@dataclass(frozen=True, kw_only=True)
class RunCells:
    """What was measured of one run.

    Attributes
    ----------
    cells : tuple of FigureCell
    accuracies : tuple of Accuracies
    not_committed : mapping of str to str
        Why requests were not committed, by their id.
    """

    cells: tuple[FigureCell, ...]
    accuracies: tuple[Accuracies, ...]
    not_committed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SeedResults:
    """All runs of one seed: the scenario's own by the name of its method, then those of other methods."""

    seed: int
    runs: Mapping[str, RunCells]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class SequenceReport:
    """All seeds that were measured.

    Attributes
    ----------
    scenario : str
        The resolved scenario without its seed, as TOML.
    main : str
        Name of the run of the scenario as it is.
    beside : tuple of str
        Names of the runs of other methods.
    oracles : int
    seeds : tuple of SeedResults
    versions : mapping of str to str
    """

    scenario: str
    main: str
    beside: tuple[str, ...]
    oracles: int
    seeds: tuple[SeedResults, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def columns(self) -> tuple[str, ...]:
        """What is counted, by name."""
        return self.main, LEFT_OUT, ORIGINAL, *self.beside

    def cells(self, run: str) -> list[FigureCell]:
        """The cells of a run, of all seeds."""
        return [cell for seed in self.seeds if run in seed.runs for cell in seed.runs[run].cells]

    def count(self, column: str, *, figures: Sequence[str] = (), request: str | None = None) -> Count:
        """Count the cells of a column.

        Parameters
        ----------
        column : str
            Name of a column, one of :attr:`columns`.
        figures : sequence of str
            Figures whose cells are counted; all if empty.
        request : str, optional
            Request whose cells are counted; all if None.
        """
        every = self.cells(column if column in self.beside else self.main)
        cells = [
            cell
            for cell in every
            if (not figures or cell.figure in figures) and (request is None or cell.request == request)
        ]
        return count_left_out(cells) if column == LEFT_OUT else count_inside(cells, column)

    def accuracies(self, run: str) -> list[Accuracies]:
        """Retained accuracies of a run, of all events and seeds."""
        return [item for seed in self.seeds if run in seed.runs for item in seed.runs[run].accuracies]

    def not_committed(self, run: str) -> dict[str, str]:
        """Why requests of a run were not committed, by seed and request."""
        return {
            f"seed {seed.seed}, {request}": reason
            for seed in self.seeds
            if run in seed.runs
            for request, reason in seed.runs[run].not_committed.items()
        }

    @property
    def warnings(self) -> list[str]:
        """That the interval is too wide to say much, where seeds and oracles are few."""
        seeds, oracles = len(self.seeds), self.oracles
        freedom = seeds * (oracles - 1)
        if not freedom or (width := reach(oracles, freedom)) <= WIDEST:
            return []
        return [
            f"{seeds} seed{'s' * (seeds > 1)} with {oracles} oracles: their interval reaches {width:.1f} standard"
            " deviations to each side, so that figures are inside that lie far off; measure more seeds, or give"
            " --oracles 4 or more"
        ]

    def save(self, folder: Path) -> None:
        """Write ``sequence.json`` in one step, with the counts and the warnings."""
        counts = {column: asdict(self.count(column)) for column in self.columns}
        body = {**asdict(self), "counts": counts, "warnings": self.warnings}
        write_atomically(folder / FILE_NAME, (json.dumps(body, indent=1, allow_nan=False) + "\n").encode())

    @classmethod
    def load(cls, folder: Path) -> SequenceReport:
        """Read ``sequence.json``.

        Raises
        ------
        FedUnlearnError
            If it cannot be read.
        """
        path = folder / FILE_NAME
        try:
            body = finite_json(path.read_bytes())
            for derived in ("counts", "warnings"):
                body.pop(derived, None)
            seeds = tuple(_seed(item) for item in body.pop("seeds"))
            return cls(**{**body, "beside": tuple(body["beside"]), "seeds": seeds})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise FedUnlearnError(f"{path}: {fault_in_words(error)}; restore the file") from None


def _seed(body: dict[str, Any]) -> SeedResults:
    runs = {
        name: RunCells(
            cells=tuple(FigureCell(**{**cell, "oracles": tuple(cell["oracles"])}) for cell in run["cells"]),
            accuracies=tuple(Accuracies(**{**item, "oracles": tuple(item["oracles"])}) for item in run["accuracies"]),
            not_committed=run["not_committed"],
        )
        for name, run in body["runs"].items()
    }
    return SeedResults(seed=body["seed"], runs=runs, seconds=body["seconds"])
