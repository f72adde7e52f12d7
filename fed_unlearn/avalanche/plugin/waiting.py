"""Requests that were submitted and wait for their turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from fed_unlearn.avalanche.plugin.history import History
from fed_unlearn.errors import InvalidParameterError, InvalidRequestError
from fed_unlearn.requests import ForgetRequest

Missing = Literal["wait", "refuse"]
"""What becomes of a request whose samples have not arrived when its turn comes."""


@dataclass(frozen=True)
class Waiting:
    """A request that waits.

    Attributes
    ----------
    request : ForgetRequest
        The request, which has an id.
    after : int
        Number of training experiences that it waits for at least.
    missing : {"wait", "refuse"}
        Whether it waits for samples that have not arrived, or is refused.
    """

    request: ForgetRequest
    after: int
    missing: Missing


class WaitingRequests:
    """Keeps submitted requests until their turn."""

    def __init__(self) -> None:
        self._items: list[Waiting] = []

    @property
    def requests(self) -> tuple[ForgetRequest, ...]:
        """The requests that wait, in the order in which they were submitted."""
        return tuple(item.request for item in self._items)

    def add(self, request: ForgetRequest, after: int, missing: Missing) -> None:
        """Let a request wait.

        Raises
        ------
        InvalidParameterError
            If ``after`` or ``missing`` is not one of the values above.
        """
        if isinstance(after, bool) or not isinstance(after, int) or after < 0:
            raise InvalidParameterError(f"after = {after!r} was given; expected a number of training experiences")
        if missing not in get_args(Missing):
            raise InvalidParameterError(f'missing = {missing!r} was given; expected "wait" or "refuse"')
        self._items.append(Waiting(request, after, missing))

    def put_back(self, item: Waiting) -> None:
        """Let a request wait again, as the first one."""
        self._items.insert(0, item)

    def next(self, history: History, *, any_time: bool = False) -> Waiting | None:
        """Remove the next request whose turn has come, by priority, then deadline, then order, and return it.

        It is a request's turn when its number of experiences was trained on and its samples have arrived, or when it
        does not wait for them.

        Parameters
        ----------
        history : History
            What the plug-in has met.
        any_time : bool, default False
            Whether it is the turn of every request.

        Returns
        -------
        Waiting or None
            None if it is no request's turn.
        """
        due = list(self._items) if any_time else self._due(history)
        if not due:
            return None
        first = min(due, key=lambda item: _order(item.request))
        self._items = [item for item in self._items if item is not first]
        return first

    @staticmethod
    def require_arrived(item: Waiting, history: History) -> None:
        """Raise if a request does not wait for samples, and they have not arrived.

        Raises
        ------
        InvalidRequestError
            The message says how to have it wait.
        """
        if item.missing == "refuse" and any(history.stream.awaits([item.request], history.arrived)):
            raise InvalidRequestError(
                f"request {item.request.id} names samples that have not arrived after {history.experience_count}"
                ' training experiences; expected samples that were trained on. Submit it with missing="wait" to have it'
                " wait for them"
            )

    def _due(self, history: History) -> list[Waiting]:
        count = history.progress.finished if history.experience_count else -1
        passed = [item for item in self._items if count >= item.after]
        bound = [item.request for item in passed if item.missing == "wait"]
        awaits = dict(zip((each.id for each in bound), history.stream.awaits(bound, history.arrived), strict=True))
        return [item for item in passed if not awaits.get(item.request.id, False)]


def _order(request: ForgetRequest) -> tuple[int, bool, float]:
    return -request.priority, request.deadline is None, request.deadline or 0.0
