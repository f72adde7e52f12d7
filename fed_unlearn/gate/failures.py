"""In words, which bounds a candidate is beyond."""

from __future__ import annotations

from fed_unlearn.audits.measured import Measured
from fed_unlearn.audits.reset_names import reset_name
from fed_unlearn.evidence import Evidence
from fed_unlearn.gate.bounds import Bound
from fed_unlearn.gate.thresholds import Thresholds

_REFERENCES = {
    "reset-rows": "of classes that stay, each under a reset row",
    "oracle": "of retrain oracles",
}


def figure_failures(evidence: Evidence, thresholds: Thresholds) -> tuple[str, ...]:
    """Figures of audits that are beyond their bounds by more than chance explains."""
    found: list[str] = []
    for name, bound in thresholds.figures.items():
        if bound.beside is None:
            found += _beyond(name, evidence.figures.get(name), bound.minimum, bound.maximum)
        elif not evidence.is_retrained and (reference := reference_of(evidence, name, bound)) is not None:
            low, high = ends_of(reference)
            minimum = None if bound.beside == "reset-rows" else low
            words = f", the end of the 95 % prediction interval {_REFERENCES[bound.beside]}"
            found += _beyond(name, evidence.figures.get(name), minimum, high, words)
    return tuple(found)


def not_measured(evidence: Evidence, thresholds: Thresholds) -> tuple[str, ...]:
    """Figures that must be measured and are not, and those that have nothing to be held beside."""
    found: list[str] = []
    for name, bound in thresholds.figures.items():
        if not bound.needed:
            continue
        if not is_measured(evidence.figures.get(name)):
            found.append(f"{name} was not measured")
        elif bound.beside is not None and not evidence.is_retrained and reference_of(evidence, name, bound) is None:
            found.append(f"{name} has nothing beside it: no figure {_REFERENCES[bound.beside]} was measured")
    return tuple(found)


def confidence_failures(evidence: Evidence, share: float | None) -> tuple[str, ...]:
    """That the model is surer of a client's samples than it may be, by more than chance explains."""
    own, staying = evidence.confidence, evidence.staying_confidence
    if share is None or own is None or staying is None or not own.is_over(share * max(staying, 0.0)):
        return ()
    return (
        f"log-odds of the client's samples lie {own.value:.2f} over those of unseen ones, with an error of"
        f" {own.error:.2f}; expected at most {share:g} of the {staying:.2f} of clients that stay",
    )


def drop_failures(
    against: str, accuracy: float | None, reference: float | None, allowed: float | None
) -> tuple[str, ...]:
    """That retained accuracy has fallen further than it may."""
    if accuracy is None or reference is None or allowed is None or reference - accuracy <= allowed:
        return ()
    return (f"retained validation accuracy {accuracy:.3f} is over {allowed:.3f} under {reference:.3f} of {against}",)


def reference_of(evidence: Evidence, name: str, bound: Bound) -> Measured | None:
    """What a figure is held beside; None where that was not measured."""
    is_oracle = bound.beside == "oracle"
    found = evidence.oracle_figures.get(name) if is_oracle else evidence.figures.get(reset_name(name))
    return found if is_measured(found) else None


def is_measured(figure: Measured | None) -> bool:
    """Whether there is a figure."""
    return figure is not None and figure.value is not None


def ends_of(figure: Measured) -> tuple[float, float]:
    """Both ends of a figure's interval; the figure itself where it has none."""
    value = 0.0 if figure.value is None else figure.value
    return figure.interval or (value, value)


def _beyond(
    name: str, figure: Measured | None, minimum: float | None, maximum: float | None, words: str = ""
) -> list[str]:
    if figure is None or figure.value is None:
        return []
    low, high = ends_of(figure)
    said = f"{name} {figure.value:.3f}" + ("" if figure.interval is None else f", between {low:.3f} and {high:.3f},")
    if maximum is not None and low > maximum:
        return [f"{said} is over {maximum:.3f}{words}"]
    if minimum is not None and high < minimum:
        return [f"{said} is under {minimum:.3f}{words}"]
    return []
