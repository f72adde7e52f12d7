"""How far the requests of a client may move the model: in one attempt, and between two trainings."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from fed_unlearn.arrays import Arrays, norm
from fed_unlearn.ledger import Ledger
from fed_unlearn.strategies.plan import RequestBound

logger = logging.getLogger("fed_unlearn.strategies")

_SPENT = "moved-by-requests"
_ROUNDING = 1e-6
_LEAST = 0.1
"""A request is not begun with less than this share of what one may move."""


@dataclass
class Allowance:
    """How far a holder may move the model in one attempt, and how far it has.

    Attributes
    ----------
    client : str
        The holder.
    clip_norm : float
        Norm of a usual change.
    requests : int
        Number of its requests in the attempt: the bounds are for all of them together.
    of_request : float
        Bound on the sum of its turns for one request, as a multiple of the clip norm.
    budget : float
        What is left of the client's budget, as a multiple of the clip norm.
    total : dict of ndarray
        The sum of its turns so far, as they were applied; empty before the first.
    wanted : float
        Norm of the longest sum that it has asked for.
    """

    client: str
    clip_norm: float
    requests: int
    of_request: float
    budget: float
    total: Arrays = field(default_factory=dict)
    wanted: float = 0.0

    @property
    def step_norm(self) -> float:
        """Bound on the norm of one turn."""
        return self.clip_norm * self.requests

    @property
    def total_norm(self) -> float:
        """Bound on the norm of the sum of all turns."""
        return self.clip_norm * min(self.requests * self.of_request, self.budget)

    @property
    def used(self) -> float:
        """Norm of the sum so far, as a multiple of the clip norm."""
        return norm(self.total) / self.clip_norm

    @property
    def is_spent(self) -> bool:
        """Whether the sum has come to its bound."""
        return self.used * self.clip_norm >= (1 - _ROUNDING) * self.total_norm

    @property
    def was_exceeded(self) -> bool:
        """Whether the holder has asked for a longer sum than is allowed."""
        return self.wanted > self.total_norm

    @property
    def lacks_budget(self) -> bool:
        """Whether the holder has asked for more than is left of its client's budget, and not of what requests may."""
        return self.was_exceeded and self.budget < self.requests * self.of_request

    @property
    def needed(self) -> float:
        """What each of its requests needs at least, as far as the plan allows it, as a multiple of the clip norm."""
        return min(self.wanted / self.step_norm, self.of_request)

    def shortfall(self) -> str | None:
        """What the requests would have needed, and what the plan allows; None where that was enough."""
        if not self.was_exceeded:
            return None
        return (
            f"client {self.client} needed to change the model by at least {self.wanted / self.step_norm:.2g} times the"
            f" clip norm of {self.clip_norm:.3g} for a request, and the plan allows {self.of_request:g} times; raise"
            " max_request_norm (max-request-norm in [unlearning] of a scenario) if that is wanted"
        )

    def take(self, change: Arrays) -> Arrays:
        """The part of a turn's change that is applied: it is clipped, and the sum of all turns is projected.

        The sum is scaled down where it is too long, and not the turn: the turn may lead back.

        Parameters
        ----------
        change : dict of ndarray
            Change of one turn, from :func:`~fed_unlearn.arrays.difference`.

        Returns
        -------
        dict of ndarray
            The change itself where it stays within both bounds.
        """
        length = norm(change)
        self._note(change)
        clipped = _scaled(change, self.step_norm / length) if length > self.step_norm else change
        total = _sum(self.total, clipped)
        reached = norm(total)
        if reached > self.total_norm:
            total = _scaled(total, self.total_norm / reached)
            clipped = {name: value - self.total.get(name, 0.0) for name, value in total.items()}
        self.total = total
        return clipped

    def _note(self, change: Arrays) -> None:
        before = self.was_exceeded
        self.wanted = max(self.wanted, norm(_sum(self.total, change)))
        if self.was_exceeded and not before:
            logger.warning(
                "client %s: its requests ask for a change of %.3g in all, over %.3g; it is scaled down",
                self.client,
                self.wanted,
                self.total_norm,
            )


@dataclass(frozen=True)
class RequestBudget:
    """What the requests of each client have moved the model since the last training; kept in the ledger.

    Lengths are multiples of the clip norm of their time.

    Attributes
    ----------
    ledger : Ledger
    bound : RequestBound
        What the plan allows.
    """

    ledger: Ledger
    bound: RequestBound

    def spent(self, client: str) -> float:
        """What the committed requests of a client have moved."""
        value = self._state().get(client, 0.0)
        return float(value)

    def left(self, client: str) -> float:
        """What they may still move before the next training."""
        return max(0.0, self.bound.between_trainings - self.spent(client))

    def shortage(self, client: str, needed: float = 0.0) -> str | None:
        """Why a request of a client has to wait for the next training; None where enough is left.

        Parameters
        ----------
        client : str
        needed : float
            What the request needs at least, as an earlier attempt has shown; 0 where there was none.
        """
        if self.left(client) >= max(needed, _LEAST * self.bound.of_request):
            return None
        return (
            f"requests of client {client} have changed the model by {self.spent(client):.2g} times the clip norm since"
            f" the last training, and the plan allows {self.bound.between_trainings:g} times between two trainings; it"
            " is served after the next one"
        )

    def spend(self, moved: Mapping[str, float]) -> None:
        """Note what clients have moved; call it in the transaction of the commit."""
        if any(moved.values()):
            spent = self._state()
            spent |= {client: spent.get(client, 0.0) + length for client, length in moved.items()}
            self.ledger.set_state(_SPENT, spent)

    def reset(self) -> None:
        """Begin anew after a training; call it in the transaction that accepts the model."""
        if self._state():
            self.ledger.set_state(_SPENT, None)

    def _state(self) -> dict[str, float]:
        body = self.ledger.state(_SPENT)
        return {str(client): float(length) for client, length in body.items()} if isinstance(body, dict) else {}


def _sum(total: Arrays, change: Arrays) -> Arrays:
    return {name: np.asarray(value, dtype=np.float64) + total.get(name, 0.0) for name, value in change.items()}


def _scaled(change: Arrays, scale: float) -> Arrays:
    return {name: np.asarray(scale * value) for name, value in change.items()}
