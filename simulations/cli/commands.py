"""The command ``fed-unlearn``. Commands import heavy libraries only when they run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.simulations.cli.bench import bench
from fed_unlearn.simulations.cli.client import client
from fed_unlearn.simulations.cli.compare import compare
from fed_unlearn.simulations.cli.demo import demo
from fed_unlearn.simulations.cli.help_texts import join_help_lines
from fed_unlearn.simulations.cli.ledger import MOST_SHOWN, add_commands
from fed_unlearn.simulations.cli.nodes.forget import forget
from fed_unlearn.simulations.cli.nodes.node import FLAGS, node
from fed_unlearn.simulations.cli.nodes.purging import purge_superlink
from fed_unlearn.simulations.cli.orders.codes import COMMITTED, NOT_COMMITTED
from fed_unlearn.simulations.cli.orders.launch_order import LaunchOrder
from fed_unlearn.simulations.cli.orders.options import LedgerKey, with_options
from fed_unlearn.simulations.cli.orders.run_order import RunOrder
from fed_unlearn.simulations.cli.receipt import receipt
from fed_unlearn.simulations.cli.report import report
from fed_unlearn.simulations.cli.serve import serve
from fed_unlearn.simulations.cli.status import status
from fed_unlearn.simulations.cli.sweep import sweep
from fed_unlearn.text import printable

app = typer.Typer(
    name="fed-unlearn",
    help="Make a trained federated model forget, on request, again and again, without retraining it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(bench, name="bench")
app.add_typer(client, name="client")
app.add_typer(receipt, name="receipt")
app.command(context_settings=FLAGS)(node)
app.command()(purge_superlink)


app.command()(demo)


@app.command()
@with_options
def run(order: RunOrder) -> int:
    """Train a federation and serve its forget requests; without arguments, on handwritten digits."""
    from rich.console import Console

    from fed_unlearn.simulations.cli.launch import launch

    results = launch(order, Console())
    return COMMITTED if results is not None and results.succeeded else NOT_COMMITTED


@app.command()
@with_options
def launch(order: LaunchOrder) -> int:
    """Run a scenario on a SuperLink and nodes of its own, all on this machine."""
    from rich.console import Console

    from fed_unlearn.simulations.cli.launch import launch as launched
    from fed_unlearn.simulations.engines.processes import ended_as_by_interrupt

    if order.printed:
        from fed_unlearn.simulations.deployment.printed import as_text

        print(as_text(order.plan()))
        return COMMITTED
    with ended_as_by_interrupt():
        results = launched(order, Console())
    return COMMITTED if results is not None and results.succeeded else NOT_COMMITTED


@app.command()
def scenarios() -> None:
    """List the built-in scenarios."""
    from fed_unlearn.simulations.report.listings import print_scenarios

    print_scenarios()


@app.command()
def methods(
    name: Annotated[str | None, typer.Argument(help="One method, to be shown with its parameters.")] = None,
    model: Annotated[str | None, typer.Option(help="A model, whose blocks are shown too.")] = None,
    image: Annotated[str, typer.Option(help="Channels, height and width that the model reads.")] = "3x32x32",
) -> None:
    """List the unlearning methods, with their papers and what they need; or show one in full."""
    if model is not None:
        from fed_unlearn.simulations.report.model_blocks import print_blocks

        print_blocks(model, image)
        if name is None:
            return
    if name is not None:
        from fed_unlearn.simulations.report.method_details import print_method

        print_method(name)
        return
    from fed_unlearn.simulations.report.listings import print_methods

    print_methods()


@app.command()
def sources() -> None:
    """List the data sources, with what they give."""
    from fed_unlearn.simulations.report.listings import print_sources

    print_sources()


@app.command()
def audits() -> None:
    """List the audits: what each measures, when it runs, what it costs, and whether a federation can make it."""
    from fed_unlearn.simulations.report.listings import print_audits

    print_audits()


@app.command()
def strategies() -> None:
    """List the server strategies, with their papers and what they need."""
    from fed_unlearn.simulations.report.listings import print_strategies

    print_strategies()


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run folder, or one of an app's server.")],
    model: Annotated[Path, typer.Argument(metavar="MODEL.safetensors", help="File to write; it must not exist.")],
    card: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The model card; README.md in an empty folder, else MODEL.md without it."),
    ] = None,
    no_card: Annotated[bool, typer.Option("--no-card", help="Write no model card.")] = False,
    no_labels: Annotated[
        bool, typer.Option("--no-labels", help="Call classes by their index alone, where a class is a person.")
    ] = False,
    ledger_key: LedgerKey = None,
) -> None:
    """Write the model that a run accepted last as a safetensors file, and a card of what it has forgotten."""
    from fed_unlearn.simulations.run.export import card_beside, export_model

    if no_card and (card is not None or no_labels):
        raise InvalidParameterError("--no-card with --card or --no-labels: these say how the card is; leave one out")
    beside = None if no_card else card or card_beside(model)
    key = None if ledger_key is None else ledger_key.expanduser()
    digest = export_model(folder, model, key, card=beside, labels=not no_labels)
    print(f"{printable(str(model), MOST_SHOWN)}: model {digest[:12]} of {printable(str(folder), MOST_SHOWN)}")
    if beside is not None:
        print(f"{printable(str(beside), MOST_SHOWN)}: what it has forgotten, and when")


app.command()(sweep)
app.command()(compare)
app.command()(serve)
app.command()(status)
app.command()(report)
add_commands(app)
app.command()(forget)
join_help_lines(app)
