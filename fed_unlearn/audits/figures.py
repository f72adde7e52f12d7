"""The figures of one model for one request, by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field


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
        AUC of the membership attack against test samples; 0.5 means that D_f cannot be told from unseen samples of the
        same classes.
    extra : mapping of str to (float or None)
        Figures that have no field here, by name, those of other packages included; left out of JSON where there are
        none.
    intervals : mapping of str to (float, float)
        95 % intervals of the figures that have one, by name: of all that are estimates, such as accuracies on test
        samples and ``membership_auc``. Results of earlier versions have fewer. Left out of JSON where there are none.
    samples : mapping of str to int
        Number of samples that an accuracy was measured on where only a part of the samples was read, by the accuracy's
        name. Left out of JSON where all were read. Such accuracies have an interval.
    curves : mapping of str to sequence of (float, float)
        Curves behind figures, by the figure's name: for ``membership_auc`` the corners of the attack's ROC curve, false
        and true positive rate. Left out of JSON where there are none.
    client_confidence, staying_confidence : float or None
        How much surer the model is of the client's samples than of validation samples of the same classes, as a
        difference of mean log-odds, and the same of the samples of the clients that stay. Only for client requests;
        left out of JSON where None.
    """

    forget_accuracy: float | None
    retain_accuracy: float | None
    test_forget_accuracy: float | None
    test_retain_accuracy: float | None
    membership_auc: float | None
    extra: Mapping[str, float | None] = field(default_factory=dict)
    client_confidence: float | None = None
    staying_confidence: float | None = None
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    samples: Mapping[str, int] = field(default_factory=dict)
    curves: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # JSON has lists in place of pairs.
        object.__setattr__(self, "intervals", {name: (low, high) for name, (low, high) in self.intervals.items()})
        pairs = {name: tuple((x, y) for x, y in curve) for name, curve in self.curves.items()}
        object.__setattr__(self, "curves", pairs)

    def named(self) -> dict[str, float | None]:
        """All figures by name, those without a field last."""
        fields = {name: value for name, value in self.to_json().items() if isinstance(value, float | None)}
        return {**fields, **self.extra}

    def to_json(self) -> dict[str, object]:
        """As JSON: the fields by name."""
        optional = {"extra": bool(self.extra), "intervals": bool(self.intervals), "samples": bool(self.samples)}
        optional["curves"] = bool(self.curves)
        optional |= {name: getattr(self, name) is not None for name in ("client_confidence", "staying_confidence")}
        return {name: value for name, value in vars(self).items() if optional.get(name, True)}


def extra_names(several: Iterable[Figures | None]) -> list[str]:
    """Names of the figures without a field that some of these have, sorted."""
    return sorted({name for figures in several if figures is not None for name in figures.extra})
