"""What every audit of a request obeys: how a holder counts, how counts add, and what the figure is."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from fed_unlearn.audits.figures import Figures, extra_names
from fed_unlearn.audits.measured import Measured
from fed_unlearn.audits.observation import Judged, Observation
from fed_unlearn.audits.sides import Side
from fed_unlearn.errors import InvalidDataError, InvalidParameterError
from fed_unlearn.registry import Registry
from fed_unlearn.requests import SCOPES, ScopeKind
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
    "extra_names",
    "is_count",
]

Number = int | float

Level = Literal["default", "full"]
"""``"default"`` audits run with every request; ``"full"`` ones where they are asked for, since they cost more."""

WITH_FIELDS = frozenset({"forget_accuracy", "membership_auc", "client_confidence"})
"""Audits whose figures have fields of their own in :class:`~fed_unlearn.audits.figures.Figures`."""

LARGEST_COUNT = 2**63 - 1
"""Counts fit 63 bits."""


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
        Name under which the audit is registered.
    level : str
        Level at which the audit runs, ``"default"`` or ``"full"``.
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
        "fed_unlearn.audits.samples.above_reference",
        "fed_unlearn.audits.samples.lira",
        "fed_unlearn.audits.samples.ulira",
        "fed_unlearn.audits.clients.client_membership",
        "fed_unlearn.audits.clients.backdoor",
        "fed_unlearn.audits.clients.parameter_difference",
        "fed_unlearn.audits.clients.loss_rise",
    ),
)


def _sum(first: Number | list[Number], second: Number | list[Number]) -> Number | tuple[Number, ...]:
    if isinstance(first, list) and isinstance(second, list):
        if not first or not second:
            return tuple(first or second)
        return tuple(left + right for left, right in zip(first, second, strict=True))
    if isinstance(first, list) or isinstance(second, list):
        raise ValueError("counts were given of which one is a list and the other a number; expected both of one kind")
    return first + second
