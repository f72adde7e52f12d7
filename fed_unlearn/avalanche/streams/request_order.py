"""The order in which requests that are all known beforehand are served."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

from fed_unlearn.errors import InvalidRequestError
from fed_unlearn.requests import ForgetRequest

Requests = Mapping[int, ForgetRequest | Sequence[ForgetRequest]] | Sequence[ForgetRequest]


def in_order(requests: Requests, count: int) -> list[tuple[ForgetRequest, int]]:
    """The requests with their places and with ids, in the order in which they are served.

    Parameters
    ----------
    requests : mapping of int to ForgetRequest or sequence of them, or sequence of ForgetRequest
        By the number of training experiences that come before.
    count : int
        Training experiences that there are.

    Raises
    ------
    InvalidRequestError
        If there is no such place, or two have one id.
    """
    placed: list[tuple[int, ForgetRequest]] = []
    if not isinstance(requests, Mapping):
        requests = {count: requests}
    for after, given in requests.items():
        if isinstance(after, bool) or not isinstance(after, int) or not 1 <= after <= count:
            raise InvalidRequestError(
                f"requests after {after!r} training experiences were given; expected 1 to {count}, the number of"
                " experiences in the train stream"
            )
        listed = list(given) if isinstance(given, Sequence) else [given]
        for request in listed:
            if not isinstance(request, ForgetRequest):
                raise InvalidRequestError(
                    f"requests: {request!r} was given; expected a ForgetRequest, such as ForgetRequest.for_class(3)"
                )
        placed.extend((after, request) for request in listed)
    placed.sort(key=lambda item: (item[0], -item[1].priority, _deadline(item[1])))
    named = [
        (request if request.id else dataclasses.replace(request, id=f"forget-{number}"), after)
        for number, (after, request) in enumerate(placed, start=1)
    ]
    ids = [request.id for request, _ in named]
    repeated = next((name for name in ids if ids.count(name) > 1), None)
    if repeated is not None:
        raise InvalidRequestError(f"two requests have the id {repeated!r}; expected an id of its own for each")
    return named


def _deadline(request: ForgetRequest) -> float:
    return math.inf if request.deadline is None else request.deadline
