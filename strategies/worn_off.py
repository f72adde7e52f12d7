"""Whether the forgetting of a request has worn off: judged by the newest audit that says anything of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol


class Look(Protocol):
    """How the committed requests stood after an event.

    ``RelapseRow`` is one, and so is what ``results.json`` keeps of it.
    """

    @property
    def after(self) -> str:
        """The event: the ids of the requests that were committed, joined by ``+``, or for instance ``train:2``."""

    @property
    def forget_accuracy(self) -> Mapping[str, float | None]:
        """Accuracy on the forget set, by request."""

    @property
    def test_forget_accuracy(self) -> Mapping[str, float | None]:
        """Accuracy on test samples of the forgotten classes, by request."""

    @property
    def relapsed(self) -> Sequence[str]:
        """Requests that the gate would not accept any more."""


def is_commit_of(look: Look, request: str) -> bool:
    """Whether the event of a look is the commit of this request, alone or with others."""
    return look.after == request or request in look.after.split("+")


def says_anything_of(look: Look, request: str) -> bool:
    """Whether a look measured a request, or followed its commit, which judged it."""
    values = (look.forget_accuracy.get(request), look.test_forget_accuracy.get(request))
    return any(value is not None for value in values) or request in look.relapsed or is_commit_of(look, request)


def worn_off_at(looks: Sequence[Look], request: str) -> int | None:
    """Find the look that shows that the forgetting of a request has worn off.

    The newest look that says anything of the request decides. One that found a relapse counts no more once a later one
    finds the request within its bounds, or the request is committed again.

    Parameters
    ----------
    looks : sequence of Look
        In the order of their events.
    request : str
        Its id.

    Returns
    -------
    int or None
        Index of the look; None where the forgetting holds, or nobody has looked.
    """
    newest = next((place for place in reversed(range(len(looks))) if says_anything_of(looks[place], request)), None)
    return newest if newest is not None and request in looks[newest].relapsed else None
