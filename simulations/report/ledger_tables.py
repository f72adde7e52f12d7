"""What ``fed-unlearn request`` and ``fed-unlearn ledger`` print, as tables or as JSON."""

from __future__ import annotations

import json
import math
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fed_unlearn.class_names import UNNAMED_CLASSES, ClassNames
from fed_unlearn.ledger import Ledger, LedgerEntry, LedgerEvent
from fed_unlearn.ledger.lifecycle import FINAL
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.scopes import classes_named
from fed_unlearn.simulations.report.layout import MOST_PRINTED, plain_table
from fed_unlearn.simulations.report.outcome_facts import (
    evidence_of,
    goal_of,
    goal_text,
    number_text,
    outcome_facts,
    witnesses_of,
)
from fed_unlearn.text import printable

_UNBOUNDED = 10_000  # columns, where the output is no terminal: nothing is folded


def is_overdue(entry: LedgerEntry) -> bool:
    """Whether a request's deadline has passed and the request has not ended."""
    deadline = entry.request.deadline
    return deadline is not None and deadline < time.time() and entry.status not in FINAL


def entry_json(entry: LedgerEntry, names: ClassNames = UNNAMED_CLASSES) -> dict[str, object]:
    """A request as a JSON object, with what the data calls its classes. Times are seconds since the epoch."""
    request = entry.request
    return {
        "id": entry.id,
        "scope": request.scope.kind,
        "target": request.target(),
        "labels": names.labels(classes_named(request.scope)) if names.names else [],
        "method": request.method,
        "parameters": dict(request.parameters),
        "priority": request.priority,
        "deadline": request.deadline,
        "overdue": is_overdue(entry),
        "status": entry.status.value,
        "evidence": evidence_of(entry),
        "goal": goal_of(entry),
        "witnesses": witnesses_of(entry),
        "attempt": entry.attempt,
        "reason": entry.reason,
        "method_in_use": entry.method,
        "approved": entry.approved,
        "ever_committed": entry.ever_committed,
        "release_due": entry.release_due,
        "received": entry.received,
        "owed": list(entry.owed),
        "outcome": entry.outcome,
    }


def event_json(event: LedgerEvent) -> dict[str, object]:
    """An event as a JSON object."""
    return {
        "sequence": event.sequence,
        "time": event.time,
        "request": event.request_id,
        "name": event.name,
        "attempt": event.attempt,
        "facts": dict(event.facts),
        "digest": event.digest,
    }


def ledger_summary(ledger: Ledger) -> dict[str, object]:
    """The digest of the served model, and counts of requests by status and of clients."""
    entries, names = ledger.entries(), ledger.class_names()
    forgotten = sorted(ledger.forgotten_classes())
    return {
        "ledger": str(ledger.path),
        "served_model": ledger.served_model(),
        "requests": dict(Counter(entry.status.value for entry in entries)),
        "forgotten_classes": forgotten,
        "forgotten_labels": names.labels(forgotten) if names.names else [],
        "clients": {
            "known": len(ledger.known_clients()),
            "departed": len(ledger.departed()),
            "owed": len({client for entry in entries for client in entry.owed}),
        },
    }


def print_json(value: object) -> None:
    """Print a value as strict JSON. Numbers that are not finite become null."""
    print(json.dumps(_finite(value), indent=2, allow_nan=False))


def print_entries(entries: Iterable[LedgerEntry], names: ClassNames = UNNAMED_CLASSES) -> None:
    """Print a table with a line for each request."""
    headings = ("id", "scope", "target", "goal", "status", "evidence", "witnesses", "attempt", "method", "priority")
    table = plain_table(*headings, "deadline", "reason")
    for entry in entries:
        request = entry.request
        _add(
            table,
            *(entry.id, request.scope.kind, target_text(request, names), goal_text(goal_of(entry)), entry.status),
            *(evidence_of(entry) or "", number_text(witnesses_of(entry)), str(entry.attempt)),
            *(entry.method or request.method or "", str(request.priority), _deadline_text(entry), entry.reason or ""),
        )
    _console().print(table)


def print_entry(entry: LedgerEntry, events: Iterable[LedgerEvent], names: ClassNames = UNNAMED_CLASSES) -> None:
    """Print all facts about one request, and its events."""
    request = entry.request
    facts = {
        "request": entry.id,
        "scope": request.scope.kind,
        "target": target_text(request, names),
        "method": entry.method or request.method,
        "parameters": ", ".join(f"{name}={value}" for name, value in request.parameters.items()),
        "priority": str(request.priority),
        "deadline": _deadline_text(entry),
        "received": time_text(entry.received),
        "status": f"{entry.status}, attempt {entry.attempt}",
        "approved": "yes" if entry.approved else None,
        "reason": entry.reason,
        "owed to": ", ".join(entry.owed),
        **outcome_facts(entry),
    }
    _print_facts(facts)
    _print_events(events, of_request=True)


def print_ledger(
    summary: Mapping[str, object], events: Iterable[LedgerEvent], names: ClassNames = UNNAMED_CLASSES
) -> None:
    """Print a summary of :func:`ledger_summary` and the events."""
    counts = {name: dict(value) for name, value in summary.items() if isinstance(value, dict)}
    classes = [item for item in _as_list(summary["forgotten_classes"]) if isinstance(item, int)]
    facts = {
        "ledger": str(summary["ledger"]),
        "model": str(summary["served_model"] or "none accepted yet"),
        "requests": ", ".join(f"{count} {status}" for status, count in counts["requests"].items()) or "none",
        "forgotten": ", ".join(f"class {names.shown(item)}" for item in classes),
        "classes": names.listed(range(len(names.names))) if names.differ else None,
        "clients": ", ".join(f"{count} {what}" for what, count in counts["clients"].items()),
    }
    _print_facts(facts)
    _print_events(events)


def target_text(request: ForgetRequest, names: ClassNames = UNNAMED_CLASSES) -> str:
    """Say in a few words what a request forgets."""
    target, classes = request.target(), names.listed(classes_named(request.scope))
    if "classes" in target:
        return classes
    client = f"client {target['client']}"
    if "sample_ids" in target:
        return f"{client}: {', '.join(str(item) for item in _as_list(target['sample_ids']))}"
    if "queued" in target:
        of_class = f" of class {classes}" if classes else ""
        return f"{client}: {target['count']} samples{of_class} that its owner named"
    if "samples" in target:
        of_class = f" of class {classes}" if classes else ""
        return f"{client}: {target['samples']} samples{of_class}"
    return client


def _as_list(value: object) -> list[object]:
    return list(value) if isinstance(value, list) else [value]


def _print_facts(facts: Mapping[str, str | None]) -> None:
    console = _console()
    width = max(map(len, facts)) + 2
    for name, value in facts.items():
        if value:
            console.print(
                Text(f"{name:<{width}}", style="bold").append(printable(value, MOST_PRINTED), style="not bold")
            )


def _print_events(events: Iterable[LedgerEvent], *, of_request: bool = False) -> None:
    table = plain_table("event", "time", *(() if of_request else ("request",)), "name", "attempt", "facts")
    for event in events:
        own = () if of_request else (event.request_id or "",)
        facts = ", ".join(f"{name} {value}" for name, value in event.facts.items())
        _add(table, str(event.sequence), time_text(event.time), *own, event.name, str(event.attempt), facts)
    console = _console()
    console.print()
    console.print(table)


def _deadline_text(entry: LedgerEntry) -> str:
    if entry.request.deadline is None:
        return ""
    return time_text(entry.request.deadline) + (" overdue" if is_overdue(entry) else "")


def time_text(seconds: float) -> str:
    """A moment, given in seconds since the epoch, as local date and time."""
    try:
        return datetime.fromtimestamp(seconds).isoformat(" ", "seconds")
    except (OverflowError, OSError, ValueError):
        return f"{seconds:g} s"


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def _add(table: Table, *cells: str) -> None:
    """Add a row. Names and reasons come from clients, and may hold characters that control a terminal."""
    table.add_row(*(Text(printable(cell, MOST_PRINTED)) for cell in cells))


def _console() -> Console:
    is_terminal = sys.stdout is not None and sys.stdout.isatty()  # None where standard output is closed
    return Console(highlight=False) if is_terminal else Console(highlight=False, width=_UNBOUNDED)
