"""What the ledger keeps of how a request went, in words."""

from __future__ import annotations

import json
from collections.abc import Mapping

from fed_unlearn.ledger import LedgerEntry

_GOALS = {"indistinguishable": "to look unseen", "misclassify": "to be misclassified", "relabel": "to be relabelled"}
_MODELS = ("before", "unlearned", "as_trained", "after")
_TRAFFIC = {
    "messages": "messages",
    "bytes_sent": "bytes sent",
    "bytes_received": "bytes received",
    "forward_passes": "forward passes",
    "backward_passes": "backward passes",
}
_SHOWN_ELSEWHERE = {
    "method",
    "status",
    "attempts",
    "reason",
    "evidence",
    "goal",
    "witnesses",
    "repair_rounds",
    "checks",
}


def goal_text(goal: str | None) -> str:
    """Say what a sample request wants of its samples, such as ``to look unseen``; empty where it has no goal."""
    return _GOALS.get(goal or "", goal or "")


def number_text(number: int | None) -> str:
    """A number, or an empty text."""
    return "" if number is None else str(number)


def evidence_of(entry: LedgerEntry) -> str | None:
    """How the forgetting of a committed request is known, if its outcome says so."""
    known = _outcome_of(entry).get("evidence")
    return None if known is None else str(known)


def goal_of(entry: LedgerEntry) -> str | None:
    """What a sample request wants of its samples: by its outcome, or else as it was asked."""
    goal = _outcome_of(entry).get("goal") or entry.request.parameters.get("goal")
    return None if goal is None else str(goal)


def witnesses_of(entry: LedgerEntry) -> int | None:
    """On how many clients' figures of the forget set the verdict rests, if the outcome says so."""
    found = _outcome_of(entry).get("witnesses")
    return found if isinstance(found, int) else None


def outcome_facts(entry: LedgerEntry) -> dict[str, str | None]:
    """Facts about how a request went, by name. What another program left in the outcome stands last, as JSON."""
    outcome = dict(_outcome_of(entry))
    witnesses = witnesses_of(entry)
    facts = {
        "evidence": evidence_of(entry),
        "goal": goal_text(goal_of(entry)),
        "witnesses": "1: one client alone says so" if witnesses == 1 else number_text(witnesses),
        "forgotten": _count_text(outcome.pop("already_forgotten", None), "of its samples before", plural=""),
        "repair": _count_text(outcome.get("repair_rounds"), "round"),
    }
    for name in _MODELS:
        figures = outcome.get(name)
        if isinstance(figures, Mapping):
            facts[name] = _figures_text(figures)
            del outcome[name]
    facts["cost"] = _cost_text(outcome.pop("seconds", None), outcome.pop("traffic", None))
    rest = {name: value for name, value in outcome.items() if name not in _SHOWN_ELSEWHERE and value is not None}
    facts["outcome"] = json.dumps(rest) if rest else None
    return facts


def _outcome_of(entry: LedgerEntry) -> Mapping[str, object]:
    return entry.outcome if isinstance(entry.outcome, Mapping) else {}


def _figures_text(figures: Mapping[str, object]) -> str:
    """Figures as ``forget accuracy 0.984, retain accuracy 0.976``; those that were not taken are left out."""
    extra = figures.get("extra")
    named = {**figures, **(extra if isinstance(extra, Mapping) else {})}
    shown = {str(name): value for name, value in named.items() if isinstance(value, float)}
    return ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in shown.items())


def _cost_text(seconds: object, traffic: object) -> str:
    counts = traffic if isinstance(traffic, Mapping) else {}
    parts = [f"{seconds:.2f} s"] if isinstance(seconds, float) else []
    return ", ".join([*parts, *(f"{counts[name]} {words}" for name, words in _TRAFFIC.items() if name in counts)])


def _count_text(count: object, what: str, plural: str = "s") -> str:
    return f"{count} {what}{'' if count == 1 else plural}" if isinstance(count, int) and count else ""
