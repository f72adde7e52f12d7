"""The command that keeps a server: it trains once, and serves requests as they come."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fed_unlearn.simulations.cli.orders.codes import COMMITTED, NOT_COMMITTED
from fed_unlearn.simulations.cli.orders.options import LedgerKey, ReceiptKey
from fed_unlearn.simulations.live.watching import Live, LivePort


def serve(
    what: Annotated[
        str | None,
        typer.Argument(metavar="[APP_OR_SCENARIO]", help="The folder of a Flower app, or a scenario."),
    ] = None,
    superlink: Annotated[
        str | None, typer.Option(metavar="NAME", help="The SuperLink connection of Flower's config.toml.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The run folder of a scenario; it goes on there.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change the scenario; may be repeated.")
    ] = None,
    config: Annotated[
        list[str] | None,
        typer.Option("--run-config", "-c", metavar="KEY=VALUE", help="Override the app's config; may be repeated."),
    ] = None,
    ledger: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The ledger of an app's server: to stop it in order, and for --live."),
    ] = None,
    ledger_key: LedgerKey = None,
    receipt_key: ReceiptKey = None,
    live: Live = False,
    live_port: LivePort = None,
    stop: Annotated[
        Path | None, typer.Option(metavar="LEDGER", help="Stop the server of this ledger or run folder in order.")
    ] = None,
) -> int:
    """Keep a server on a SuperLink: it trains once, then serves every request that comes, until it is stopped.

    The command follows the run, and has Flower run it again where it failed. SIGTERM and Ctrl-C stop the server in
    order. The ServerApp of an app has to call ContinualUnlearning.serve().
    """
    from rich.console import Console

    from fed_unlearn.simulations.cli.serve_order import ServeOrder, run_server, stop_in_order

    if stop is not None:
        stop_in_order(stop, ledger_key)
        return COMMITTED
    order = ServeOrder(
        what=what,
        superlink=superlink,
        out=out,
        overrides=tuple(set_ or ()),
        config=tuple(config or ()),
        ledger=ledger,
        ledger_key=ledger_key,
        live=live,
        live_port=live_port,
        receipt_key=receipt_key,
    )
    return COMMITTED if run_server(order, Console()) else NOT_COMMITTED
