"""What a request of one scope must meet."""

from __future__ import annotations

from dataclasses import dataclass

from fed_unlearn.settings import Fraction, Settings


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
        The same against the model before the first request.
    max_forget_excess : float or None
        How far the accuracy on D_f may lie over that on unseen samples of the same classes.
    membership_contains_half : bool
        Whether the 95 % interval of the membership attack's AUC must contain 0.5: the samples are told neither from
        unseen ones nor, as over-forgotten ones would be, by being less sure than those.
    max_confidence_share : float or None
        How much surer the model may be of a client's samples than of unseen ones of their classes, as a share of how
        much surer it is of the samples of the clients that stay. A difference that chance explains is no failure.
    """

    max_forget_accuracy: Fraction | None
    max_retain_drop: Fraction | None
    max_total_retain_drop: Fraction | None
    max_forget_excess: Fraction | None = None
    membership_contains_half: bool = False
    max_confidence_share: Fraction | None = None
