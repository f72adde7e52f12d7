"""``fed-unlearn serve``: find the app and the ledger, and have Flower run it until it stops in order."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from fed_unlearn.checkpoints import write_atomically
from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.locks import run_lock, who_works_on
from fed_unlearn.simulations.cli.ledger import ledger_file
from fed_unlearn.simulations.cli.log_lines import print_log_line
from fed_unlearn.simulations.cli.orders.receipt_key import check_receipt_key, receipt_key_file
from fed_unlearn.simulations.deployment.app_config import app_settings, check_connection
from fed_unlearn.simulations.deployment.serving import SupervisedServer, stop_server
from fed_unlearn.simulations.engines.app_run import run_settings, scenario_app
from fed_unlearn.simulations.engines.commands import FlowerCommands, environment_of
from fed_unlearn.simulations.engines.processes import ended_as_by_interrupt
from fed_unlearn.simulations.live.watching import check_live, served, view_of_ledger, view_of_run
from fed_unlearn.simulations.report.layout import print_line
from fed_unlearn.simulations.run.folders import SCENARIO_FILE, holds_a_run, make_folder
from fed_unlearn.simulations.scenario import Scenario, load_scenario
from fed_unlearn.text import quoted

if TYPE_CHECKING:
    from fed_unlearn.simulations.live.view import RunView

_STOP_SECONDS = 120.0


@dataclass(frozen=True, kw_only=True)
class ServeOrder:
    """What is to be served.

    Attributes
    ----------
    what : str or None
        The folder of a Flower app, or a scenario.
    superlink : str or None
        The connection of Flower's ``config.toml``; its default where None.
    out : Path or None
        The run folder of a scenario.
    overrides : tuple of str
        Changes to the scenario.
    config : tuple of str
        Overrides of the app's config.
    ledger, ledger_key : Path or None
        The ledger of an app's server, and the file of its key.
    receipt_key : Path or None
        The file of the key that signs receipts, for a scenario.
    live : bool
        Whether the growing report is served on 127.0.0.1.
    live_port : int or None
        The port of it; a free one where None.
    """

    what: str | None
    superlink: str | None = None
    out: Path | None = None
    overrides: tuple[str, ...] = ()
    config: tuple[str, ...] = ()
    ledger: Path | None = None
    ledger_key: Path | None = None
    receipt_key: Path | None = None
    live: bool = False
    live_port: int | None = None

    def server(self, console: Console) -> SupervisedServer:
        """The server of this order, checked.

        Raises
        ------
        FedUnlearnError
            If the order cannot be carried out. Nothing is written then.
        """
        check_live(self.live, self.live_port)
        if self.what is None:
            raise InvalidParameterError("nothing to serve was given; expected the folder of a Flower app or a scenario")
        key = None if self.ledger_key is None else self.ledger_key.expanduser().absolute()
        folder = Path(self.what).expanduser().absolute()
        is_app = _is_app(folder)
        if not (is_app and "federations" in _flower_table(folder)):  # the older form, which Flower moves itself
            check_connection(self.superlink)
        app, settings, ledger = self._app(folder) if is_app else self._scenario(self.what, key)
        return SupervisedServer(
            commands=FlowerCommands(environment_of(None), self.superlink),
            app=app,
            settings=settings,
            ledger=ledger,
            ledger_key=key,
            say=functools.partial(print_log_line, console=console),
        )

    def _app(self, folder: Path) -> tuple[Path, Mapping[str, object], Path | None]:
        of_scenarios = {"--out": self.out, "--set": self.overrides, "--receipt-key": self.receipt_key}
        for option, given in of_scenarios.items():
            if given:
                raise InvalidParameterError(
                    f"{option} with the app {folder}: it belongs to scenarios; use -c KEY=VALUE"
                )
        if self.live and self.ledger is None:
            raise InvalidParameterError(
                f"--live with the app {folder}: the page is made of its ledger; give --ledger FILE, or serve a scenario"
            )
        settings = app_settings(self.config, _flower_table(folder)["app"].get("config", {}))
        return folder, settings, None if self.ledger is None else self.ledger.expanduser().absolute()

    def _scenario(self, name: str, key: Path | None) -> tuple[Path, Mapping[str, object], Path]:
        for option, given in (("-c", self.config), ("--ledger", self.ledger is not None)):
            if given:
                raise InvalidParameterError(f"{option} with the scenario {quoted(name)}: it is for apps; use --set")
        from fed_unlearn.simulations.run.driver import prepare

        scenario, receipt_key = load_scenario(name, list(self.overrides)), receipt_key_file(self.receipt_key)
        check_receipt_key(receipt_key)
        out = self.out if self.out is not None else Path("runs") / f"{scenario.name}-seed{scenario.seed}-server"
        out = out.expanduser().absolute()
        if who_works_on(out / "ledger.db") is None:
            _check_place(out, scenario)
            prepare(scenario)
            make_folder(out)
            with run_lock(out):
                write_atomically(out / SCENARIO_FILE, scenario.to_toml().encode())
        settings = run_settings(out, "superlink", oracle=False, ledger_key=key, receipt_key=receipt_key)
        return scenario_app(), {**settings, "stay": True}, out / "ledger.db"


def run_server(order: ServeOrder, console: Console) -> bool:
    """Serve until the server stops.

    Returns
    -------
    bool
        Whether it stopped in order.

    Raises
    ------
    FedUnlearnError
        If the order cannot be carried out, or the app fails again and again.
    """
    server = order.server(console)
    with ended_as_by_interrupt(), served(_view_of(order, server), order.live_port, console) as live:
        server.say = functools.partial(print_log_line, console=console, say=live.say)
        run = server.run()
    print_line(console, f"run {run.run_id} ended: {run.status}")
    return run.completed


def _view_of(order: ServeOrder, server: SupervisedServer) -> RunView | None:
    """What the live page shows: the run folder of a scenario, or the ledger of an app."""
    if not order.live or server.ledger is None:
        return None
    if order.ledger is not None:
        return view_of_ledger(server.ledger, server.app.name, ledger_key=server.ledger_key)
    return view_of_run(server.ledger.parent, str(order.what))


def stop_in_order(place: Path, key: Path | None) -> None:
    """Order the server of a ledger or a run folder to stop, and wait until it has.

    Raises
    ------
    FedUnlearnError
        If there is no ledger, no server works on it, or it does not stop in time.
    """
    path = ledger_file(place.expanduser())
    stop_server(path, None if key is None else key.expanduser(), _STOP_SECONDS)
    print(f"{path}: its server has stopped")


def _check_place(out: Path, scenario: Scenario) -> None:
    """Raise if a folder has anything but a run of this scenario, which may look for work in another way."""
    if holds_a_run(out):
        before = load_scenario(str(out / SCENARIO_FILE)).model_copy(update={"serve": scenario.serve})
        if before.to_toml() != scenario.to_toml():
            raise InvalidParameterError(
                f"--out {out}: holds a run of another scenario, or with other settings; give its own scenario.toml, or"
                " another folder"
            )
    elif out.exists() and any(out.iterdir()):
        raise InvalidParameterError(f"--out {out}: is not empty, and no run was begun there; give another folder")


def _is_app(folder: Path) -> bool:
    """Whether a folder holds a Flower app."""
    return (folder / "pyproject.toml").is_file() and isinstance(_flower_table(folder).get("app"), dict)


def _flower_table(folder: Path) -> dict[str, Any]:
    """What a folder's ``pyproject.toml`` says to Flower."""
    project = folder / "pyproject.toml"
    try:
        table: dict[str, Any] = tomllib.loads(project.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidParameterError(f"{project}: cannot be read as TOML: {error}") from error
    for name in ("tool", "flwr"):
        table = table[name] if isinstance(table.get(name), dict) else {}
    return table
