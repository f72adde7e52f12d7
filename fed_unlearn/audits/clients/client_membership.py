"""Can the samples of a client be told from unseen ones of their classes, class by class?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from fed_unlearn.audits.base import AUDITS, Observation, RequestAudit
from fed_unlearn.audits.clients.class_histograms import auc_by_class, class_histograms
from fed_unlearn.audits.membership import BIN_COUNT
from fed_unlearn.audits.sides import Side
from fed_unlearn.requests import ScopeKind


@AUDITS.register("client_membership_auc")
@dataclass(frozen=True)
class ClientMembership(RequestAudit):
    """Histograms of the confidence in samples by class, ``BIN_COUNT`` counts each, one class after another.

    The figure is the AUC of the loss-threshold attack (Yeom et al., 2018) within each class, averaged with the shares
    that the classes have among the client's samples. A client holds more of some classes, and a model knows some better
    than others: an attack over all classes together would measure that too. 0.5 means that the attack cannot tell the
    client's samples from unseen ones. ``membership_auc`` compares all of them with test samples of the client alone.

    Attributes
    ----------
    own : tuple of int
        Histograms of the training samples of the client that is forgotten; empty at other holders.
    unseen : tuple of int
        Histograms of validation samples, at every holder.
    """

    scopes: ClassVar[tuple[ScopeKind, ...]] = ("client",)
    sides: ClassVar[tuple[Side, ...]] = (Side("forget", "own"), Side("held_out_retain", "unseen"))

    own: tuple[int, ...] = ()
    unseen: tuple[int, ...] = ()

    @classmethod
    def count(cls, seen: Observation) -> Self:
        """The histograms of one holder."""
        return cls(*(class_histograms(side, seen.class_count) for side in (seen.forget, seen.validation)))

    @property
    def value(self) -> float | None:
        """The AUC; None without samples of the client, or without unseen ones of its classes."""
        return auc_by_class(self.own, self.unseen)[0]

    @property
    def interval(self) -> tuple[float, float] | None:
        """Its 95 % interval."""
        return auc_by_class(self.own, self.unseen)[1]

    def fits(self, class_count: int) -> bool:
        """Whether both are empty or have ``BIN_COUNT`` counts for each class."""
        return all(len(side) in (0, class_count * BIN_COUNT) for side in (self.own, self.unseen))
