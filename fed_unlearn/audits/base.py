"""What every audit of a request obeys: how a holder counts, how counts add, and what the figure is."""

from __future__ import annotations

import dataclasses
import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from fed_unlearn.audits.figures import Figures, extra_names
from fed_unlearn.audits.measured import Measured
from fed_unlearn.audits.observation import Judged, Observation
from fed_unlearn.audits.sides import Compared, Side
from fed_unlearn.errors import InvalidDataError, InvalidParameterError
from fed_unlearn.registry import Registry
from fed_unlearn.requests import SCOPES, ScopeKind
from fed_unlearn.seeding import isolated_random
from fed_unlearn.text import quoted

__all__ = [
    "AUDITS",
    "LARGEST_COUNT",
    "WITH_FIELDS",
    "CentralAudit",
    "Counts",
    "Figures",
    "Judged",
    "Level",
    "Measured",
    "Number",
    "Observation",
    "RequestAudit",
    "built_in_figures",
    "count_extra",
    "extra_audits",
    "extra_names",
    "is_count",
    "may_be_asked",
    "measured_of",
]

Number = int | float

Level = Literal["default", "full"]
"""``"default"`` audits run with every request; ``"full"`` ones where they are asked for, since they cost more."""

WITH_FIELDS = frozenset({"forget_accuracy", "membership_auc", "client_confidence"})
"""Audits whose figures have fields of their own in :class:`~fed_unlearn.audits.figures.Figures`."""

LARGEST_COUNT = 2**63 - 1
"""Counts fit 63 bits."""

logger = logging.getLogger("fed_unlearn.audits")


def is_count(value: Number) -> bool:
    """Whether a number is finite, not below 0, and fits 63 bits."""
    return 0 <= value <= LARGEST_COUNT


@dataclass(frozen=True)
class Counts:
    """Counts and sums that travel as plain numbers: every field is an int, a float, or a tuple of one of them.

    Every field has a default, and an object made of the defaults is what is counted of no sample.
    """

    def __add__(self, other: Self) -> Self:
        """Both, field by field.

        Raises
        ------
        ValueError
            If two tuples have different lengths, and none of them is empty.
        """
        mine, others = self.to_numbers(), other.to_numbers()
        return type(self)(**{name: _sum(mine[name], others[name]) for name in mine})

    def to_numbers(self) -> dict[str, Number | list[Number]]:
        """The fields by name, tuples as lists; :meth:`from_numbers` reads them back."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_numbers(cls, numbers: Mapping[str, object]) -> Self:
        """Read what :meth:`to_numbers` wrote, perhaps elsewhere.

        Raises
        ------
        InvalidDataError
            If a field is unknown or of another type, or a number is below 0, not finite or larger than 63 bits.
        """
        defaults = {field.name: field.default for field in dataclasses.fields(cls)}
        fields: dict[str, Any] = {}
        for name, value in numbers.items():
            items = value if isinstance(value, list) else [value]
            kind = int if isinstance(defaults.get(name), int) else (int, float)
            is_known = name in defaults and isinstance(value, list) is isinstance(defaults[name], tuple)
            if not is_known or not all(isinstance(item, kind) and is_count(item) for item in items):
                raise InvalidDataError(
                    f"{cls.__name__}: {quoted(name)} is unknown, of another type, below 0, not finite or too large"
                )
            fields[name] = tuple(items) if isinstance(value, list) else value
        return cls(**fields)


@dataclass(frozen=True)
class RequestAudit(Counts, ABC):
    """One question asked of a model about one request; an object of it holds what was counted so far.

    A subclass is a frozen dataclass in a file of its own. Its fields are the counts; samples never leave a holder.

    Attributes
    ----------
    name : str
        By which it is registered.
    level : str
        ``"default"`` or ``"full"``.
    scopes : tuple of str
        Scopes of the requests that it can be asked about.
    cost : str
        What it costs beyond reading each sample once, in a few words.
    not_federated : str or None
        Why holders cannot count it each by themselves; None where their counts add up to the figure.
    sides : tuple of Side
        Which samples the counts are of. A server holds them against what a client has, and scales them down with the
        client's other counts; what an audit without sides counts at such a client is left out.
    ranges : mapping of str to (float, float)
        The least and the largest that a figure can be, by name, where that is known: bounds of a gate are within it.
    """

    name: ClassVar[str]
    level: ClassVar[Level] = "default"
    scopes: ClassVar[tuple[ScopeKind, ...]] = SCOPES
    cost: ClassVar[str] = "nothing"
    not_federated: ClassVar[str | None] = None
    sides: ClassVar[tuple[Side, ...]] = ()
    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {}

    @classmethod
    @abstractmethod
    def count(cls, seen: Observation) -> Self:
        """Count what one holder has.

        Parameters
        ----------
        seen : Observation
        """

    @property
    @abstractmethod
    def value(self) -> float | None:
        """The figure; None where there is nothing to measure."""

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the figure; None unless a subclass knows it."""
        return None

    @property
    def figures(self) -> Mapping[str, Measured]:
        """All figures by name; the one figure by the audit's name, unless a subclass has several."""
        return {self.name: Measured(self.value, self.interval)}

    @property
    def gate_figures(self) -> Mapping[str, Measured]:
        """What a gate may look at, by the same names; a subclass that reads test samples leaves them out here."""
        return self.figures

    def fits(self, class_count: int) -> bool:
        """Whether the counts can be those of a federation with so many classes; always, unless a subclass knows."""
        return True

    def compared(self, others: Self) -> Iterable[Compared]:
        """What one holder counts beside all others: a server doubts what differs too much. Nothing by default."""
        return ()


@dataclass(frozen=True)
class CentralAudit(RequestAudit):
    """An audit that needs the model and all samples in one place: ``seen.central`` is there when it counts."""

    level: ClassVar[Level] = "full"
    not_federated: ClassVar[str | None] = "it needs the model and all samples in one place"

    def __add__(self, other: Self) -> Self:
        """Refused: the figures of two places are not that of both.

        Raises
        ------
        InvalidParameterError
            Always.
        """
        raise InvalidParameterError(f"audit {self.name!r} cannot be added up over holders: {self.not_federated}")


AUDITS: Registry[RequestAudit] = Registry(
    "audit",
    contract="fed_unlearn.audits.base:RequestAudit",
    group="fed_unlearn.audits",
    built_in=(
        "fed_unlearn.audits.accuracy",
        "fed_unlearn.audits.attack",
        "fed_unlearn.audits.confidence",
        "fed_unlearn.audits.outputs.logit_ranking",
        "fed_unlearn.audits.outputs.recall_without_bias",
        "fed_unlearn.audits.outputs.reset_rows",
        "fed_unlearn.audits.outputs.sureness",
        "fed_unlearn.audits.outputs.destinations",
        "fed_unlearn.audits.outputs.destination_distance",
        "fed_unlearn.audits.outputs.oracle_distance",
        "fed_unlearn.audits.outputs.tug_of_war",
        "fed_unlearn.audits.outputs.splits",
        "fed_unlearn.audits.outputs.population",
        "fed_unlearn.audits.features.linear_probe",
        "fed_unlearn.audits.features.nearest_mean",
        "fed_unlearn.audits.features.prototype",
        "fed_unlearn.audits.features.alignment",
        "fed_unlearn.audits.features.information",
        "fed_unlearn.audits.outputs.streisand",
        "fed_unlearn.audits.relearning_grid",
        "fed_unlearn.audits.samples.lira",
        "fed_unlearn.audits.samples.ulira",
        "fed_unlearn.audits.clients.client_membership",
        "fed_unlearn.audits.clients.backdoor",
        "fed_unlearn.audits.clients.parameter_difference",
        "fed_unlearn.audits.clients.loss_rise",
    ),
)


def extra_audits(scope: ScopeKind | None = None) -> tuple[str, ...]:
    """Names of the audits that run with every request and have no field of their own in ``Figures``.

    Parameters
    ----------
    scope : str, optional
        Only those that can be asked about requests of this scope.

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
        By the audit's name.
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


def _sum(first: Number | list[Number], second: Number | list[Number]) -> Number | tuple[Number, ...]:
    if isinstance(first, list) and isinstance(second, list):
        if not first or not second:
            return tuple(first or second)
        return tuple(left + right for left, right in zip(first, second, strict=True))
    if isinstance(first, list) or isinstance(second, list):
        raise ValueError("counts were given of which one is a list and the other a number; expected both of one kind")
    return first + second
