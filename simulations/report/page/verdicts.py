"""The audit table of a request: every figure, and whether it is within what the gate or the oracle says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from fed_unlearn.audits.reset_names import reset_name
from fed_unlearn.gate import Bound, Gate, Thresholds
from fed_unlearn.simulations.report.page.reading import DASH, Key, Reading, data, name_text
from fed_unlearn.strategies.serving.judge import is_retrained

MODELS = ("before", "unlearned", "after", "oracle")
"""Models of a request, in the order of its life; the oracle was trained without what it forgets."""

FIELDS = {
    "forget_accuracy": "Accuracy on the training samples to be forgotten.",
    "retain_accuracy": "Accuracy on the training samples that stay.",
    "test_forget_accuracy": "Accuracy on test images of the forgotten classes.",
    "test_retain_accuracy": "Accuracy on test images of all other classes.",
    "membership_auc": "Area under the ROC curve of the membership attack: a half means that it cannot tell the"
    " forgotten samples from unseen ones.",
    "client_confidence": "How much surer the model is of the client's samples than of unseen ones, in mean log-odds.",
    "staying_confidence": "The same of the samples of clients that stay.",
}
"""Figures with a field of their own, and what they are."""


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
        return {"inside": "✓", "outside": "✕", "beside": "≈", "near": "~", "apart": "≠"}.get(self.kind, DASH)


@dataclass(frozen=True, kw_only=True)
class AuditRow:
    """One figure of a request.

    Attributes
    ----------
    name : str
    shown : Markup
        The name in words.
    places : mapping of str to tuple
        Where the figure stands in the results, by model.
    intervals : mapping of str to tuple
        Where its interval stands, by model.
    verdict : Verdict
    """

    name: str
    shown: Markup
    places: Mapping[str, tuple[Key, ...]]
    intervals: Mapping[str, tuple[Key, ...]]
    verdict: Verdict


def audit_rows(reading: Reading, index: int, gate: Gate | None) -> list[AuditRow]:
    """The audit table of a request.

    Parameters
    ----------
    reading : Reading
    index : int
        Index of the request in the results.
    gate : Gate or None
        The gate of the run; None where its scenario cannot be read.
    """
    request = reading.value("requests", index)
    found = {model: request[model] for model in MODELS if request.get(model)}
    names = list(dict.fromkeys(name for figures in found.values() for name in _names(figures)))
    names.sort(key=lambda name: (name not in FIELDS, list(FIELDS).index(name) if name in FIELDS else 0, name))
    limits = None if gate is None else gate.thresholds(request["scope"], request.get("goal"))
    return [
        AuditRow(
            name=name,
            shown=name_text(name),
            places={model: _place(index, model, name) for model in MODELS},
            intervals={model: ("requests", index, model, "intervals", name) for model in MODELS},
            verdict=_verdict(reading, index, name, limits),
        )
        for name in names
    ]


def _names(figures: Mapping[str, Any]) -> list[str]:
    """Names of the figures that a model has a value of."""
    own = [name for name in FIELDS if figures.get(name) is not None]
    return own + [name for name, value in (figures.get("extra") or {}).items() if value is not None]


def _place(index: int, model: str, name: str) -> tuple[Key, ...]:
    own = ("requests", index, model, name)
    return own if name in FIELDS else ("requests", index, model, "extra", name)


def _verdict(reading: Reading, index: int, name: str, limits: Thresholds | None) -> Verdict:
    value = reading.value(*_place(index, "after", name))
    if value is None:
        return Verdict(kind="none", words=Markup("not measured at the end"))
    interval = reading.value("requests", index, "after", "intervals", name)
    found = None if limits is None else _by_gate(reading, index, name, value, interval, limits)
    if name.startswith(reset_name("")):
        return Verdict(kind="none", words=Markup("a reference for others"))
    beside = found or _by_oracle(reading, index, name, value, interval)
    return beside or Verdict(kind="none", words=Markup("no bound"))


def _by_gate(
    reading: Reading, index: int, name: str, value: float, interval: list[float] | None, limits: Thresholds
) -> Verdict | None:
    """What the gate's bounds say. A figure of an audit is outside only where its whole interval is."""
    low, high = interval or (value, value)
    request = reading.value("requests", index)
    setting = f"{request['scope']}"
    if is_retrained(request["method"]) and (setting == "client" or request.get("goal") == "indistinguishable"):
        return None
    if name == "forget_accuracy" and limits.max_forget_accuracy is not None:
        bound = data(limits.max_forget_accuracy, data_setting=f"{setting}.max_forget_accuracy")
        return _judged(value <= limits.max_forget_accuracy, Markup("the gate's bound, at most {}").format(bound))
    if name == "membership_auc" and limits.membership_contains_half and interval is not None:
        half = data(0.5, 1, data_constant="chance")
        return _judged(low <= 0.5 <= high, Markup("the gate's bound: its interval is to hold {}").format(half))
    bound_of = limits.figures.get(name)
    if bound_of is None:
        return None
    if bound_of.beside is not None:
        return None if is_retrained(request["method"]) else _by_reset_rows(reading, index, name, low)
    return _by_numbers(bound_of, name, setting, low, high)


def _by_numbers(bound: Bound, name: str, setting: str, low: float, high: float) -> Verdict:
    parts, is_inside = [], True
    if bound.minimum is not None:
        parts.append(Markup("at least {}").format(data(bound.minimum, data_setting=f"{setting}.{name}.minimum")))
        is_inside = high >= bound.minimum
    if bound.maximum is not None:
        parts.append(Markup("at most {}").format(data(bound.maximum, data_setting=f"{setting}.{name}.maximum")))
        is_inside = is_inside and low <= bound.maximum
    return _judged(is_inside, Markup("the gate's bound, {}").format(Markup(" and ").join(parts)))


def _by_reset_rows(reading: Reading, index: int, name: str, low: float) -> Verdict | None:
    place = ("requests", index, "after", "intervals", reset_name(name))
    reference = reading.value(*place)
    if reference is None:
        return None
    end = reading.number(*place, 1)
    return _judged(low <= reference[1], Markup("the gate's bound, at most {} as of classes that stay").format(end))


def _judged(is_inside: bool, bound: Markup) -> Verdict:
    kind = "inside" if is_inside else "outside"
    return Verdict(kind=kind, words=Markup("{} {}").format(kind, bound))


def _by_oracle(reading: Reading, index: int, name: str, value: float, interval: list[float] | None) -> Verdict | None:
    """How the figure stands to the oracle's interval."""
    oracle = reading.value("requests", index, "oracle", "intervals", name)
    if oracle is None or reading.value(*_place(index, "oracle", name)) is None:
        return None
    low, high = interval or (value, value)
    if oracle[0] <= value <= oracle[1]:
        return Verdict(kind="beside", words=Markup("within the oracle's interval"))
    if low <= oracle[1] and oracle[0] <= high:
        return Verdict(kind="near", words=Markup("its interval meets the oracle's"))
    return Verdict(kind="apart", words=Markup("apart from the oracle's interval"))
