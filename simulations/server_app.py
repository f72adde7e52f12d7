"""The Flower ServerApp of every simulation; ``flwr run simulations --stream`` starts it."""

from __future__ import annotations

import logging

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fed_unlearn.simulations.driver import prepare, serve
from fed_unlearn.simulations.report.table import plain_lines
from fed_unlearn.simulations.task import run_folder, scenario_of
from fed_unlearn.strategies.events import Event

logger = logging.getLogger("flwr")

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train, serve the scenario's requests, and leave a run folder."""
    scenario = scenario_of(context)
    out = run_folder(context)
    logger.info("fed_unlearn: scenario %s, results in %s", scenario.name, out)
    results = serve(
        prepare(scenario, oracle=bool(context.run_config.get("oracle", False))),
        grid,
        out,
        engine=str(context.run_config.get("engine", "ray")),
        oracle=bool(context.run_config.get("oracle", False)),
        observer=_log,
    )
    if not context.run_config.get("out"):  # whoever chose the folder draws them
        from fed_unlearn.simulations.report.figures import write_figures

        write_figures(results, out / "figures")
    for line in plain_lines(results):
        logger.info("%s", line)
    logger.info("fed_unlearn: results in %s", out)


def _log(event: Event) -> None:
    who = f"{event.request_id}: " if event.request_id else ""
    logger.info("fed_unlearn: %s%s", who, event.text)
