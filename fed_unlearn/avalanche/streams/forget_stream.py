"""Adds a forget stream to any Avalanche benchmark."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from avalanche.benchmarks.scenarios.generic_scenario import CLScenario, EagerCLStream
from avalanche.benchmarks.utils import AvalancheDataset
from torch import Tensor

from fed_unlearn.avalanche.streams.arrivals import Arrivals
from fed_unlearn.avalanche.streams.digests import stream_digest
from fed_unlearn.avalanche.streams.forget_experience import ForgetExperience
from fed_unlearn.avalanche.streams.forget_sets import ForgetSets
from fed_unlearn.avalanche.streams.naming import NamedStream, named_stream, original_positions, require_once
from fed_unlearn.avalanche.streams.order import Requests, in_order
from fed_unlearn.avalanche.streams.origin import CopiedWhole
from fed_unlearn.avalanche.streams.samples import has_task_labels, labels_of, sample_ids, task_labels_of
from fed_unlearn.errors import InvalidDataError
from fed_unlearn.requests import ForgetRequest


class ForgetScenario(CopiedWhole, CLScenario):
    """A benchmark with a forget stream. All other attributes are those of the benchmark that it was made from.

    Attributes
    ----------
    growing : GrowingForgetStream
        Adds requests to the forget stream.
    """

    def __init__(self, given: CLScenario, streams: Sequence[EagerCLStream], growing: GrowingForgetStream) -> None:
        super().__init__(streams)
        self._given = given
        self.growing = growing
        for stream in streams:
            stream.benchmark = self

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the benchmark that this was made from. Not every benchmark can be pickled."""
        return {**vars(self), "_given": None}

    def with_growing(self, growing: GrowingForgetStream, forget: EagerCLStream) -> ForgetScenario:
        """Return the benchmark with another forget stream. Both have the same experiences in their other streams."""
        others = [
            NamedStream(name, list(stream), set_stream_info=False)
            for name, stream in self.streams.items()
            if name != forget.name
        ]
        return ForgetScenario(self._given, [*others, forget], growing)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or self.__dict__.get("_given") is None:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return getattr(self._given, name)


def forget_benchmark(
    benchmark: CLScenario,
    requests: Requests,
    *,
    clients: Mapping[str, Sequence[str]] | None = None,
    seed: int = 0,
) -> ForgetScenario:
    """Return the benchmark with a ``forget_stream`` and with an id for every sample.

    Ids that the data sets have are kept. Otherwise a sample's id is its index in the data set that all training
    experiences are views of, or, without such a data set, its running number over the training stream. Where a sample
    of that data set comes in several experiences, as in permuted benchmarks, its id is ``"<experience>:<index>"``, the
    number of the experience and the index in it, both counted from 0. Ids that are made for other streams begin with
    the stream's name: ``test:17``.

    Parameters
    ----------
    benchmark : CLScenario
        The benchmark. It has a ``train_stream`` of classification data sets. It is not changed.
    requests : mapping of int to ForgetRequest or sequence of them, or sequence of ForgetRequest
        Keys are numbers of training experiences that come before the request, at least 1. Without keys all requests
        come after the last experience. Requests of one key are ordered by descending priority, then by deadline.
        A request without an id gets the id ``forget-K``, where K is its place in the forget stream, counted from 1.
    clients : mapping of str to sequence of str, optional
        Ids of the samples that each client holds, in the client's order. Without it a single client holds all samples,
        and requests for samples may call it by any name.
    seed : int, default 0
        Seed of the samples that are drawn for requests that give only a count. A federation with this seed draws the
        same samples.

    Returns
    -------
    ForgetScenario
        The benchmark. Its streams can be indexed, sliced and looped over, and have a length. Training experiences keep
        all their samples: the strategy leaves out what is forgotten.

    Raises
    ------
    InvalidDataError
        If there is no train stream, its data sets have no targets, an id is in two experiences, only some samples have
        ids, or ``clients`` names samples that are unknown or held twice.
    InvalidRequestError
        If a request has nothing to forget, leaves nothing, or names unknown samples, clients or classes, or if two
        requests have the same id.
    """
    growing = GrowingForgetStream(benchmark, clients=clients, seed=seed)
    for request, after in in_order(requests, len(growing.scenario.streams["train"])):
        growing.add(request, after)
    return growing.scenario


class GrowingForgetStream:
    """A benchmark whose forget stream grows by one request at a time.

    Parameters and errors are those of :func:`forget_benchmark`.

    Attributes
    ----------
    scenario : ForgetScenario
        The benchmark with the requests so far. It stays the same object.
    """

    def __init__(
        self, benchmark: CLScenario, *, clients: Mapping[str, Sequence[str]] | None = None, seed: int = 0
    ) -> None:
        streams = _streams_of(benchmark)
        self._train = named_stream("train", streams["train"], prefix="", once=True)
        others = [
            named_stream(name, stream, prefix=f"{name}:", once=False)
            for name, stream in streams.items()
            if name != "train"
        ]
        arrivals, self._whole = _arrivals(list(self._train))
        self._sets = ForgetSets(arrivals, clients, seed)
        self._forget = EagerCLStream("forget", [])
        self.scenario = ForgetScenario(benchmark, [self._train, *others, self._forget], self)

    @property
    def train(self) -> EagerCLStream:
        """The training experiences. Their samples have ids."""
        return self._train

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the training samples in the order of arrival."""
        return self._sets.arrivals.ids

    @cached_property
    def digest(self) -> str:
        """What the stream is told by, see :func:`stream_digest`. The same benchmark made anew has the same digest."""
        return stream_digest([experience.dataset for experience in self._train])

    def forked(self) -> GrowingForgetStream:
        """Return a stream that begins with the requests of this one and then grows by itself.

        Both have the same forget experiences so far, and the same data. Neither meets the later requests of the other.
        """
        fork = copy.copy(self)
        fork._sets = self._sets.forked()
        fork._forget = EagerCLStream("forget", list(self._forget), set_stream_info=False)
        fork.scenario = self.scenario.with_growing(fork, fork._forget)
        fork._train = fork.scenario.streams["train"]
        return fork

    def catch_up(self, source: GrowingForgetStream) -> None:
        """Append the requests that were added to the stream that this is a fork of."""
        known = {experience.request.id for experience in self._forget}
        for experience in source._forget:
            if experience.request.id not in known:
                self._forget._exps.append(experience)
                self._sets.take_over(experience.request.id, source._sets)

    def take_over(self, earlier: GrowingForgetStream, outcomes: Mapping[str, bool]) -> None:
        """Note how requests went at a stream of the same digest.

        Parameters
        ----------
        earlier : GrowingForgetStream
            The stream. It is not changed.
        outcomes : mapping of str to bool
            Whether each request that was served there was committed. Only the samples of these are forgotten.
        """
        for request_id, committed in outcomes.items():
            self._sets.release(request_id)
            if committed:
                self._sets.take_over(request_id, earlier._sets, committed=True)

    def add(
        self, request: ForgetRequest, after: int, *, arrived: Collection[str] | None = None, commits: bool = True
    ) -> ForgetExperience:
        """Append a request to the forget stream and return its experience.

        Parameters
        ----------
        request : ForgetRequest
            The request, which has an id.
        after : int
            Number of training experiences that come before it, at least 1.
        arrived : collection of str, optional
            Ids of the samples that have arrived. Default: those of the first ``after`` experiences.
        commits : bool
            Whether the request counts as committed at once. If not, call :meth:`commit` or :meth:`release` later.

        Raises
        ------
        InvalidRequestError
            If the request has nothing to forget, leaves nothing, or names something unknown. Nothing is changed then.
        """
        mask = None if arrived is None else self._sets.arrivals.among(arrived)
        dataset = self._whole.subset(self._sets.next(request, after, arrived=mask, commits=commits).tolist())
        experience = ForgetExperience(request, after, dataset, self._sets.members(request))
        experience.describe_like(self._train[after - 1])
        experience.current_experience = len(self._forget)
        experience.origin_stream = self._forget
        self._forget._exps.append(experience)
        return experience

    def withdraw(self, experience: ForgetExperience) -> None:
        """Take back the request that was added last, with its experience."""
        self.release(experience.request.id)
        if self._forget._exps and self._forget._exps[-1] is experience:
            self._forget._exps.pop()

    def awaits(
        self, requests: Sequence[ForgetRequest], arrived: Collection[str], *, announced: bool = True
    ) -> list[bool]:
        """Return for each request whether samples that it names have not arrived; see :meth:`ForgetSets.awaited`."""
        mask = self._sets.arrivals.among(arrived) if requests else None  # once, since the stream may be long
        return [] if mask is None else [self._sets.awaited(each, mask, announced=announced) for each in requests]

    def extend(self, experience: Any) -> None:
        """Append a training experience that nobody announced. Its samples have ids that are new."""
        arrivals, _ = _arrivals([experience], first=len(self._train) + 1)
        require_once("train", [self._sets.arrivals.ids, arrivals.ids])
        self._sets.extend(arrivals)
        self._whole = self._whole.concat(experience.dataset)
        self._train._exps.append(experience)
        vars(self).pop("digest", None)

    def commit(self, request_id: str) -> None:
        """Note that a request was committed. Later requests do not forget its samples again."""
        self._sets.commit(request_id)

    def release(self, request_id: str) -> None:
        """Note that a request was taken back before its commit. Later requests may ask for its samples."""
        self._sets.release(request_id)


def _streams_of(benchmark: CLScenario) -> dict[str, Any]:
    streams = getattr(benchmark, "streams", {})
    if "train" not in streams:
        raise InvalidDataError(
            f"{type(benchmark).__name__}: a benchmark without a train_stream was given; expected one whose samples can"
            " be forgotten"
        )
    if "forget" in streams:
        raise InvalidDataError(
            "a benchmark that has a forget_stream was given; expected one without. Give all requests at once with the"
            " benchmark that it was made of, or a later request to UnlearningPlugin.submit"
        )
    return dict(streams)


def _arrivals(experiences: Sequence[Any], first: int = 1) -> tuple[Arrivals, AvalancheDataset]:
    datasets: list[Any] = [getattr(experience, "dataset", None) for experience in experiences]
    for number, dataset in enumerate(datasets):
        if not isinstance(dataset, AvalancheDataset) or "targets" not in dataset._data_attributes:
            raise InvalidDataError(
                f"experience {number} of the train stream has no data set with targets; expected the data sets of a"
                " classification benchmark"
            )
    filled = [(number, dataset) for number, dataset in enumerate(datasets, start=first) if len(dataset)]
    if not filled:
        raise InvalidDataError("the train stream has no sample; at least one was expected")
    parts = [dataset for _, dataset in filled]
    numbers = torch.tensor([number for number, _ in filled])
    arrivals = Arrivals(
        ids=tuple(name for part in parts for name in sample_ids(part)),
        labels=torch.tensor([label for part in parts for label in labels_of(part)]),
        experiences=numbers.repeat_interleave(torch.tensor([len(part) for part in parts])),
        originals=torch.tensor([position for part in original_positions(parts) for position in part]),
        tasks=_tasks(parts),
    )
    group = parts[0]._flat_data._transform_groups.current_group
    return arrivals, type(parts[0])(parts).with_transforms(group)


def _tasks(parts: Sequence[AvalancheDataset]) -> Tensor | None:
    if not all(has_task_labels(part) for part in parts):
        return None
    return torch.tensor([task for part in parts for task in task_labels_of(part)])
