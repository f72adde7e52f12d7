"""The Flower ServerApp of every simulation. ``flwr run simulations --stream`` starts it."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fed_unlearn.simulations.report.anonymous import shown
from fed_unlearn.simulations.report.table import plain_lines
from fed_unlearn.simulations.run.driver import prepare, serve
from fed_unlearn.simulations.task import fitted, run_folder, scenario_of
from fed_unlearn.strategies import Event
from fed_unlearn.strategies.clients.book import is_simulated
from fed_unlearn.strategies.staying.orphans import end_with_superlink

logger = logging.getLogger("flwr")

_POLL_SECONDS, _STILL_POLLS = 0.1, 15

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train, serve the scenario's requests, and write a run folder."""
    end_with_superlink()
    asked = scenario_of(context)
    stays = bool(context.run_config.get("stay", False))  # then nodes come and go, and the server waits for them
    count = 0 if stays else _count_nodes(grid)
    simulated = not stays and is_simulated(grid)
    scenario = fitted(asked, count) if simulated else asked
    if scenario.clients.count != asked.clients.count:
        logger.warning(
            "fed_unlearn: the scenario has %d clients, the federation %d nodes: it is run with %d",
            asked.clients.count,
            scenario.clients.count,
            scenario.clients.count,
        )
    out = run_folder(context)
    logger.info("fed_unlearn: scenario %s, results in %s", scenario.name, out)
    results = serve(
        prepare(scenario, oracle=bool(context.run_config.get("oracle", False))),
        grid,
        out,
        engine=str(context.run_config.get("engine", "")) or ("ray" if simulated else "superlink"),
        oracle=bool(context.run_config.get("oracle", False)),
        observer=_log,
        ledger_key=_key_file(context, "ledger-key"),
        receipt_key=_key_file(context, "receipt-key"),
        stays=stays,
    )
    for line in plain_lines(shown(results, out)):
        logger.info("%s", line)
    logger.info("fed_unlearn: results in %s", out)
    if not context.run_config.get("out"):  # else the command that chose the folder draws the figures and the report
        from fed_unlearn.simulations.report.pages import write_pages

        for line in write_pages(results, out):
            logger.info("fed_unlearn: %s", line)


def _key_file(context: Context, name: str) -> Path | None:
    """The file of a key, if the run's configuration names one."""
    file = str(context.run_config.get(name, ""))
    return Path(file) if file else None


def _count_nodes(grid: Grid) -> int:
    """Count the nodes once no more have come for a while. A simulated ServerApp starts before its nodes do."""
    count, still = 0, 0
    while count == 0 or still < _STILL_POLLS:
        time.sleep(_POLL_SECONDS)
        found = len(list(grid.get_node_ids()))
        still = still + 1 if found == count else 0
        count = found
    return count


def _log(event: Event) -> None:
    who = f"{event.request_id}: " if event.request_id else ""
    logger.info("fed_unlearn: %s%s", who, event.text)
