"""Requests of a forget stream whose time has come, and the words that say which experience brings them."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from typing import Any

from fed_unlearn.avalanche.streams.forget_experience import ForgetExperience


def overdue(benchmark: Any, trained: int, met: Collection[str]) -> list[ForgetExperience]:
    """Return the forget experiences that a script has passed over.

    Parameters
    ----------
    benchmark : CLScenario
        The benchmark. Without a forget stream nothing is overdue.
    trained : int
        Number of training experiences so far, at least 0. A request is overdue if more were trained than it comes
        after.
    met : collection of str
        Ids of requests that the strategy has met, whether they were accepted or not, or that wait by intent.

    Returns
    -------
    list of ForgetExperience
        In the order of the forget stream.
    """
    stream = getattr(benchmark, "streams", {}).get("forget", ())
    return [item for item in stream if item.after < trained and item.request.id not in met]


def warn_of_overdue(benchmark: Any, trained: int, met: Collection[str], warned: set[str]) -> None:
    """Warn of each request that a script has passed over, once.

    Parameters
    ----------
    benchmark, trained, met
        As in :func:`overdue`.
    warned : set of str
        Ids of requests that were warned of before. The new ones are added.
    """
    for experience in overdue(benchmark, trained, met):
        if experience.request.id in warned:
            continue
        warned.add(str(experience.request.id))
        warnings.warn(
            f"{coming(experience)} and was not served, {trained} were trained; {way(experience)}", stacklevel=2
        )


def coming(experience: ForgetExperience) -> str:
    """Return the words that say when a request comes."""
    number = experience.after
    return f"request {experience.request.id} comes after {number} training experience{'s' if number > 1 else ''}"


def way(experience: ForgetExperience) -> str:
    """Return the words that say which experience brings a request, and how a script serves it."""
    place = f"forget_stream[{experience.current_experience}]"
    return f"{place} brings it: strategy.train(scenario.{place}), or loop over interleave(scenario)"
