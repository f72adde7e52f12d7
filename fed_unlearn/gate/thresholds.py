"""What a request of one scope must meet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fed_unlearn.gate.bounds import Bound
from fed_unlearn.settings import Fraction, Settings
from fed_unlearn.text import quoted


@dataclass(frozen=True, kw_only=True)
class Thresholds(Settings, prefix="gate: "):
    """What a request of one scope must meet; fractions of 1, None for what is not looked at.

    Attributes
    ----------
    max_forget_accuracy : float or None
        Upper bound on the accuracy on D_f.
    max_retain_drop : float or None
        How far validation accuracy on the classes of D_r may fall against the last accepted model.
    max_total_retain_drop : float or None
        How far that accuracy may fall against the model before the first request.
    max_forget_excess : float or None
        How far the accuracy on D_f may lie over that on unseen samples of the same classes.
    membership_contains_half : bool
        Whether the 95 % interval of the membership attack's AUC must contain 0.5: the samples are told neither from
        unseen ones nor, as over-forgotten ones would be, by being less sure than those.
    max_confidence_share : float or None
        How much surer the model may be of a client's samples than of unseen ones of their classes, as a share of how
        much surer it is of the samples of the clients that stay. A difference that chance explains is no failure.
    figures : mapping of str to Bound
        Bounds on figures of any audit, by the figure's name. Clients are asked to count the audits behind them.

    Examples
    --------
    >>> from fed_unlearn.gate import Bound, Gate, Thresholds
    >>> bounds = {"logit_auc": Bound(maximum=0.9), "recall_at_5": Bound(beside="reset-rows")}
    >>> gate = Gate(
    ...     class_thresholds=Thresholds(
    ...         max_forget_accuracy=0.05, max_retain_drop=0.02, max_total_retain_drop=0.05, figures=bounds
    ...     )
    ... )
    """

    max_forget_accuracy: Fraction | None
    max_retain_drop: Fraction | None
    max_total_retain_drop: Fraction | None
    max_forget_excess: Fraction | None = None
    membership_contains_half: bool = False
    max_confidence_share: Fraction | None = None
    figures: Mapping[str, Bound] = field(default_factory=dict)

    def _out_of_bounds(self) -> list[str]:
        problems = super()._out_of_bounds()
        if not isinstance(self.figures, Mapping):
            return [*problems, f"{self._prefix}figures = {self.figures!r}; expected a mapping of names to Bound(...)"]
        return problems + [
            f"{self._prefix}figures[{quoted(name)}] = {bound!r}; expected Bound(...)"
            for name, bound in self.figures.items()
            if not isinstance(bound, Bound)
        ]
