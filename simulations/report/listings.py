"""What ``fed-unlearn scenarios``, ``methods``, ``sources``, ``audits`` and ``strategies`` print."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from fed_unlearn.audits.base import AUDITS
from fed_unlearn.data.sources import SOURCES
from fed_unlearn.methods import METHODS, Method
from fed_unlearn.registry import Registry
from fed_unlearn.simulations.report.layout import plain_table, plain_text, print_line
from fed_unlearn.simulations.report.method_details import parameter_details, plain, registry_of, summary
from fed_unlearn.simulations.scenario import built_in_scenarios
from fed_unlearn.strategies.methods_by_name import known_methods, served_scopes
from fed_unlearn.strategies.server_methods import SERVER_METHODS


def print_scenarios() -> None:
    """Print every built-in scenario with its description."""
    table = plain_table("scenario", "what happens")
    for name, path in built_in_scenarios().items():
        table.add_row(name, plain_text(str(tomllib.loads(path.read_text(encoding="utf-8")).get("description", ""))))
    Console().print(table)


def print_methods() -> None:
    """Print every method with its scopes, its paper, what it needs, its parameters, and its package if not built in."""
    console = Console()
    for name, method in known_methods().items():
        is_of_holders = issubclass(method, Method)
        is_control = issubclass(method, Method) and method.is_control
        facts = {
            "does": plain(summary(method)) + (" A control: it only looks like forgetting." if is_control else ""),
            "serves": ", ".join(served_scopes(method)) + " requests" + ("" if is_of_holders else ", run by the server"),
            "needs": method.needs,
            "inputs": method.inputs if issubclass(method, Method) else "",
            "paper": method.paper,
            "parameters": ", ".join(parameter.name for parameter in parameter_details(method)),
            "from": registry_of(method).distribution_of(name) or "",
        }
        _print_entry(console, name, facts)
    _print_unavailable(console, METHODS)
    _print_unavailable(console, SERVER_METHODS)
    console.print("fed-unlearn methods NAME explains one and its parameters", highlight=False)


def print_sources() -> None:
    """Print every data source as a scenario names it, what it gives, and its package if not built in."""
    _print_registered(SOURCES, {name: source.form() for name, source in SOURCES.available().items()})
    Console().print("a callable of your own is named package.module:callable", highlight=False)


def print_audits() -> None:
    """Print every audit: what it measures, when it runs, of which requests, its cost, and if holders can count it."""
    console = Console()
    for name, audit in AUDITS.available().items():
        facts = {
            "does": plain(summary(audit)),
            "runs": "with every request" if audit.level == "default" else "where asked for, with --audit full",
            "of": ", ".join(audit.scopes) + " requests",
            "costs": f"{audit.cost}, beside reading each sample once",
            "federated": "yes" if audit.not_federated is None else f"no: {audit.not_federated}",
            "from": AUDITS.distribution_of(name) or "",
        }
        _print_entry(console, name, facts)
    _print_unavailable(console, AUDITS)


def print_strategies() -> None:
    """Print every strategy of Flower: its paper, its parameters, how unlearning treats it, or why it is refused."""
    from fed_unlearn.simulations.report.strategy_details import strategy_facts
    from fed_unlearn.simulations.scenario.strategy_catalogue import PAPERS

    console = Console()
    for name, paper in PAPERS.items():
        _print_entry(console, name, {"paper": paper, **strategy_facts(name)})
    console.print("parameters go into [training.parameters] of a scenario", markup=False, highlight=False)


def _print_entry(console: Console, name: str, facts: Mapping[str, str]) -> None:
    console.print(name, style="bold", markup=False, highlight=False)
    table = Table.grid(padding=(0, 1, 0, 2))
    for key, value in facts.items():
        if value:
            table.add_row(key, plain_text(value))
    console.print(table)


def _print_registered(registry: Registry[Any], titles: Mapping[str, str] | None = None) -> None:
    console = Console()
    for name, cls in registry.available().items():
        facts = {"does": plain(summary(cls)), "from": registry.distribution_of(name) or ""}
        _print_entry(console, (titles or {}).get(name, name), facts)
    _print_unavailable(console, registry)


def _print_unavailable(console: Console, registry: Registry[Any]) -> None:
    for reason in registry.unavailable().values():
        print_line(console, reason)
