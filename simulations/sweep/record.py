"""``sweep.json``: what a sweep was asked to run, and how its cells ended."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fed_unlearn.checkpoints import write_atomically
from fed_unlearn.errors import FedUnlearnError

FILE_NAME = "sweep.json"
"""Its name in the folder of a sweep."""

OWN = "own"
"""In place of a method's name: the scenario as it is written."""

_FORMAT = 1

State = Literal["ended", "waiting", "failed"]


class SweepError(FedUnlearnError, ValueError):
    """Raised if the folder of a sweep is missing, unreadable, or of another sweep."""


@dataclass(frozen=True, order=True)
class Cell:
    """One run of a sweep.

    Attributes
    ----------
    scenario, method : str
        Names of both; the method is ``own`` where the scenario's own methods serve.
    seed : int
    """

    scenario: str
    method: str
    seed: int

    @property
    def name(self) -> str:
        """The cell in words, such as ``digits, delete, seed 3``."""
        return f"{self.scenario}, {self.method}, seed {self.seed}"

    def folder(self, out: Path) -> Path:
        """The run folder of the cell in the folder of a sweep."""
        return out / self.scenario / self.method / f"seed{self.seed}"

    def log(self, out: Path) -> Path:
        """The file with all that the cell's runs printed."""
        return out / self.scenario / self.method / f"seed{self.seed}.log"


@dataclass(frozen=True, kw_only=True)
class CellEnd:
    """How a cell ended last.

    Attributes
    ----------
    cell : Cell
    state : str
        ``ended``: its results are complete; ``waiting``: the timeline is done, and requests wait, for instance for
        approval; ``failed``: the run failed.
    exit_code : int
        Of the process; the negative number of a signal that ended it.
    """

    cell: Cell
    state: State
    exit_code: int

    @property
    def told(self) -> str:
        """The end in words."""
        if self.state == "failed":
            code = self.exit_code
            return f"failed, {f'exit code {code}' if code >= 0 else f'ended by signal {-code}'}"
        return "complete" if self.state == "ended" else "not complete: requests wait"


@dataclass(frozen=True, kw_only=True)
class KeptRequest:
    """A request that a sweep's method does not serve, and which keeps its own.

    Attributes
    ----------
    id, scope : str
        Of the request.
    method : str
        Its own.
    """

    id: str
    scope: str
    method: str


@dataclass(frozen=True, kw_only=True)
class Served:
    """Which requests of a scenario a method of a sweep serves.

    Attributes
    ----------
    scopes : sequence of str
        Scopes in which it serves at least one.
    kept : sequence of KeptRequest
        Requests that keep their own method.
    """

    scopes: Sequence[str]
    kept: Sequence[KeptRequest] = ()

    def keeps_in(self, scope: str) -> bool:
        """Whether a request of a scope keeps its own method."""
        return any(request.scope == scope for request in self.kept)


@dataclass(frozen=True, kw_only=True)
class SweepRecord:
    """A sweep: methods by scenarios by seeds.

    Attributes
    ----------
    scenarios, methods : tuple of str
        Names, in the order of the command.
    seeds : tuple of int
    oracle : bool
        Whether retrain oracles are trained.
    settings : mapping of str to (mapping of str to str)
        The values of each scenario by dotted key, as :func:`fed_unlearn.simulations.run.setting_values.values_of` has
        them.
    served : mapping of str to (mapping of str to Served)
        By scenario and method.
    versions : mapping of str to str
        Those that the sweep was begun with.
    ends : tuple of CellEnd
        The cells that ended.
    """

    scenarios: tuple[str, ...]
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    oracle: bool
    settings: Mapping[str, Mapping[str, str]]
    served: Mapping[str, Mapping[str, Served]]
    versions: Mapping[str, str]
    ends: tuple[CellEnd, ...] = field(default=())

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All cells, seed by seed, so that all methods get on alike."""
        return tuple(
            Cell(scenario, method, seed)
            for scenario in self.scenarios
            for seed in self.seeds
            for method in self.methods
        )

    def end_of(self, cell: Cell) -> CellEnd | None:
        """How a cell ended last; None where it has not."""
        return next((end for end in self.ends if end.cell == cell), None)

    def with_end(self, end: CellEnd) -> SweepRecord:
        """The record with one more end, in place of an earlier one of the same cell."""
        others = (known for known in self.ends if known.cell != end.cell)
        return dataclasses.replace(self, ends=tuple(sorted((*others, end), key=lambda known: known.cell)))

    def without_end(self, cell: Cell) -> SweepRecord:
        """The record without the end of a cell."""
        return dataclasses.replace(self, ends=tuple(end for end in self.ends if end.cell != cell))

    def save(self, folder: Path) -> None:
        """Write ``sweep.json`` in one step. A reader sees the old file or the new one."""
        body = {"format": _FORMAT, **dataclasses.asdict(self)}
        write_atomically(folder / FILE_NAME, (json.dumps(body, indent=1) + "\n").encode())

    @classmethod
    def load(cls, folder: Path) -> SweepRecord:
        """Read ``sweep.json`` of a folder.

        Raises
        ------
        SweepError
            If the file is missing, or another version wrote it.
        """
        path = folder / FILE_NAME
        try:
            body = json.loads(path.read_text(encoding="utf-8"))
            if body["format"] != _FORMAT:
                raise SweepError(f"{path}: has format {body['format']}; this version reads {_FORMAT}")
            return _from_json(body)
        except FileNotFoundError:
            raise SweepError(f"{folder}: holds no {FILE_NAME}; the folder of a sweep was expected") from None
        except SweepError:
            raise
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise SweepError(f"{path}: not a sweep of this version of fed_unlearn: {error!r}") from None


def _from_json(body: Mapping[str, Any]) -> SweepRecord:
    return SweepRecord(
        scenarios=tuple(body["scenarios"]),
        methods=tuple(body["methods"]),
        seeds=tuple(body["seeds"]),
        oracle=body["oracle"],
        settings=body["settings"],
        served={
            scenario: {method: _served(item) for method, item in methods.items()}
            for scenario, methods in body["served"].items()
        },
        versions=body["versions"],
        ends=tuple(CellEnd(**{**item, "cell": Cell(**item["cell"])}) for item in body["ends"]),
    )


def _served(body: Mapping[str, Any]) -> Served:
    return Served(scopes=tuple(body["scopes"]), kept=tuple(KeptRequest(**item) for item in body["kept"]))
