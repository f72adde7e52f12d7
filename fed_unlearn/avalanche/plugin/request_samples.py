"""The samples that a request is served with: forget set, retained samples and validation samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import torch
from avalanche.benchmarks.utils import AvalancheDataset
from torch import nn

from fed_unlearn.avalanche.plugin.held_out import share_of
from fed_unlearn.avalanche.plugin.history import History
from fed_unlearn.avalanche.plugin.memory.buffers import buffered
from fed_unlearn.avalanche.streams import ForgetExperience
from fed_unlearn.avalanche.streams.reading import SampleReader
from fed_unlearn.avalanche.streams.samples import each_once, has_sample_ids, sample_ids, without
from fed_unlearn.avalanche.tasks import asked_of, reader_for
from fed_unlearn.data.domain import InputDomain
from fed_unlearn.data.held import spread
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import InvalidDataError, InvalidParameterError, InvalidRequestError
from fed_unlearn.local import LocalSamples
from fed_unlearn.logits import predict_logits
from fed_unlearn.requests import ClassScope

_SETS = (AvalancheDataset, SampleSet)
_LOOKED_AT = 64


class RequestSamples:
    """Reads the samples for requests from what the user of a plug-in chose.

    Parameters
    ----------
    retain, validation
        What the user chose, as for :class:`~fed_unlearn.avalanche.plugin.UnlearningPlugin`.
    domain : InputDomain, optional
        What the inputs are.

    Attributes
    ----------
    reader : SampleReader
        Reads all samples.

    Raises
    ------
    InvalidParameterError
        If ``retain``, ``validation`` or ``domain`` is of another kind.
    """

    def __init__(self, retain: Any, validation: Any, domain: InputDomain | None = None) -> None:
        if not isinstance(retain, _SETS) and retain not in ("memory", "seen"):
            raise InvalidParameterError(
                f'retain = {retain!r} was given; expected "seen", "memory", or an AvalancheDataset or SampleSet'
            )
        if domain is not None and not isinstance(domain, InputDomain):
            raise InvalidParameterError(
                f"domain = {domain!r} was given; expected an InputDomain, such as InputDomain.normalized(mean, std)"
            )
        self.reader = SampleReader(domain)
        self._retain = retain
        self._holds_out = share_of(validation) is not None
        self._validation = None if validation is None or self._holds_out else _datasets_of(validation)

    def check(self, strategy: Any, experience: ForgetExperience, history: History) -> InputDomain:
        """Raise if samples that the request is served with cannot be read. A few of each kind are read.

        Returns
        -------
        InputDomain
            What the inputs are.

        Raises
        ------
        InvalidDataError
            If inputs are no tensors of one shape, are outside their domain, or differ in shape or domain.
        InvalidRequestError
            If all samples of the request are held out.
        """
        forget = without(experience.dataset, history.held_out.ids)
        if not len(forget):
            raise InvalidRequestError(
                f"request {experience.request.id} has nothing to unlearn: all of its {len(experience.dataset)} samples"
                " are held out by validation=, and the model was never trained on them; expected samples of the"
                " training"
            )
        seen = _some_of(history)  # held-out samples are among these, too
        if isinstance(self._retain, _SETS):
            retained: list[Any] = [self._retain]
        elif self._retain == "memory":
            retained = [*filter(has_sample_ids, buffered(strategy)), *seen[-1:]]
        else:
            retained = seen
        given = {
            "forget": [forget],
            "retain": retained,
            "validation": seen if self._holds_out else self._validation_sets(experience),
        }
        few = {
            f"{name} {number}": self.reader.samples(part)
            for name, sets in given.items()
            for number, part in enumerate(_few_of_all(sets), start=1)
        }
        _require_one_kind(few)
        return next(samples.domain for samples in few.values())

    def prepare(self, strategy: Any, experience: ForgetExperience, history: History) -> None:
        """Choose the reader that suits the strategy's model, and say what a request asks for in its labels.

        Raises
        ------
        InvalidRequestError
            If the request names classes of single tasks in a way that the model cannot serve.
        InvalidDataError
            If the model reads task labels, and the samples have none.
        """
        streams = experience.origin_stream.benchmark.streams
        train = [*streams["train"], *history.trained]
        others = [item for name, stream in streams.items() if name not in ("train", "forget") for item in stream]
        self.reader = reader_for(strategy.model, [*train, *others], self.reader)
        experience.asked = asked_of(experience, self.reader, train)

    def read(self, strategy: Any, experience: ForgetExperience, history: History, views: Sequence[Any]) -> LocalSamples:
        """Return the samples to serve a request with.

        Parameters
        ----------
        strategy : SupervisedTemplate
            The strategy. Its buffers hold no forgotten samples.
        experience : ForgetExperience
            The experience of the request, which ``history`` has already.
        history : History
            What the plug-in has met.
        views : sequence of DatasetExperience
            The training experiences of ``history``, without forgotten samples.

        Raises
        ------
        InvalidParameterError
            If nothing was trained yet and there are no retained samples.
        InvalidDataError
            If the user's retained samples have ids that the benchmark does not have, inputs are outside their domain,
            or the sets differ in shape or domain.
        """
        forget = self.forget(experience, history)
        retained = self.retained(strategy, experience, views).without(history.never_trained_on)
        retained = retained.of_classes(set(retained.labels.tolist()) - history.asked_classes)
        arrived = {label for view in views for label in self.reader.labels(view.dataset)}
        # If the model was trained elsewhere, the retained samples tell its classes.
        arrived = arrived or set(retained.labels.tolist())
        if not arrived:
            raise InvalidParameterError(
                f"request {experience.request.id}: the strategy has trained nothing yet, and there are no retained"
                " samples; train first, or give those of the model's training as retain="
            )
        validation = self.validation(experience, history.validation())
        _require_one_kind({"forget": forget, "retain": retained, "validation": validation})
        return LocalSamples(
            forget=forget,
            retained=retained,
            retained_from="given" if isinstance(self._retain, _SETS) else self._retain,
            validation=validation,
            absent_classes=frozenset(range(_class_count(self.reader.model(strategy.model), forget))) - arrived,
        )

    def forget(self, experience: ForgetExperience, history: History) -> SampleSet:
        """Return the samples that a request has the model unlearn: those it names, without what was held out."""
        return self.reader.samples(without(experience.dataset, history.held_out.ids))

    def retained(self, strategy: Any, experience: ForgetExperience, views: Sequence[Any]) -> SampleSet:
        """Return the samples that may be read as retained, each once. The user's own may include forgotten ones.

        Raises
        ------
        InvalidDataError
            If the user's samples have ids that the benchmark does not have: forgotten ones could not be told.
        """
        if isinstance(self._retain, _SETS):
            return _of_benchmark(self.reader.samples(self._retain), experience.origin_stream.benchmark)
        if self._retain == "memory":
            last = [item.dataset for item in views[-1:]]
            kept = self.reader.joined([*buffered(strategy), *last], experience.dataset)
            if not isinstance(experience.asked.scope, ClassScope):
                return kept  # single samples leave the classes as they are
            return balanced(kept, {label for dataset in last for label in self.reader.labels(dataset)})
        return self.reader.joined([item.dataset for item in views], experience.dataset)

    def validation(self, experience: ForgetExperience, held_out: Sequence[AvalancheDataset] = ()) -> SampleSet:
        """Return samples that are never trained on: the user's, those held out, the ``valid`` stream's, or none."""
        sets = held_out if self._holds_out else self._validation_sets(experience)
        return self.reader.joined(sets, experience.dataset)

    def _validation_sets(self, experience: ForgetExperience) -> list[Any]:
        if self._validation is not None or self._holds_out:
            return self._validation or []
        return [item.dataset for item in experience.origin_stream.benchmark.streams.get("valid", [])]


def _datasets_of(validation: Any) -> list[Any]:
    """Return the data sets of a data set, a SampleSet or a stream, which may be a generator."""
    if isinstance(validation, _SETS):
        return [validation]
    found = [getattr(item, "dataset", None) for item in validation] if isinstance(validation, Iterable) else [None]
    if not all(isinstance(item, _SETS) for item in found):
        raise InvalidParameterError(
            f"validation = {type(validation).__name__} was given; expected an AvalancheDataset, a SampleSet or a stream"
        )
    return found


def balanced(samples: SampleSet, latest: Collection[int]) -> SampleSet:
    """Take as many samples at most of each latest class as there are of the largest earlier one.

    Repair on a small memory beside a whole experience favours the classes of that experience, and so does a gate that
    judges by these samples.

    Parameters
    ----------
    samples : SampleSet
        The samples. The first ones of a class are taken.
    latest : collection of int
        Classes of the last experience. Where there are no others, all samples are taken.
    """
    labels = samples.labels.tolist()
    earlier = Counter(label for label in labels if label not in latest)
    if not earlier:
        return samples
    most, taken, chosen = max(earlier.values()), Counter[int](), list[int]()
    for index, label in enumerate(labels):
        taken[label] += 1
        if taken[label] <= most:
            chosen.append(index)
    return samples if len(chosen) == len(labels) else samples.subset(torch.tensor(chosen))


def _of_benchmark(retained: SampleSet, benchmark: Any) -> SampleSet:
    known = {name for item in benchmark.streams["train"] for name in sample_ids(item.dataset)}
    foreign = [name for name in retained.ids if name not in known]
    if foreign:
        raise InvalidDataError(
            f"retain: sample {foreign[0]!r} and {len(foreign) - 1} more are not of the benchmark's training stream,"
            " so that forgotten ones could not be left out; give a data set under the benchmark's own sample ids"
        )
    return retained


def _some_of(history: History) -> list[Any]:
    """Return data sets of some experiences that were trained on, the last one included. Forgotten data may be gone."""
    places = {*spread(len(history.trained), _LOOKED_AT).tolist(), len(history.trained) - 1} - {-1}
    return [without(history.trained[place].dataset, history.forgotten) for place in sorted(places)]


def _few_of_all(sets: Iterable[Any]) -> list[Any]:
    """Return a few samples of a few sets, which may be thousands of online parts."""
    filled = [dataset for dataset in sets if len(dataset)]
    chosen = [filled[place] for place in spread(len(filled), _LOOKED_AT).tolist()]
    return [_few_of(dataset, max(_LOOKED_AT // len(chosen), 2)) for dataset in chosen]


def _few_of(dataset: Any, count: int) -> Any:
    places = spread(len(dataset), count)
    return dataset.subset(places) if isinstance(dataset, SampleSet) else each_once(dataset.subset(places.tolist()))


def _require_one_kind(sets: Mapping[str, SampleSet]) -> None:
    """Raise if sets that have samples differ in the shape or the domain of their inputs."""
    kinds = {name: (samples.input_shape, samples.domain) for name, samples in sets.items() if len(samples)}
    if len(set(kinds.values())) > 1:
        told = "; ".join(f"{name}: shape {shape} and {domain}" for name, (shape, domain) in kinds.items())
        raise InvalidDataError(
            f"the samples of a request differ ({told}); expected inputs as the model reads them in all sets: give data"
            " sets with the transforms of the benchmark, or UnlearningPlugin(domain=...) where these say different ones"
        )


def _class_count(model: nn.Module, samples: SampleSet) -> int:
    return predict_logits(model, samples.subset(torch.tensor([0]))).shape[1]
