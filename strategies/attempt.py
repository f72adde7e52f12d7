"""One try at one request: what the holders and the repair rounds make of the served model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from flwr.app import ConfigRecord

from fed_unlearn.arrays import Arrays
from fed_unlearn.audits.figures import Figures
from fed_unlearn.protocol import AuditReply
from fed_unlearn.requests import ForgetRequest, ParameterValue, SampleScope
from fed_unlearn.strategies.aggregation import add_clipped, difference, norm, weighted_average
from fed_unlearn.strategies.plan import UnlearningPlan
from fed_unlearn.strategies.rounds import HolderModels, Rounds

logger = logging.getLogger("fed_unlearn.strategies")


class RequestRejectedError(Exception):
    """A request that cannot be served as it was put; the text says why."""


class AttemptFailedError(Exception):
    """An attempt that came to no accepted model; the text says why. The request's samples stay in quarantine."""


class CommitFailedError(AttemptFailedError):
    """A commit that some holder did not confirm; others have their tombstones, so that there is no further attempt."""


@dataclass
class ServedModel:
    """The last accepted model, and what is known of it.

    Attributes
    ----------
    arrays : dict of ndarray
    audit : AuditReply or None
        Of all parts.
    first_audit : AuditReply or None
        Of the model before the first request.
    update_norm : float or None
        Median norm of a client's change in the last training round; None before any.
    train_config : ConfigRecord
        Of the last training round.
    repair_rounds : int
        Repair rounds so far, over all requests.
    """

    arrays: Arrays
    audit: AuditReply | None = None
    first_audit: AuditReply | None = None
    update_norm: float | None = None
    train_config: ConfigRecord = field(default_factory=ConfigRecord)
    repair_rounds: int = 0


@dataclass
class Attempt:
    """One try at one request; ``candidate`` is its model so far.

    Attributes
    ----------
    request : ForgetRequest
    number : int
        From 1; the method is made stronger with each.
    method : str
    parameters : dict
        Of the method.
    excluded_classes : tuple of int
        What no forget sample may be taught to be: classes forgotten before, and those of the request.
    rounds : Rounds
    plan : UnlearningPlan
    served : ServedModel
    candidate : dict of ndarray
    on_step : callable
        Told in words what was done.
    """

    request: ForgetRequest
    number: int
    method: str
    parameters: dict[str, ParameterValue]
    excluded_classes: tuple[int, ...]
    rounds: Rounds
    plan: UnlearningPlan
    served: ServedModel
    candidate: Arrays
    on_step: Callable[[str], None]
    step: int = 0
    repair_rounds: int = 0
    unlearned: Figures | None = None
    holders: tuple[str, ...] = ()

    @property
    def is_sample(self) -> bool:
        """Whether single samples are asked for: then the holder's change is added, and its step is the last."""
        return isinstance(self.request.scope, SampleScope)

    def unlearn(self) -> None:
        """The holders' turn: their average for a class, their clipped changes for samples.

        A change longer than the clipping norm arrives in several steps, each from where the last one led.

        Raises
        ------
        RequestRejectedError
            If no client holds a sample of the request, or the request cannot be served as it was put.
        AttemptFailedError
            If a client failed to unlearn: what it holds would stay in the model.
        """
        if not self.is_sample:
            holders = self._ask_holders()
            self.candidate = weighted_average(list(holders.models.values()), list(holders.weights.values()))
            return
        max_norm = self._max_update_norm()
        for _ in range(self.plan.max_holder_steps):
            holders = self._ask_holders()
            changes = [difference(model, self.candidate) for model in holders.models.values()]
            self.candidate = add_clipped(self.candidate, changes, max_norm)
            if all(norm(change) <= max_norm for change in changes):
                return

    def repair(self) -> None:
        """One guarded repair round; for samples the holder's turn follows, since averaging brings them back."""
        self.repair_rounds += 1
        guarded = ((self.request.id or "", self.number),)
        self.candidate = self._repaired(self.candidate, guarded)[0]
        self.on_step(f"repair round {self.repair_rounds}")

    def _ask_holders(self) -> HolderModels:
        holders = self.rounds.unlearn(
            self.request,
            self.candidate,
            method=self.method,
            parameters=self.parameters,
            attempt=self.number,
            step=self.step,
            excluded_classes=self.excluded_classes,
        )
        self.step += 1
        if holders.refused:
            raise RequestRejectedError("; ".join(holders.refused.values()))
        if holders.failed:
            raise AttemptFailedError("; ".join(holders.failed.values()))
        if not holders.models:
            raise RequestRejectedError(f"no reachable client holds a sample of {self.request.target()}")
        self.holders = tuple(holders.models)
        where = "client" if len(holders.models) == 1 else "clients"
        self.on_step(f"unlearned by {self.method} at {where} {', '.join(holders.models)}")
        return holders

    def _max_update_norm(self) -> float:
        """The bound on a holder's change; where nothing was trained here yet, one repair round tells it."""
        bound = self.plan.max_update_norm or self.served.update_norm
        if bound is None:
            norms = self._repaired(self.served.arrays, ())[1]
            if not norms:
                raise AttemptFailedError("no client trained, so nothing bounds the holder's change")
            bound = self.served.update_norm = median(norms)
        return bound

    def _repaired(self, base: Arrays, guarded: tuple[tuple[str, int], ...]) -> tuple[Arrays, tuple[float, ...]]:
        self.served.repair_rounds += 1
        config = ConfigRecord({**self.served.train_config, **self.plan.repair_config})
        repaired = self.rounds.repair(base, guarded, self.plan, config, self.served.repair_rounds)
        return repaired.arrays, repaired.update_norms


def median(values: Sequence[float]) -> float:
    """Middle value, or the mean of the two in the middle."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
