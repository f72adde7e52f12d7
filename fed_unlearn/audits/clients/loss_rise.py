"""Can somebody who has the model before and the model after tell what was forgotten by whose loss has risen?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from torch import Tensor

from fed_unlearn.audits.base import AUDITS, CentralAudit, Observation
from fed_unlearn.audits.clients.class_histograms import exact_auc_by_class
from fed_unlearn.audits.membership import sample_losses
from fed_unlearn.audits.readings import PartName, Readings


@AUDITS.register("loss_rise_auc")
@dataclass(frozen=True)
class LossRise(CentralAudit):
    """AUC of telling D_f from unseen samples by how much the loss has risen from the model before to the model after.

    It is counted within each class and averaged with the shares that the classes have in D_f. Both models together leak
    what neither leaks alone (Chen et al., When Machine Unlearning Jeopardizes Privacy, CCS 2021, who train a classifier
    on both outputs). 0.5 means that the rise does not tell them apart, and far below 0.5 tells as much as above. An
    oracle tells something, too, wherever the model before was surer of D_f: its figure is the aim.

    Attributes
    ----------
    auc, low, high : float or None
        The figure and its 95 % interval; None without the model before, or without unseen samples of the same classes.
    """

    cost: ClassVar[str] = "D_f and unseen samples once through the model before"

    auc: float | None = None
    low: float | None = None
    high: float | None = None

    @classmethod
    def count(cls, seen: Observation) -> Self:
        """The figure of one model."""
        central = seen.central
        if central is None or central.original is None:
            return cls()
        parts: tuple[PartName, PartName] = ("forget", "test_forget" if central.data.classes else "test_retain")
        if not all(len(central.data.parts[part]) for part in parts):
            return cls()
        rises = _rise(central.original, central.readings, parts[0]), _rise(central.original, central.readings, parts[1])
        labels = central.data.parts[parts[0]].labels.cpu(), central.data.parts[parts[1]].labels.cpu()
        auc, interval = exact_auc_by_class(rises, labels)
        return cls(auc, *(interval or (None, None)))

    @property
    def value(self) -> float | None:
        """The AUC."""
        return self.auc

    @property
    def interval(self) -> tuple[float, float] | None:
        """Its 95 % interval."""
        return None if self.low is None or self.high is None else (self.low, self.high)


def _rise(original: Readings, readings: Readings, part: PartName) -> Tensor:
    before, after = (
        sample_losses(item.answers(part).served, item.answers(part).labels) for item in (original, readings)
    )
    return after - before
