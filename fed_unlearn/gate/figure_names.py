"""Which figures a gate can have bounds on, and what is wrong with a bound on another."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from fed_unlearn.audits.base import AUDITS, WITH_FIELDS, RequestAudit
from fed_unlearn.audits.reset_names import reset_name
from fed_unlearn.gate.bounds import Bound
from fed_unlearn.requests import ScopeKind
from fed_unlearn.text import quoted

NO_ORACLE_YET = (
    "a federation trains its oracles after the requests, so that no bound can be theirs; give numbers, or hold models"
    " beside oracles in one place with fed_unlearn.local"
)

logger = logging.getLogger("fed_unlearn.gate")


@dataclass(frozen=True)
class FigureSource:
    """Where a figure comes from.

    Attributes
    ----------
    audit : type of RequestAudit
        Audit that measures the figure.
    for_gate : bool
        Whether it is measured of other samples than test samples.
    """

    audit: type[RequestAudit]
    for_gate: bool = True


def figure_sources() -> dict[str, FigureSource]:
    """Every figure of every registered audit, by name; without those that have thresholds of their own.

    The names are those that an audit gives of no sample.
    """
    found: dict[str, FigureSource] = {}
    for name, audit in AUDITS.available().items():
        if name in WITH_FIELDS:
            continue
        try:
            nothing = audit()
            gate_figures, figures = set(nothing.gate_figures), set(nothing.figures)
        except Exception:  # another package's audit may raise anything, and must not keep a scenario from being read
            logger.exception("audit %s cannot say what its figures are", name)
            continue
        found |= {figure: FigureSource(audit, figure in gate_figures) for figure in sorted(figures | gate_figures)}
    return found


def audits_behind(bounds: Mapping[str, Bound], scope: ScopeKind | None = None) -> tuple[str, ...]:
    """Names of the registered audits whose figures have bounds, references included, sorted."""
    if not bounds:
        return ()
    sources = figure_sources()
    names = {*bounds, *(reset_name(name) for name, bound in bounds.items() if bound.beside == "reset-rows")}
    audits = {sources[name].audit for name in names if name in sources}
    return tuple(
        sorted(
            audit.name for audit in audits if audit.not_federated is None and (scope is None or scope in audit.scopes)
        )
    )


def problem_with(name: str, bound: Bound, scope: ScopeKind, sources: Mapping[str, FigureSource]) -> str | None:
    """Why a figure of requests of a scope cannot have this bound, after its name; None where it can."""
    if name in WITH_FIELDS:
        return "has thresholds of its own; see fed_unlearn.gate.Thresholds"
    if name not in sources:
        return f"is no figure of an audit; {_hint(name, scope, sources)}"
    source = sources[name]
    audit = source.audit
    if scope not in audit.scopes:
        return f"is measured of {' and '.join(audit.scopes)} requests; expected a figure of {scope} requests"
    if audit.not_federated is not None:
        return f"comes from audit {quoted(audit.name)}, which no gate can ask for: {audit.not_federated}"
    if not source.for_gate:
        return "is measured of test samples, by which no gate judges"
    if bound.beside == "reset-rows" and reset_name(name) not in sources:
        known = sorted(figure for figure in sources if reset_name(figure) in sources)
        return f"has no reference under reset rows; expected numbers; {' and '.join(known) or 'no figure'} has one"
    lowest, highest = audit.ranges.get(name, (-float("inf"), float("inf")))
    for value in (bound.minimum, bound.maximum):
        if value is not None and not lowest <= value <= highest:
            return f"{value:g} was given; expected a number from {lowest:g} to {highest:g}"
    return None


def known_names(scope: ScopeKind, sources: Mapping[str, FigureSource]) -> list[str]:
    """Figures that requests of a scope can have bounds on."""
    return [
        name
        for name, source in sources.items()
        if scope in source.audit.scopes and source.audit.not_federated is None and source.for_gate
    ]


def _hint(name: str, scope: ScopeKind, sources: Mapping[str, FigureSource]) -> str:
    known: Collection[str] = known_names(scope, sources)
    close = difflib.get_close_matches(name, known, n=1)
    return f"{f'did you mean {close[0]}? ' if close else ''}known are {', '.join(known) or 'none'}"
