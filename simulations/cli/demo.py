"""``fed-unlearn demo``: a run of less than a minute, told in a few lines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fed_unlearn.simulations.cli.orders.codes import COMMITTED, NOT_COMMITTED

SCENARIO = "digits-demo"


def demo(
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is drawn.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Run folder, new or empty.", show_default="runs/digits-demo-seedN")
    ] = None,
) -> int:
    """Train a small federation and have it forget a digit, a client and four samples, within a minute; no download."""
    from rich.console import Console

    from fed_unlearn.simulations.cli.launch import launch
    from fed_unlearn.simulations.cli.orders.run_order import RunOrder
    from fed_unlearn.simulations.report.demonstration import demonstration

    console = Console()
    results = launch(RunOrder(scenario=SCENARIO, oracle=True, seed=seed, out=out), console, demonstration())
    return COMMITTED if results is not None and results.succeeded else NOT_COMMITTED
