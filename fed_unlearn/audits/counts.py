"""What one holder counts of one model, as plain data that can be added."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeVar, cast

from fed_unlearn.audits.accuracy import ClassCounts, ForgetAccuracy
from fed_unlearn.audits.asked import count_extra
from fed_unlearn.audits.attack import MembershipAttack
from fed_unlearn.audits.base import AUDITS, Number, Observation, RequestAudit
from fed_unlearn.audits.confidence import ClientConfidence

Part = Literal["retain", "validation", "test"]
ALL_PARTS: tuple[Part, ...] = ("retain", "validation", "test")

K = TypeVar("K")
V = TypeVar("V", bound=Any)

_HITS = ("correct", "total", "class_totals")
_CONFIDENCE = frozenset(field.name for field in fields(ClientConfidence))


@dataclass(frozen=True)
class RequestCounts:
    """One holder's share of what is measured of one request, or the sum of several holders' shares.

    Attributes
    ----------
    hits : ForgetAccuracy
    membership : MembershipAttack
    extra : mapping of str to RequestAudit
        Counts of other packages' audits, by the audit's name.
    confidence : ClientConfidence
        Sums of log-odds for a client request; empty for other scopes.
    """

    hits: ForgetAccuracy = field(default_factory=ForgetAccuracy)
    membership: MembershipAttack = field(default_factory=MembershipAttack)
    extra: Mapping[str, RequestAudit] = field(default_factory=dict)
    confidence: ClientConfidence = field(default_factory=ClientConfidence)

    @classmethod
    def of(cls, seen: Observation, extra: Collection[str] = ()) -> RequestCounts:
        """Count what one holder has; ``extra`` names audits of other packages."""
        built_in = ForgetAccuracy.count(seen), MembershipAttack.count(seen)
        return cls(*built_in, count_extra(seen, extra), ClientConfidence.count(seen))

    def __add__(self, other: RequestCounts) -> RequestCounts:
        return RequestCounts(
            self.hits + other.hits,
            self.membership + other.membership,
            _merged(self.extra, other.extra),
            self.confidence + other.confidence,
        )

    def fits(self, class_count: int) -> bool:
        """Whether the counts can be those of a federation with so many classes."""
        return all(audit.fits(class_count) for audit in self._audits())

    def _audits(self) -> tuple[RequestAudit, ...]:
        return (self.hits, self.membership, self.confidence, *self.extra.values())

    def to_numbers(self) -> dict[str, Number | list[Number]]:
        """Counts of the built-in audits by field, those of others by ``name/field``."""
        numbers = {**self.hits.to_numbers(), **self.membership.to_numbers()}
        numbers.update({key: value for key, value in self.confidence.to_numbers().items() if value})
        for name, audit in self.extra.items():
            numbers.update({f"{name}/{key}": value for key, value in audit.to_numbers().items()})
        return numbers

    @classmethod
    def from_numbers(cls, numbers: Mapping[str, object]) -> RequestCounts:
        """Read what :meth:`to_numbers` wrote.

        Raises
        ------
        InvalidDataError
            If they are not such counts.
        InvalidParameterError
            If an audit is unknown.
        """
        hits, membership, sums = dict[str, object](), dict[str, object](), dict[str, object]()
        extra: dict[str, dict[str, object]] = {}
        for key, value in numbers.items():
            name, slash, count = key.rpartition("/")
            built_in = hits if key in _HITS else sums if key in _CONFIDENCE else membership
            of = extra.setdefault(name, {}) if slash else built_in
            of[count] = value
        return cls(
            ForgetAccuracy.from_numbers(hits),
            MembershipAttack.from_numbers(membership),
            {name: AUDITS.find(name).from_numbers(counted) for name, counted in extra.items()},
            ClientConfidence.from_numbers(sums),
        )


@dataclass(frozen=True)
class ClientCounts:
    """What one client counted of one model, or the sum of several clients' counts.

    Attributes
    ----------
    parts : mapping of part to ClassCounts
        Counts by part: ``"retain"``, ``"validation"`` and ``"test"``.
    targets : mapping of str to RequestCounts
        Counts of each request's samples, by request.
    forward_passes : int
        Samples that were pushed through the model for the built-in audits.
    """

    parts: Mapping[Part, ClassCounts] = field(default_factory=dict)
    targets: Mapping[str, RequestCounts] = field(default_factory=dict)
    forward_passes: int = 0

    def __add__(self, other: ClientCounts) -> ClientCounts:
        return ClientCounts(
            _merged(self.parts, other.parts),
            _merged(self.targets, other.targets),
            self.forward_passes + other.forward_passes,
        )

    def to_json(self) -> dict[str, object]:
        """As JSON; :meth:`from_json` reads it back."""
        return {
            "parts": {part: counts.to_numbers() for part, counts in self.parts.items()},
            "targets": {name: counts.to_numbers() for name, counts in self.targets.items()},
            "forward_passes": self.forward_passes,
        }

    @classmethod
    def from_numbers(
        cls, parts: Mapping[str, Mapping[str, object]], targets: Mapping[str, Mapping[str, object]], forward_passes: int
    ) -> ClientCounts:
        """Read counts by part and by request, as their ``to_numbers`` wrote them.

        Raises
        ------
        InvalidDataError, InvalidParameterError
            If they are not such counts.
        """
        return cls(
            {cast(Part, part): ClassCounts.from_numbers(numbers) for part, numbers in parts.items()},
            {request_id: RequestCounts.from_numbers(numbers) for request_id, numbers in targets.items()},
            forward_passes,
        )


def _merged(first: Mapping[K, V], second: Mapping[K, V]) -> dict[K, V]:
    """Both, with the sum where both have a key."""
    merged = dict(first)
    for key, counts in second.items():
        merged[key] = merged[key] + counts if key in merged else counts
    return merged
