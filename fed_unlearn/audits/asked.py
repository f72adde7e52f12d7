"""Which audits are asked about a request, what they count, and the figures of what they counted."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Collection, Mapping

from fed_unlearn.audits.base import AUDITS, WITH_FIELDS, RequestAudit
from fed_unlearn.audits.figures import Figures
from fed_unlearn.audits.measured import Measured
from fed_unlearn.audits.observation import Observation
from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.requests import ScopeKind
from fed_unlearn.seeding import isolated_random

logger = logging.getLogger("fed_unlearn.audits")


def extra_audits(scope: ScopeKind | None = None) -> tuple[str, ...]:
    """Names of the audits that run with every request and have no field of their own in ``Figures``.

    Parameters
    ----------
    scope : str, optional
        Scope of the requests. Only audits that can be asked about such requests are named; all if None.

    Raises
    ------
    InvalidParameterError
        If a name is that of a field of :class:`~fed_unlearn.audits.figures.Figures`, or holds a slash.
    """
    known = AUDITS.available()
    taken = {field.name for field in dataclasses.fields(Figures)}
    for name in known.keys() - WITH_FIELDS:
        if name in taken or "/" in name:
            raise InvalidParameterError(
                f"audit {name!r}: expected a name without a slash that is none of {', '.join(sorted(taken))}"
            )
    return tuple(
        name
        for name, audit in known.items()
        if name not in WITH_FIELDS
        and audit.level == "default"
        and audit.not_federated is None
        and (scope is None or scope in audit.scopes)
    )


def built_in_figures() -> frozenset[str]:
    """Names of the figures that audits of this package have with every request, beside the fields of ``Figures``."""
    known, package = AUDITS.available(), __name__.rpartition(".")[0]
    own = {name: known[name]() for name in extra_audits() if known[name].__module__.startswith(f"{package}.")}
    return frozenset(measured_of(own))


def may_be_asked(name: str, scope: ScopeKind) -> bool:
    """Whether an audit can be asked about requests of a scope; also where it is not installed here."""
    known = AUDITS.available()
    return name not in known or scope in known[name].scopes


def count_extra(seen: Observation, names: Collection[str]) -> dict[str, RequestAudit]:
    """What audits without a field count, by name; without those of other scopes, not installed here, or that fail."""
    known, counted = AUDITS.available(), dict[str, RequestAudit]()
    for name in names:
        if name not in known:
            logger.warning("audit %s is not installed here; its figure is left out", name)
            continue
        if seen.scope not in known[name].scopes:
            continue
        try:
            with isolated_random(seen.seed):
                counted[name] = known[name].from_numbers(known[name].count(seen).to_numbers())
        except Exception:  # another package's audit may raise anything, and must not keep a request from being served
            logger.exception("audit %s failed; its figure is left out", name)
    return counted


def measured_of(counts: Mapping[str, RequestAudit], *, for_gate: bool = False) -> dict[str, Measured]:
    """The figures of counted audits, by name; None for one that has none, or fails.

    Parameters
    ----------
    counts : mapping of str to RequestAudit
        Counted audit by the audit's name.
    for_gate : bool
        Whether figures of test samples are left out.
    """
    found: dict[str, Measured] = {}
    for name, counted in counts.items():
        try:
            figures = counted.gate_figures if for_gate else counted.figures
            found.update({figure: _finite(measured) for figure, measured in figures.items()})
        except Exception:  # as in count_extra
            logger.exception("audit %s failed; it has no figure", name)
            found[name] = Measured(None)
    return found


def _finite(measured: Measured) -> Measured:
    value, interval = measured.value, measured.interval
    if value is None or not math.isfinite(value):
        return Measured(None)
    return Measured(float(value), interval if interval is not None and all(map(math.isfinite, interval)) else None)
