"""What ``fed-unlearn scenarios``, ``methods`` and ``strategies`` print."""

from __future__ import annotations

import tomllib

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fed_unlearn.methods import Method, distribution_of, unavailable
from fed_unlearn.simulations.report.layout import plain_table
from fed_unlearn.simulations.report.method_details import (
    listed_methods,
    parameter_details,
    plain,
    served_scopes,
    summary,
)
from fed_unlearn.simulations.scenario import built_in_scenarios


def print_scenarios() -> None:
    """Print every built-in scenario with its description."""
    table = plain_table("scenario", "what happens")
    for name, path in built_in_scenarios().items():
        table.add_row(name, str(tomllib.loads(path.read_text(encoding="utf-8")).get("description", "")))
    Console().print(table)


def print_methods() -> None:
    """Print every method with its scopes, its paper, what it needs, its parameters, and its package if not built in."""
    console = Console()
    for name, method in listed_methods().items():
        is_local = issubclass(method, Method)
        distribution = distribution_of(name) if is_local else None
        is_control = issubclass(method, Method) and method.is_control
        facts = {
            "does": plain(summary(method)) + (" A control: it only looks like forgetting." if is_control else ""),
            "serves": ", ".join(served_scopes(method)) + " requests" + ("" if is_local else ", run by the server"),
            "needs": method.needs,
            "paper": method.paper,
            "parameters": ", ".join(parameter.name for parameter in parameter_details(method)),
            "from": distribution or "",
        }
        console.print(name, style="bold", markup=False, highlight=False)
        table = Table.grid(padding=(0, 1, 0, 2))
        for key, value in facts.items():
            if value:
                table.add_row(key, Text(value))
        console.print(table)
    for reason in unavailable().values():
        console.print(reason, markup=False, highlight=False, soft_wrap=True)
    console.print("fed-unlearn methods NAME explains one and its parameters", highlight=False)


def print_strategies() -> None:
    """Print every strategy of Flower: its paper, its parameters, how unlearning treats it, or why it is refused."""
    from fed_unlearn.simulations.report.strategy_details import strategy_facts
    from fed_unlearn.simulations.scenario.strategy_catalogue import PAPERS

    console = Console()
    for name, paper in PAPERS.items():
        console.print(name, style="bold", markup=False, highlight=False)
        table = Table.grid(padding=(0, 1, 0, 2))
        for key, value in {"paper": paper, **strategy_facts(name)}.items():
            if value:
                table.add_row(key, Text(value))
        console.print(table)
    console.print("parameters go into [training.parameters] of a scenario", markup=False, highlight=False)
