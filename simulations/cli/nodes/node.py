"""The command of a node of a real federation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

FLAGS = {"allow_extra_args": True, "ignore_unknown_options": True}
"""Flags that this command does not know are Flower's."""


def node(
    context: typer.Context,
    gpu: Annotated[
        str | None, typer.Option(metavar="N", help="The one GPU of this node: its index in nvidia-smi, or its UUID.")
    ] = None,
    preload: Annotated[
        list[str] | None,
        typer.Option(metavar="MODULE", help="Import this module once, not for every message. May be repeated."),
    ] = None,
    app: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Import once what the client side of this Flower app imports."),
    ] = None,
) -> int:
    """Run a SuperNode with a warm executor. All other flags go to Flower's flower-supernode (--superlink, ...)."""
    from fed_unlearn.simulations.deployment.nodes.node import NodeOrder, run_node

    return run_node(
        NodeOrder(flags=tuple(context.args), gpu=gpu, preload=tuple(preload or ()), app=app and app.expanduser())
    )
