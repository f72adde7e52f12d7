"""The order in which the training and forget experiences of a benchmark come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, overload

from avalanche.benchmarks.scenarios.generic_scenario import CLScenario

from fed_unlearn.errors import InvalidDataError


class Interleaved(Sequence[Any]):
    """Training and forget experiences in the order in which a strategy meets them; it can be looped over again."""

    def __init__(self, steps: Sequence[tuple[Sequence[Any], int]]) -> None:
        self._steps = tuple(steps)

    def __len__(self) -> int:
        return len(self._steps)

    @overload
    def __getitem__(self, index: int) -> Any: ...

    @overload
    def __getitem__(self, index: slice) -> Interleaved: ...

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return Interleaved(self._steps[index])
        stream, position = self._steps[index]
        return stream[position]

    def __iter__(self) -> Iterator[Any]:
        return (stream[position] for stream, position in self._steps)


def interleave(benchmark: CLScenario) -> Interleaved:
    """The experiences of ``train_stream`` and ``forget_stream``, each request right after what it comes after.

    Parameters
    ----------
    benchmark : CLScenario
        Of :func:`fed_unlearn.avalanche.streams.forget_benchmark`; without a forget stream its training experiences
        come alone.

    Returns
    -------
    Interleaved
        ``for experience in interleave(scenario): strategy.train(experience)``.

    Raises
    ------
    InvalidDataError
        If there is no train stream.
    """
    streams = getattr(benchmark, "streams", {})
    if "train" not in streams:
        raise InvalidDataError(f"{type(benchmark).__name__}: a benchmark without a train_stream was given")
    train = streams["train"] if isinstance(streams["train"], Sequence) else list(streams["train"])
    forget = list(streams.get("forget", ()))
    steps: list[tuple[Sequence[Any], int]] = []
    for number in range(len(train)):
        steps.append((train, number))
        steps.extend((forget, place) for place, request in enumerate(forget) if request.after == number + 1)
    return Interleaved(steps)
