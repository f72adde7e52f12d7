"""The audit table of a request: every figure, and whether it is within what the gate or the oracle says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from fed_unlearn.audits.reset_names import reset_name
from fed_unlearn.simulations.report.page.meanings import FIELDS
from fed_unlearn.simulations.report.page.reading import DASH, Key, Reading, joined, name_text

MODELS = ("before", "unlearned", "after", "oracle")
"""Models of a request, in the order of its life; the oracle was trained without what it forgets."""

UNKNOWN_BOUNDS = "the gate's bounds are not in these results"
"""Words for figures of runs whose results do not say what the gate looked at."""

_MARKS = {"inside": "✓", "outside": "✕", "beside": "≈", "near": "~", "apart": "≠"}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether a figure is within its bound.

    Attributes
    ----------
    kind : str
        ``inside`` or ``outside`` of the gate's bound; ``beside`` where it is within the oracle's interval, ``near``
        where both intervals meet, ``apart`` where they do not; ``none``.
    words : Markup
    """

    kind: str
    words: Markup

    @property
    def mark(self) -> str:
        """A character for the kind, so that no reader depends on its colour."""
        return _MARKS.get(self.kind, DASH)


@dataclass(frozen=True, kw_only=True)
class AuditRow:
    """One figure of a request.

    Attributes
    ----------
    name : str
    shown : Markup
        The name in words.
    places, intervals : mapping of str to tuple
        Where the figure and its interval stand in the results, by model.
    verdict : Verdict
    """

    name: str
    shown: Markup
    places: Mapping[str, tuple[Key, ...]]
    intervals: Mapping[str, tuple[Key, ...]]
    verdict: Verdict


def audit_rows(reading: Reading, index: int) -> list[AuditRow]:
    """The audit table of a request: its figures, and what else the gate looked at.

    Parameters
    ----------
    reading : Reading
    index : int
        Index of the request in the results.
    """
    request = reading.value("requests", index)
    found = {model: request[model] for model in MODELS if request.get(model)}
    names = list(dict.fromkeys(name for figures in found.values() for name in _names(figures)))
    order = {name: number for number, name in enumerate(FIELDS)}
    names.sort(key=lambda name: (order.get(name, len(order)), name))
    checks = {check["figure"]: number for number, check in enumerate(request.get("checks") or ())}
    own = {name for name in names if name in checks and not _is_of_row(reading, index, name, checks[name])}
    rows = [
        AuditRow(
            name=name,
            shown=name_text(name),
            places={model: _place(index, model, name) for model in MODELS},
            intervals={model: ("requests", index, model, "intervals", name) for model in MODELS},
            verdict=_verdict(reading, index, name, None if name in own else checks.get(name)),
        )
        for name in names
    ]
    return rows + [
        _gate_row(reading, index, name, number, is_another=name in own)
        for name, number in checks.items()
        if name not in names or (name in own and request["checks"][number].get("passed") is not None)
    ]


def _is_of_row(reading: Reading, index: int, name: str, number: int) -> bool:
    """Whether a check is of the very value that the row of its name shows, and not of other samples."""
    value = reading.value("requests", index, "checks", number, "value")
    return bool(value == reading.value(*_place(index, "after", name)))


def _gate_row(reading: Reading, index: int, name: str, number: int, *, is_another: bool) -> AuditRow:
    """A figure that the gate alone looked at, in the last candidate; another than the one of the same name perhaps."""
    place = ("requests", index, "checks", number)
    nowhere: tuple[Key, ...] = (*place, "none")
    return AuditRow(
        name=name,
        shown=Markup("{}, as the gate measured it").format(name_text(name)) if is_another else name_text(name),
        places={model: (*place, "value") if model == "after" else nowhere for model in MODELS},
        intervals={model: (*place, "interval") if model == "after" else nowhere for model in MODELS},
        verdict=_by_gate(reading, index, number),
    )


def _names(figures: Mapping[str, Any]) -> Iterator[str]:
    """Names of the figures that a model has a value of."""
    yield from (name for name in FIELDS if figures.get(name) is not None)
    yield from (name for name, value in (figures.get("extra") or {}).items() if value is not None)


def _place(index: int, model: str, name: str) -> tuple[Key, ...]:
    own = ("requests", index, model, name)
    return own if name in FIELDS else ("requests", index, model, "extra", name)


def _verdict(reading: Reading, index: int, name: str, check: int | None) -> Verdict:
    if check is not None and reading.value("requests", index, "checks", check, "passed") is not None:
        return _by_gate(reading, index, check)
    value = reading.value(*_place(index, "after", name))
    if value is None:
        return Verdict(kind="none", words=Markup("not measured at the end"))
    if name.startswith(reset_name("")):
        return Verdict(kind="none", words=Markup("what another figure is held against"))
    beside = _by_oracle(reading, index, name, value)
    was_kept = bool(reading.value("requests", index).get("checks"))
    return beside or Verdict(kind="none", words=Markup("no bound" if was_kept else UNKNOWN_BOUNDS))


def _by_gate(reading: Reading, index: int, number: int) -> Verdict:
    """What the gate said of a figure of the last candidate."""
    place = ("requests", index, "checks", number)
    check = reading.value(*place)
    low, high = check.get("minimum"), check.get("maximum")
    if check.get("passed") is None:
        return Verdict(kind="none", words=Markup("not measured, and need not be"))
    if low is not None and low == high:
        interval = reading.interval(*place, "interval") or reading.number(*place, "value")
        bound = Markup("the interval {} is to hold {}").format(interval, reading.number(*place, "minimum"))
    else:
        ends = (("at least", "minimum", low), ("at most", "maximum", high))
        parts = [
            Markup("{} {}").format(words, reading.number(*place, key)) for words, key, end in ends if end is not None
        ]
        bound = joined(parts, " and ")
    kind = "inside" if check["passed"] else "outside"
    if not bound:
        words = "accepted by the gate" if check["passed"] else "refused by the gate: it was not measured"
        return Verdict(kind=kind, words=Markup(words))
    return Verdict(kind=kind, words=Markup("{} the bound: {}").format(kind, bound))


def _by_oracle(reading: Reading, index: int, name: str, value: float) -> Verdict | None:
    """How the figure stands to the oracle's interval."""
    oracle = reading.value("requests", index, "oracle", "intervals", name)
    if oracle is None or reading.value(*_place(index, "oracle", name)) is None:
        return None
    low, high = reading.value("requests", index, "after", "intervals", name) or (value, value)
    if oracle[0] <= value <= oracle[1]:
        return Verdict(kind="beside", words=Markup("within the oracle's interval"))
    if low <= oracle[1] and oracle[0] <= high:
        return Verdict(kind="near", words=Markup("its interval meets the oracle's"))
    return Verdict(kind="apart", words=Markup("apart from the oracle's interval"))
