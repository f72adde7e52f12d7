"""What ``fed-unlearn launch`` was told to launch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.simulations.cli.orders.run_order import Order
from fed_unlearn.text import quoted

if TYPE_CHECKING:
    from fed_unlearn.simulations.deployment.layout import Layout
    from fed_unlearn.simulations.deployment.printed import Plan
    from fed_unlearn.simulations.scenario import Scenario


def _numbers(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() for part in parts):
        raise InvalidParameterError(f"--gpus {quoted(text)}: expected numbers of GPUs, such as 0,1")
    return tuple(int(part) for part in parts)


@dataclass(frozen=True, kw_only=True)
class LaunchOrder(Order):
    """A run on a SuperLink and nodes of its own, all on this machine."""

    nodes: Annotated[int | None, Option(min=1, help="Number of nodes.", show_default="the scenario's clients")] = None
    gpus: Annotated[
        tuple[int, ...], Option(parser=_numbers, metavar="N,N", help="A GPU for each node, in turn: 0,1.")
    ] = ()
    tls: Annotated[bool, Option("--tls", help="Encrypt all connections, with new certificates.")] = False
    auth: Annotated[bool, Option("--auth", help="Take no nodes but those that launch made keys for; needs --tls.")] = (
        False
    )
    port: Annotated[int | None, Option(min=1, max=65535, help="The SuperLink's port.", show_default="a free one")] = (
        None
    )
    keep: Annotated[bool, Option("--keep", help="Leave all up after the run, until Ctrl-C or SIGTERM.")] = False

    printed: Annotated[
        bool, Option("--print", help="Print the commands for machines of their own instead; needs --host.")
    ] = False
    host: Annotated[str | None, Option(metavar="ADDRESS", help="The SuperLink's name or address, with --print.")] = None

    @property
    def runs_on(self) -> str:
        """Flower's deployment runtime."""
        return "superlink"

    @property
    def going_on(self) -> str:
        """The command that goes on with such a run, up to the run folder."""
        return "fed-unlearn launch --resume"

    def layout(self, scenario: Scenario, out: Path) -> Layout:
        """The federation of this order. A run that goes on has TLS and keys if it was begun with them.

        Parameters
        ----------
        scenario : Scenario
        out : Path
            The run folder.

        Raises
        ------
        InvalidParameterError
            If there is not one node for each client of the scenario.
        """
        from fed_unlearn.simulations.deployment.layout import Layout

        if self.host is not None and not self.printed:
            raise InvalidParameterError("--host without --print: all is on this machine; leave it out, or give --print")
        clients = scenario.clients.count
        nodes = self.nodes if self.nodes is not None else clients
        if nodes != clients:
            remedy = f"give --nodes {clients}"
            if self.resume is None:
                remedy += f", or --set clients.count={nodes} and requests of clients that are there"
            raise InvalidParameterError(f"--nodes {nodes}: scenario {scenario.name} has {clients} clients; {remedy}")
        keys = out / "keys"
        return Layout(
            nodes=nodes,
            gpus=self.gpus,
            tls=self.tls or (keys / "ca.crt").exists(),
            auth=self.auth or (keys / "node-0.key").exists(),
            port=self.port,
        )

    def plan(self) -> Plan:
        """What is to be run on machines of their own.

        Raises
        ------
        InvalidParameterError
            If what was given says nothing to that, or something is missing.
        """
        from fed_unlearn.simulations.deployment.certificates import alternative_name
        from fed_unlearn.simulations.deployment.printed import Plan

        of_no_use = {
            **{"--out": self.out, "--resume": self.resume, "--keep": self.keep},
            **{"--ledger-key": self.ledger_key, "--receipt-key": self.receipt_key},
        }
        if given := [name for name, value in of_no_use.items() if value]:
            raise InvalidParameterError(f"--print with {', '.join(given)}: leave it out; the commands can be edited")
        if self.host is None:
            raise InvalidParameterError("--print without --host: give the address at which nodes reach the SuperLink")
        alternative_name(self.host)
        scenario = self.loaded_scenario()
        file = Path(self.scenario).expanduser()
        settings: dict[str, object] = {"scenario": str(file.resolve()) if file.is_file() else self.scenario}
        if self.all_overrides:
            settings["set"] = "; ".join(self.all_overrides)
        if self.seed is not None:
            settings["seed"] = self.seed
        if self.oracle:
            settings["oracle"] = True
        folder = f"fed-unlearn/{scenario.name}-seed{scenario.seed}"
        return Plan(layout=self.layout(scenario, Path()), host=self.host, folder=folder, settings=settings)
