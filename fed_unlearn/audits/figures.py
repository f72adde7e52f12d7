"""The figures by which a request is judged, at one moment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
        0.5 means that D_f cannot be told from unseen samples of the same classes.
    extra : mapping of str to (float or None)
        Of other packages' audits, by name; left out of JSON where there are none.
    """

    forget_accuracy: float | None
    retain_accuracy: float | None
    test_forget_accuracy: float | None
    test_retain_accuracy: float | None
    membership_auc: float | None
    extra: Mapping[str, float | None] = field(default_factory=dict)

    def named(self) -> dict[str, float | None]:
        """All figures by name, those of other packages last."""
        fields = {name: value for name, value in vars(self).items() if name != "extra"}
        return {**fields, **self.extra}

    def to_json(self) -> dict[str, object]:
        """As JSON: the fields by name."""
        return {name: value for name, value in vars(self).items() if name != "extra" or value}


def extra_names(several: Iterable[Figures | None]) -> list[str]:
    """Names of the figures of other packages' audits that some of these have, sorted."""
    return sorted({name for figures in several if figures is not None for name in figures.extra})
