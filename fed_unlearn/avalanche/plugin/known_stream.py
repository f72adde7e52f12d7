"""The training stream that a plug-in works on: gives samples their ids, and requests their samples."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from avalanche.benchmarks.scenarios.generic_scenario import CLScenario, EagerCLStream
from avalanche.benchmarks.utils import AvalancheDataset

from fed_unlearn.avalanche.streams import ForgetExperience, ForgetScenario, GrowingForgetStream
from fed_unlearn.avalanche.streams.naming import experience_with
from fed_unlearn.avalanche.streams.origin import benchmark_around, place_of, whole_stream
from fed_unlearn.avalanche.streams.samples import has_sample_ids, located, sample_ids, with_sample_ids
from fed_unlearn.errors import FedUnlearnError, InvalidDataError, InvalidParameterError, InvalidRequestError
from fed_unlearn.requests import ForgetRequest


class KnownStream:
    """Gives the samples of training experiences ids as they arrive, and finds the samples of requests.

    Nothing is refused before a request: what stands against one is kept as ``problem``.

    Attributes
    ----------
    problem : FedUnlearnError or None
        Why no request can be served; None if nothing is known against it.
    """

    def __init__(self) -> None:
        self.problem: FedUnlearnError | None = None
        self._growing: GrowingForgetStream | None = None
        self._source: GrowingForgetStream | None = None
        self._outcomes: dict[str, bool] = {}
        self._announced = True
        self._met: Any = None
        self._rows: _Rows | None = None
        self._count = 0

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what can be made again, and what holds the benchmark of others, which may not be picklable."""
        return {**vars(self), "_met": None, "_rows": None, "_source": None}

    @property
    def digest(self) -> str | None:
        """The digest of the stream; None before the first experience."""
        return None if self._growing is None else self._growing.digest

    @property
    def scenario(self) -> ForgetScenario | None:
        """The benchmark with its forget stream; None before the first experience."""
        return None if self._growing is None else self._growing.scenario

    @property
    def requests(self) -> list[ForgetExperience]:
        """The experiences of the forget stream, served or not."""
        return [] if self.scenario is None else list(self.scenario.streams["forget"])

    def named(self, experience: Any, forgotten: Collection[str]) -> Any:
        """Return a copy of a training experience whose samples have ids; the same object if it has them.

        Parameters
        ----------
        experience : DatasetExperience
            An experience, or an online part of one. It is not changed.
        forgotten : collection of str
            Ids of samples that are forgotten already.

        Raises
        ------
        FedUnlearnError
            If something is forgotten, and the samples cannot be told from it. Otherwise the experience is returned as
            it is, and the error becomes ``problem``.
        """
        try:
            self._meet(experience)
            return self._with_ids(experience)
        except FedUnlearnError as error:
            self.problem = self.problem or error
            if forgotten:
                raise
            return experience

    def meet_request(self, experience: ForgetExperience) -> None:
        """Take over the benchmark of a forget experience.

        Raises
        ------
        InvalidParameterError
            If it is another benchmark than that of the training experiences.
        """
        self._meet(experience)
        if self._growing is not None and self._source is not None:
            self._growing.catch_up(self._source)
        if self.problem is not None:
            raise self.problem

    def awaits(self, requests: Sequence[ForgetRequest], arrived: Collection[str]) -> list[bool]:
        """Return for each request whether samples that it names have not arrived yet."""
        if self._growing is None:
            return [True] * len(requests)
        return self._growing.awaits(requests, arrived, announced=self._announced)

    def experience_of(self, request: ForgetRequest, after: int, arrived: Collection[str]) -> ForgetExperience:
        """Append a request to the forget stream and return its experience.

        Parameters
        ----------
        request : ForgetRequest
            The request. If it has no id, it gets one.
        after : int
            Number of training experiences so far, at least 1.
        arrived : collection of str
            Ids of the samples that have been trained on.

        Raises
        ------
        InvalidDataError
            If nothing is known of the training samples.
        InvalidRequestError
            If the request has nothing to forget, leaves nothing, names something unknown, or has the id of another.
        """
        if self.problem is not None:
            raise self.problem
        if self._growing is None:
            raise InvalidDataError(
                "a request was made before the plug-in met a training experience; expected at least one. Train first,"
                " or submit the request: it then waits"
            )
        if request.id in {each.request.id for each in self.requests}:
            raise InvalidRequestError(
                f"the forget stream has a request with the id {request.id!r} already; expected an id of its own"
            )
        return self._growing.add(request, after, arrived=arrived, commits=False)

    def withdraw(self, experience: ForgetExperience) -> None:
        """Take a request back that :meth:`experience_of` appended and that could not be served."""
        if self._growing is not None:
            self._growing.withdraw(experience)

    def note_outcome(self, request_id: str, *, committed: bool) -> None:
        """Note how a request went. A later request may name the samples of one that was not committed."""
        self._outcomes[request_id] = committed
        if self._growing is not None:
            (self._growing.commit if committed else self._growing.release)(request_id)

    def numbered(self, request: ForgetRequest, used: Collection[str]) -> ForgetRequest:
        """Return the request with an id. One that is made here is not among ``used``."""
        while not request.id or request.id in used:
            self._count += 1
            request = dataclasses.replace(request, id=f"submitted-{self._count}")
        return request

    # ------------------------------------------------------------------ streams

    def _meet(self, experience: Any) -> None:
        stream = whole_stream(experience)
        if stream is None and isinstance(experience, ForgetExperience):
            raise InvalidDataError("a forget experience without a forget stream was given; take it from the stream")
        if self._growing is not None and (stream is None or stream is self._met):
            return
        if stream is None:
            self._announced = False
            return
        source = _source_of(stream)
        if source is not None and (source is self._source or source is self._growing):
            self._met = stream
            return
        # Strategies that share a benchmark do not share requests: each plug-in works on a fork.
        growing = GrowingForgetStream(benchmark_around(stream)) if source is None else source.forked()
        if self._growing is not None:
            if growing.digest != self._growing.digest:
                raise InvalidParameterError(
                    "this UnlearningPlugin was used with another benchmark before: its training samples have other ids"
                    " or labels. Make a new plug-in for each strategy and benchmark, since sample ids mean nothing"
                    " beyond"
                )
            growing.take_over(self._growing, self._outcomes)
        self._growing, self._source, self._rows = growing, source, None
        self._met = stream

    # ------------------------------------------------------------------ ids

    def _with_ids(self, experience: Any) -> Any:
        dataset = getattr(experience, "dataset", None)
        if not isinstance(dataset, AvalancheDataset):
            raise InvalidDataError(
                f"an experience with a {type(dataset).__name__} was trained on; a request needs the data sets of a"
                " classification benchmark"
            )
        if self._announced and self._growing is not None:
            place = place_of(experience)
            if has_sample_ids(dataset) or place is None:
                return experience
            return experience_with(experience, self._looked_up(experience, self._growing.train[place].dataset, place))
        return self._unannounced(experience)

    def _looked_up(self, experience: Any, whole: AvalancheDataset, place: int) -> AvalancheDataset:
        """Return the data set with the ids that the stream's experience gives the same samples of the same bases.

        Where the experience has a sample several times, a data set with exactly the same rows gets their ids by
        position. Any other gives the sample the id of the first row that it is.
        """
        dataset = experience.dataset
        if self._rows is None or self._rows.place != place:
            self._rows = _rows_of(place, whole)
        bases, rows = self._rows.bases, self._rows.rows
        found, numbers, positions = located(dataset)
        of_base = [next((row for base, row in zip(bases, rows, strict=True) if base is each), None) for each in found]
        chosen = np.full(len(dataset), -1, dtype=np.int64)
        for number, row in enumerate(of_base):
            held = numbers == number
            if row is not None:
                chosen[held] = row[positions[held]]
        if np.array_equal(chosen, self._rows.firsts):
            chosen = np.arange(len(dataset))
        if (chosen < 0).any():
            raise InvalidDataError(
                f"training experience {place} has samples that experience {place} of its stream does not have, so that"
                " they have no ids; train on the experiences of the stream, or name the samples with with_sample_ids"
            )
        ids = self._rows.ids
        return with_sample_ids(dataset, [ids[row] for row in chosen.tolist()], unique=False)

    def _unannounced(self, experience: Any) -> Any:
        """Name an experience of a stream that makes experiences as they are asked for."""
        count = 0 if self._growing is None else len(self._growing.train)
        again = self._met_before(experience, count)
        if again is not None:
            return again
        if not has_sample_ids(experience.dataset):
            ids = [f"{count}:{index}" for index in range(len(experience.dataset))]
            experience = experience_with(experience, with_sample_ids(experience.dataset, ids))
        if self._growing is None:
            self._growing = GrowingForgetStream(
                CLScenario([EagerCLStream("train", [experience], set_stream_info=False)])
            )
        else:
            self._growing.extend(experience)
        return experience

    def _met_before(self, experience: Any, count: int) -> Any:
        """Return a copy with the ids that the same samples got before; None if they are new."""
        if has_sample_ids(experience.dataset):
            ids = frozenset(sample_ids(experience.dataset))
            known = self._growing is not None and ids.issubset(self._growing.ids)
            return experience if known else None
        place = place_of(experience)
        if self._growing is not None and place is not None and place < count:
            with suppress(InvalidDataError):  # it has other samples than the experience of its number
                return experience_with(
                    experience, self._looked_up(experience, self._growing.train[place].dataset, place)
                )
        return None


@dataclass(frozen=True)
class _Rows:
    """Where the samples of one experience of the stream lie in the data sets below Avalanche's views.

    ``rows`` has for each of the bases the first row that each of its samples is, -1 if none; ``firsts`` has for each
    row the first that is the same sample.
    """

    place: int
    ids: tuple[str, ...]
    bases: list[Any]
    rows: list[np.ndarray]
    firsts: np.ndarray


def _source_of(stream: Any) -> GrowingForgetStream | None:
    """Return the forget stream that a benchmark was made with; None if it was made without one."""
    benchmark = getattr(stream, "benchmark", None)
    return benchmark.growing if isinstance(benchmark, ForgetScenario) else None


def _rows_of(place: int, dataset: AvalancheDataset) -> _Rows:
    bases, numbers, positions = located(dataset)
    rows = [np.full(len(base), -1, dtype=np.int64) for base in bases]
    firsts = np.arange(len(dataset))
    for number, row in enumerate(rows):
        held = np.flatnonzero(numbers == number)
        known, first = np.unique(positions[held], return_index=True)
        row[known] = held[first]
        firsts[held] = row[positions[held]]
    return _Rows(place, sample_ids(dataset), bases, rows, firsts)
