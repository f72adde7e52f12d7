"""What every audit of a request obeys: how a holder counts, how counts add, and what the figure is."""

from __future__ import annotations

import dataclasses
import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import InvalidDataError, InvalidParameterError
from fed_unlearn.registry import Registry
from fed_unlearn.requests import ScopeKind
from fed_unlearn.seeding import isolated_random
from fed_unlearn.text import quoted

Number = int | float
BUILT_IN = frozenset({"forget_accuracy", "membership_auc", "client_confidence"})
"""Audits whose figures have fields of their own in :class:`~fed_unlearn.audits.pooled.Figures`."""

LARGEST_COUNT = 2**63 - 1
"""Counts fit 63 bits."""

logger = logging.getLogger("fed_unlearn.audits")


def is_count(value: Number) -> bool:
    """Whether a number is finite, not below 0, and fits 63 bits."""
    return 0 <= value <= LARGEST_COUNT


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Accuracies as fractions of 1, and the membership attack's AUC; None where there is nothing to measure.

    Attributes
    ----------
    forget_accuracy, retain_accuracy : float or None
        Top-1 on D_f and on D_r (training samples).
    test_forget_accuracy, test_retain_accuracy : float or None
        Top-1 on D_ft and on D_rt (test samples); the former only where whole classes are forgotten.
    membership_auc : float or None
        0.5 means that D_f cannot be told from unseen samples of the same classes.
    extra : mapping of str to (float or None)
        Of other packages' audits, by name; left out of JSON where there are none.
    client_confidence, staying_confidence : float or None
        For a client request: how much surer the model is, in mean log-odds, of the client's samples than of validation
        samples of their classes, and the same of the samples of the clients that stay. Left out of JSON where None.
    """

    forget_accuracy: float | None
    retain_accuracy: float | None
    test_forget_accuracy: float | None
    test_retain_accuracy: float | None
    membership_auc: float | None
    extra: Mapping[str, float | None] = field(default_factory=dict)
    client_confidence: float | None = None
    staying_confidence: float | None = None

    def named(self) -> dict[str, float | None]:
        """All figures by name, those of other packages last."""
        fields = {name: value for name, value in self.to_json().items() if isinstance(value, float | None)}
        return {**fields, **self.extra}

    def to_json(self) -> dict[str, object]:
        """As JSON: the fields by name."""
        optional = {"extra": bool(self.extra)}
        optional |= {name: getattr(self, name) is not None for name in ("client_confidence", "staying_confidence")}
        return {name: value for name, value in vars(self).items() if optional.get(name, True)}


def extra_names(several: Iterable[Figures | None]) -> list[str]:
    """Names of the figures of other packages' audits that some of these have, sorted."""
    return sorted({name for figures in several if figures is not None for name in figures.extra})


@dataclass(frozen=True)
class Judged:
    """Samples, and what the model says of them.

    Attributes
    ----------
    source : SampleSet
        Holds the samples.
    positions : Tensor of shape (n,), int64
        Of the samples in ``source``.
    logits : Tensor of shape (n, classes), float32
    """

    source: SampleSet
    positions: Tensor
    logits: Tensor

    @classmethod
    def whole(cls, samples: SampleSet, logits: Tensor) -> Judged:
        """All of some samples."""
        return cls(samples, torch.arange(len(samples)), logits)

    def where(self, chosen: Tensor) -> Judged:
        """The samples at which ``chosen``, of shape (n,) and bool, is true."""
        return Judged(self.source, self.positions[chosen], self.logits[chosen])

    def of_classes(self, classes: Tensor) -> Judged:
        """The samples whose label is one of the classes."""
        return self.where(torch.isin(self.labels, classes))

    @cached_property
    def labels(self) -> Tensor:
        """True classes, of shape (n,), int64."""
        return self.source.labels[self.positions]

    @cached_property
    def samples(self) -> SampleSet:
        """The samples themselves."""
        return self.source.subset(self.positions)

    def __len__(self) -> int:
        return len(self.positions)


@dataclass(frozen=True, kw_only=True)
class Observation:
    """All that an audit may read of one model for one request.

    Attributes
    ----------
    model : nn.Module
        Never to be changed: an audit that trains works on a copy.
    scope : str
        Of the request: ``"class"``, ``"sample"`` or ``"client"``.
    class_count : int
    forget : Judged
        D_f, or the holder's part of it; no sample where the holder has none or may not read them.
    outsiders : Judged or None
        Test samples of the classes that the request names, or else of those of ``forget``; None without test samples.
    unseen : Judged or None
        For a sample request, validation samples of the same classes that no method reads.
    validation, retained : Judged or None
        For a client request, the holder's validation samples, and its retained training samples where it stays.
    seed : int
        Of all that the audit draws.
    """

    model: nn.Module
    scope: ScopeKind
    class_count: int
    forget: Judged
    outsiders: Judged | None = None
    unseen: Judged | None = None
    validation: Judged | None = None
    retained: Judged | None = None
    seed: int = 0


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
    """

    name: ClassVar[str]

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

    def fits(self, class_count: int) -> bool:
        """Whether the counts can be those of a federation with so many classes; always, unless a subclass knows."""
        return True


AUDITS: Registry[RequestAudit] = Registry(
    "audit",
    contract="fed_unlearn.audits.base:RequestAudit",
    group="fed_unlearn.audits",
    built_in=("fed_unlearn.audits.accuracy", "fed_unlearn.audits.attack", "fed_unlearn.audits.confidence"),
)


def extra_audits() -> tuple[str, ...]:
    """Names of the audits of other packages; their figures stand beside the built-in ones.

    Raises
    ------
    InvalidParameterError
        If a name is that of a figure of :class:`~fed_unlearn.audits.pooled.Figures`, or holds a slash.
    """
    names = tuple(name for name in AUDITS.available() if name not in BUILT_IN)
    taken = {field.name for field in dataclasses.fields(Figures)}
    for name in names:
        if name in taken or "/" in name:
            raise InvalidParameterError(
                f"audit {name!r}: expected a name without a slash that is none of {', '.join(sorted(taken))}"
            )
    return names


def count_extra(seen: Observation, names: Collection[str]) -> dict[str, RequestAudit]:
    """What audits of other packages count, by name; without those that are not installed here, and those that fail."""
    known, counted = AUDITS.available(), dict[str, RequestAudit]()
    for name in names:
        if name not in known:
            logger.warning("audit %s is not installed here; its figure is left out", name)
            continue
        try:
            with isolated_random(seen.seed):
                counted[name] = known[name].from_numbers(known[name].count(seen).to_numbers())
        except Exception:  # another package's audit may raise anything, and must not keep a request from being served
            logger.exception("audit %s failed; its figure is left out", name)
    return counted


def values_of(counts: Mapping[str, RequestAudit]) -> dict[str, float | None]:
    """The figures of audits of other packages, by name; None for one that has none, or fails."""
    values: dict[str, float | None] = {}
    for name, counted in counts.items():
        value = None
        try:
            value = counted.value
        except Exception:  # as in count_extra
            logger.exception("audit %s failed; it has no figure", name)
        values[name] = float(value) if value is not None and math.isfinite(value) else None
    return values


def _sum(first: Number | list[Number], second: Number | list[Number]) -> Number | tuple[Number, ...]:
    if isinstance(first, list) and isinstance(second, list):
        if not first or not second:
            return tuple(first or second)
        return tuple(left + right for left, right in zip(first, second, strict=True))
    if isinstance(first, list) or isinstance(second, list):
        raise ValueError("counts were given of which one is a list and the other a number; expected both of one kind")
    return first + second
