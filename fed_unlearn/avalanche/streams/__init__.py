"""A forget stream beside the streams of any Avalanche benchmark: what must be forgotten, and after which experience."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from avalanche.benchmarks.scenarios.dataset_scenario import DatasetExperience
from avalanche.benchmarks.scenarios.generic_scenario import CLScenario, EagerCLStream
from avalanche.benchmarks.utils import AvalancheDataset

from fed_unlearn.avalanche.streams.forget_sets import Arrivals, ForgetSets
from fed_unlearn.avalanche.streams.naming import named_stream, original_positions
from fed_unlearn.avalanche.streams.request_order import Requests, in_order
from fed_unlearn.avalanche.streams.samples import attribute_values, labels_of, sample_ids
from fed_unlearn.errors import InvalidDataError, InvalidRequestError
from fed_unlearn.requests import ClassScope, ClientScope, ForgetRequest


class ForgetExperience(DatasetExperience):
    """An experience of the forget stream: the samples of one request, D_f.

    Where the training experiences know their classes or tasks, it knows its own in the same way.

    Attributes
    ----------
    request : ForgetRequest
        With an id.
    after : int
        Training experiences that come before it, from 1.
    sample_ids : tuple of str
        D_f: what the request asks for of the samples that have arrived, without what earlier requests asked for.
    dataset : AvalancheDataset
        The samples of D_f, in the order of ``sample_ids``. A strategy without an UnlearningPlugin cannot train on it.
    classes_in_this_experience : list or set of int
        The classes of D_f.
    """

    request: ForgetRequest
    after: int
    sample_ids: tuple[str, ...]

    def __init__(
        self, request: ForgetRequest, after: int, dataset: AvalancheDataset, members: frozenset[str] = frozenset()
    ) -> None:
        guarded = copy.copy(dataset)
        guarded.train = functools.partial(_refuse_training, request.id)
        super().__init__(dataset=guarded)
        self.request = request
        self.after = after
        self.sample_ids = sample_ids(dataset)
        self._named = members if isinstance(request.scope, ClientScope) else frozenset(self.sample_ids)

    def names(self, labels: Iterable[int], ids: Iterable[str]) -> list[bool]:
        """Which training samples the request asks for, those of later experiences among them.

        Parameters
        ----------
        labels : iterable of int
        ids : iterable of str
            Of the same samples.

        Returns
        -------
        list of bool
            One for each sample.
        """
        if isinstance(self.request.scope, ClassScope):
            classes = set(self.request.scope.classes)
            return [int(label) in classes for label in labels]
        return [name in self._named for name in ids]


def released(dataset: AvalancheDataset) -> AvalancheDataset:
    """The data set of a forget experience as one that a strategy may take, where something else keeps it from training.

    Parameters
    ----------
    dataset : AvalancheDataset
        It is left as it is.
    """
    free = copy.copy(dataset)
    vars(free).pop("train", None)
    return free


def _refuse_training(request_id: str | None) -> AvalancheDataset:
    raise InvalidRequestError(
        f"request {request_id}: a strategy without an UnlearningPlugin was about to train on what is to be forgotten;"
        " give it plugins=[UnlearningPlugin()]"
    )


class ForgetScenario(CLScenario):
    """A benchmark with a forget stream; what it does not have itself it takes from the one that it was made of."""

    def __init__(self, given: CLScenario, streams: Sequence[EagerCLStream]) -> None:
        super().__init__(streams)
        self._given = given
        for stream in streams:
            stream.benchmark = self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "_given" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return getattr(self._given, name)


def forget_benchmark(
    benchmark: CLScenario,
    requests: Requests,
    *,
    clients: Mapping[str, Sequence[str]] | None = None,
    seed: int = 0,
) -> ForgetScenario:
    """The same benchmark with a ``forget_stream`` beside its other streams, and with an id for every sample.

    Ids are those that the data sets have; else the index in the one data set that all training experiences are views
    of; else the running number over the training stream. Samples of other streams are named alike, with the stream's
    name before them: ``test:17``.

    Parameters
    ----------
    benchmark : CLScenario
        Any that has a ``train_stream`` of classification data sets. It is left as it is.
    requests : mapping of int to ForgetRequest or sequence of them, or sequence of ForgetRequest
        By the number of training experiences that come before, from 1; all after the last one where there are no
        numbers. Among those of one place the highest priority is first, then the earliest deadline. Requests without
        an id are called ``forget-K``, K their place in the forget stream, from 1.
    clients : mapping of str to sequence of str, optional
        The ids of the samples that each client holds, in its own order. Without it there is one client, whose every
        sample is, and requests for samples may name it as they like.
    seed : int, default 0
        Of the samples that requests leave to be drawn: those that a federation with this seed draws.

    Returns
    -------
    ForgetScenario
        Its streams can be indexed, sliced and looped over, and have a length. Training experiences are as they were:
        it is for the strategy to leave out what is forgotten.

    Raises
    ------
    InvalidDataError
        If there is no train stream, its data sets have no targets, a sample is in two experiences, ids are not to be
        had, or the clients do not fit.
    InvalidRequestError
        If a request has nothing to forget, leaves nothing, names samples, clients or classes that are not there, or
        two have one id.
    """
    growing = GrowingForgetStream(benchmark, clients=clients, seed=seed)
    for request, after in in_order(requests, len(growing.scenario.streams["train"])):
        growing.add(request, after)
    return growing.scenario


class GrowingForgetStream:
    """A benchmark whose forget stream gets its requests one after the other, as they are served.

    Parameters
    ----------
    benchmark, clients, seed
        As for :func:`forget_benchmark`.

    Attributes
    ----------
    scenario : ForgetScenario
        With the requests so far; it is the same object all the time.

    Raises
    ------
    InvalidDataError
        As :func:`forget_benchmark`.
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
        self.scenario = ForgetScenario(benchmark, [self._train, *others, self._forget])

    def add(self, request: ForgetRequest, after: int, *, commits: bool = True) -> ForgetExperience:
        """Put a request at the end of the forget stream.

        Parameters
        ----------
        request : ForgetRequest
            With an id.
        after : int
            Training experiences that come before it, from 1.
        commits : bool
            Whether it counts as committed at once; :meth:`commit` or :meth:`release` say so later otherwise.

        Raises
        ------
        InvalidRequestError
            If it has nothing to forget, leaves nothing, or names what is not there; nothing is changed then.
        """
        dataset = self._whole.subset(self._sets.next(request, after, commits=commits).tolist())
        experience = ForgetExperience(request, after, dataset, self._sets.members(request))
        _describe(experience, self._train[after - 1])
        experience.current_experience = len(self._forget)
        experience.origin_stream = self._forget
        self._forget._exps.append(experience)
        return experience

    def commit(self, request_id: str) -> None:
        """A request was committed: no later one forgets its samples once more."""
        self._sets.commit(request_id)

    def release(self, request_id: str) -> None:
        """A request was taken back before it was committed: later ones may draw its samples."""
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
            "a benchmark that has a forget_stream was given; give all requests at once, with the benchmark it was made"
            " of"
        )
    return dict(streams)


def _arrivals(experiences: Sequence[Any]) -> tuple[Arrivals, AvalancheDataset]:
    datasets: list[Any] = [getattr(experience, "dataset", None) for experience in experiences]
    for number, dataset in enumerate(datasets):
        if not isinstance(dataset, AvalancheDataset) or "targets" not in dataset._data_attributes:
            raise InvalidDataError(
                f"experience {number} of the train stream has no data set with targets; expected the data sets of a"
                " classification benchmark"
            )
    filled = [(number, dataset) for number, dataset in enumerate(datasets, start=1) if len(dataset)]
    if not filled:
        raise InvalidDataError("the train stream has no sample; at least one was expected")
    parts = [dataset for _, dataset in filled]
    numbers = torch.tensor([number for number, _ in filled])
    arrivals = Arrivals(
        ids=tuple(name for part in parts for name in sample_ids(part)),
        labels=torch.tensor([label for part in parts for label in labels_of(part)]),
        experiences=numbers.repeat_interleave(torch.tensor([len(part) for part in parts])),
        originals=torch.tensor([position for part in original_positions(parts) for position in part]),
    )
    group = parts[0]._flat_data._transform_groups.current_group
    return arrivals, type(parts[0])(parts).with_transforms(group)


def _describe(experience: ForgetExperience, trained: Any) -> None:
    """Give a forget experience what Avalanche's experiences of this benchmark tell about classes and tasks."""
    given = getattr(trained, "classes_in_this_experience", None)
    kind = list if isinstance(given, list) else set
    experience.classes_in_this_experience = kind(sorted(set(labels_of(experience.dataset))))
    if getattr(trained, "classes_seen_so_far", None) is not None:
        experience.previous_classes = kind(sorted(trained.classes_seen_so_far))
        experience.classes_seen_so_far = kind(sorted(trained.classes_seen_so_far))
        experience.future_classes = kind(sorted(trained.future_classes))
    if hasattr(trained, "task_labels"):
        experience.task_labels = sorted(set(attribute_values(experience.dataset, "targets_task_labels")))
        if len(experience.task_labels) == 1:
            experience.task_label = experience.task_labels[0]
