"""The order of a benchmark's requests, and of its training and forget experiences."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from avalanche.benchmarks.scenarios.generic_scenario import CLScenario

from fed_unlearn.errors import InvalidDataError, InvalidRequestError
from fed_unlearn.requests import ForgetRequest

Requests = Mapping[int, ForgetRequest | Sequence[ForgetRequest]] | Sequence[ForgetRequest]


def in_order(requests: Requests, count: int) -> list[tuple[ForgetRequest, int]]:
    """Return each request with the number of training experiences before it, in the order of serving.

    Parameters
    ----------
    requests : mapping of int to ForgetRequest or sequence of them, or sequence of ForgetRequest
        Keys are numbers of training experiences that come before. Without keys all requests come last.
    count : int
        Number of training experiences.

    Returns
    -------
    list of (ForgetRequest, int)
        Requests without an id have got one.

    Raises
    ------
    InvalidRequestError
        If a key is not in 1 to ``count``, a value is not a request, or two requests have the same id.
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
    placed.sort(key=lambda item: (item[0], -item[1].priority, item[1].deadline is None, item[1].deadline or 0.0))
    named = [
        (request if request.id else dataclasses.replace(request, id=f"forget-{number}"), after)
        for number, (after, request) in enumerate(placed, start=1)
    ]
    ids = [request.id for request, _ in named]
    repeated = next((name for name in ids if ids.count(name) > 1), None)
    if repeated is not None:
        raise InvalidRequestError(f"two requests have the id {repeated!r}; expected an id of its own for each")
    return named


def interleave(benchmark: CLScenario) -> list[Any]:
    """Return the experiences of ``train_stream`` and ``forget_stream``. Each request follows its training experience.

    Parameters
    ----------
    benchmark : CLScenario
        A result of :func:`fed_unlearn.avalanche.streams.forget_benchmark`. Without a forget stream only training
        experiences are returned.

    Returns
    -------
    list of DatasetExperience
        Training and forget experiences in the order in which a strategy meets them.

    Raises
    ------
    InvalidDataError
        If there is no train stream.

    Examples
    --------
    >>> for experience in interleave(scenario):  # doctest: +SKIP
    ...     strategy.train(experience)
    """
    streams = getattr(benchmark, "streams", {})
    if "train" not in streams:
        raise InvalidDataError(f"{type(benchmark).__name__}: a benchmark without a train_stream was given")
    forget = list(streams.get("forget", ()))
    order: list[Any] = []
    for number, experience in enumerate(streams["train"], start=1):
        order += [experience, *(item for item in forget if item.after == number)]
    return order
