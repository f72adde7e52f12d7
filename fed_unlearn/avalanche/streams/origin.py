"""Where an experience comes from: its whole stream, its benchmark, and the experience that an online part is of."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from typing import Any, Self

from avalanche.benchmarks import OnlineCLExperience
from avalanche.benchmarks.scenarios.generic_scenario import CLScenario, EagerCLStream, SequenceCLStream


class CopiedWhole:
    """Has ``copy.copy`` take all attributes along, also those that pickles and deep copies leave out."""

    def __copy__(self) -> Self:
        copied = type(self).__new__(type(self))
        vars(copied).update(vars(self))
        return copied


def whole_experience(experience: Any) -> Any:
    """Return the experience that an online experience is a part of. Other experiences are returned as they are."""
    if not isinstance(experience, OnlineCLExperience):
        return experience
    with unmasked(experience):
        return experience.origin_experience


def place_of(experience: Any) -> int | None:
    """Return the number of an experience in its stream, counted from 0; of an online part, that of its experience.

    Returns
    -------
    int or None
        None if the stream does not number its experiences.
    """
    whole = whole_experience(experience)
    with unmasked(whole):
        place = getattr(whole, "_current_experience", None)
    return None if place is None else int(place)


def whole_stream(experience: Any) -> SequenceCLStream[Any] | None:
    """Return the whole stream that an experience comes from, also if it was reached through a slice.

    Returns
    -------
    SequenceCLStream or None
        None if the stream makes its experiences as they are asked for: they are not made ahead of their time.
    """
    whole = whole_experience(experience)
    with unmasked(whole):
        stream = getattr(whole, "_origin_stream", None)
    known = getattr(getattr(stream, "benchmark", None), "streams", {}).get(getattr(stream, "name", None))
    stream = known if known is not None else stream
    if not isinstance(stream, SequenceCLStream):
        return None
    if stream.slice_ids is None:
        return stream
    full = copy.copy(stream)
    full.slice_ids = None
    return full


def benchmark_around(stream: SequenceCLStream[Any]) -> CLScenario[Any]:
    """Return a benchmark whose train stream is the given stream.

    Its other streams are those of the stream's own benchmark that can be indexed, if the stream has a benchmark.
    """
    given = getattr(getattr(stream, "benchmark", None), "streams", {})
    others = [
        other
        for name, other in given.items()
        if other is not stream and name not in ("train", "forget") and isinstance(other, SequenceCLStream)
    ]
    return CLScenario([EagerCLStream("train", list(stream), set_stream_info=False), *others])


def unmasked(experience: Any) -> Any:
    """Return a context in which attributes that strategies must not use can be read."""
    free = getattr(experience, "no_attribute_masking", None)
    return nullcontext() if free is None else free()
