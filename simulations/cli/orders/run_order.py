"""What ``fed-unlearn run`` was told to run, on what and where to."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, Option

from fed_unlearn.simulations.cli.orders.options import LedgerKey, ReceiptKey
from fed_unlearn.simulations.live.watching import Live, LivePort
from fed_unlearn.simulations.override_option import Overrides

if TYPE_CHECKING:
    from fed_unlearn.simulations.scenario import Scenario


@dataclass(frozen=True, kw_only=True)
class Order:
    """A run as it was typed, whatever it runs on; None and empty where nothing was."""

    scenario: Annotated[str, Argument(help="A built-in scenario or the path of a TOML file.")] = "digits"
    overrides: Overrides = ()
    seed: Annotated[int | None, Option(min=0, help="In place of the scenario's seed.")] = None
    oracle: Annotated[bool, Option("--oracle", help="Retrain from scratch for every request, to compare.")] = False
    out: Annotated[Path | None, Option(help="Run folder, new or empty.", show_default="runs/NAME-seedN")] = None
    trackers: Annotated[
        tuple[str, ...],
        Option("--tracker", metavar="NAME", help="Log figures to csv, tensorboard, mlflow or wandb; may be repeated."),
    ] = ()
    anonymous: Annotated[
        bool, Option("--anonymous", help="Name no client in the report, the figures, the log and the terminal.")
    ] = False
    resume: Annotated[Path | None, Option(metavar="DIR", help="Go on with an interrupted run, from its folder.")] = None
    live: Live = False
    live_port: LivePort = None
    ledger_key: LedgerKey = None
    receipt_key: ReceiptKey = None

    @property
    def runs_on(self) -> str:
        """The engine's name, as in ``results.json``."""
        raise NotImplementedError

    def loaded_scenario(self) -> Scenario:
        """The scenario with all changes that were typed."""
        from fed_unlearn.simulations.scenario import load_scenario

        overrides = [*self.all_overrides, *([] if self.seed is None else [f"seed={self.seed}"])]
        return load_scenario(self.scenario, overrides)

    @property
    def all_overrides(self) -> tuple[str, ...]:
        """Changes of the scenario that were typed, with the trackers in place of the scenario's."""
        chosen = [f"reporting.trackers={json.dumps(self.trackers)}"] if self.trackers else []
        return (*self.overrides, *chosen, *(["reporting.anonymous=true"] if self.anonymous else []))

    @property
    def going_on(self) -> str:
        """The command that goes on with such a run, up to the run folder."""
        return "fed-unlearn run --resume"


@dataclass(frozen=True, kw_only=True)
class RunOrder(Order):
    """A run in this process or on Ray."""

    engine: Annotated[
        Literal["inprocess", "ray"], Option(help="inprocess, or ray: flwr run with a worker for each CPU.")
    ] = "inprocess"
    gpus_per_client: Annotated[float, Option(help="Share of a GPU for each client, with --engine ray.")] = 0.0
    gpus: Annotated[int | None, Option(hidden=True, help="GPUs that Ray is told of.")] = None

    @property
    def runs_on(self) -> str:
        """The engine that was chosen."""
        return self.engine
