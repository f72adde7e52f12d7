"""Follows the requests of a forget stream and measures them after each event."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fed_unlearn.audits.measured import Measured
from fed_unlearn.audits.pooled import classes_of
from fed_unlearn.avalanche.metrics.forget_figures import ServedRequest, StreamFigures, measure
from fed_unlearn.avalanche.metrics.full_audits import full_figures, retained_of
from fed_unlearn.avalanche.metrics.relapse_matrix import RelapseEvent, RelapseMatrix
from fed_unlearn.avalanche.streams import ForgetExperience
from fed_unlearn.avalanche.streams.naming import bare_experience, experience_with
from fed_unlearn.avalanche.streams.origin import place_of
from fed_unlearn.avalanche.streams.reading import SampleReader
from fed_unlearn.avalanche.streams.samples import has_sample_ids, sample_ids, with_sample_ids
from fed_unlearn.data.sample_set import SampleSet


class ForgetWatch:
    """Measures what the metrics of :func:`~fed_unlearn.avalanche.metrics.forget_metrics` report, once per event.

    Samples of requests and test samples are read once and kept. Samples of a request are dropped as soon as they may
    not be read any more.

    Parameters
    ----------
    membership : bool
        Whether to run the membership attack.
    full : bool
        Whether to run all audits that need neither an oracle nor the model before, right after each request.

    Attributes
    ----------
    served : dict of int to ServedRequest
        Requests in the order of serving, by the number of their experience.
    served_at : dict of int to float
        Forget accuracy right after the request was served, by number.
    events : list of RelapseEvent
        Rows of the relapse matrix.
    latest : StreamFigures or None
        Figures of the last event.
    outcomes : dict of str to bool
        Whether requests were committed, by id, if no plug-in of the strategy knows it.
    trained : int
        Number of training experiences so far, skipped ones included.
    readable : callable
        Returns whether the samples of a request may be read now, given its id. It is called before every reading and
        every measurement.
    reader : SampleReader
        Reads all samples: that of the strategy's plug-in, where there is one.
    """

    def __init__(self, *, membership: bool = True, full: bool = False) -> None:
        self._membership, self._full = membership, full
        self.readable: Callable[[str], bool] = _always
        self.reader = SampleReader()
        self.reset()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out which metrics have read the last event: copies of metrics are others."""
        return {**vars(self), "_readers": set()}

    def reset(self) -> None:
        """Drop everything that was noted."""
        self.served: dict[int, ServedRequest] = {}
        self.served_at: dict[int, float] = {}
        self.events: list[RelapseEvent] = []
        self.latest: StreamFigures | None = None
        self.outcomes: dict[str, bool] = {}
        self.trained = 0
        self._test_task_label: int | None = None
        self._arrived: set[int] = set()
        self._since: list[str] = []
        self._test: SampleSet | None = None
        self._benchmark: Any = None
        self._test_of: list[int] | None = None
        self._evaluated: dict[int, Any] = {}
        self._readers: set[int] = set()

    def after_unlearning(self, strategy: Any, reader: object) -> StreamFigures | None:
        """Return the figures after the request of ``strategy.experience``. The first reader has them measured."""
        if self._is_new_event(reader):
            self._read_as(strategy)
            request = self.serve(strategy.experience)
            self.latest = self._measure(strategy, "+".join(self._since))
            if self._full:
                self.latest = replace(self.latest, audits={request.number: self._audited(strategy, request)})
        return self.latest

    def after_training(self, strategy: Any, reader: object) -> StreamFigures | None:
        """Return the figures after a training experience; None if no request was served before."""
        if self._is_new_event(reader):
            self.latest = None
            self.trained = strategy.clock.train_exp_counter + 1  # the Clock counts after all other plug-ins
            self.arrive([strategy.experience])
            if self.served:
                self.latest = self._measure(strategy, f"train:{self.trained}")
        return self.latest

    def arrive(self, experiences: Iterable[Any]) -> None:
        """Note the classes of training experiences."""
        for experience in experiences:
            self._arrived |= set(self.reader.labels(experience.dataset))

    def note_evaluated(self, experience: Any) -> None:
        """Note an experience that is evaluated. Those of a stream "test" serve where the benchmark has no test samples.

        A benchmark cannot be reached from its experiences where ``experience.origin_stream.benchmark`` is None.
        """
        number = place_of(experience)
        if getattr(experience.origin_stream, "name", None) != "test" or number is None or number in self._evaluated:
            return
        kept = bare_experience(experience)
        if not has_sample_ids(kept.dataset):
            ids = [f"test:{number}:{index}" for index in range(len(kept.dataset))]
            kept = experience_with(kept, with_sample_ids(kept.dataset, ids))
        self._evaluated[number] = kept

    def serve(self, experience: ForgetExperience) -> ServedRequest:
        """Note a request that was served. If it was served before, it is read again and comes last."""
        benchmark, request = experience.origin_stream.benchmark, experience.request
        self.arrive(list(benchmark.streams["train"])[: experience.after])
        number = int(experience.current_experience)
        samples = self.reader.samples(experience.dataset) if self.readable(request.id) else None
        classes = classes_of(experience.asked)
        peers = self.reader.peers(classes)
        served = ServedRequest(number, request.id, samples, classes, task_label_of(experience), peers)
        self.served.pop(number, None)
        self.served_at.pop(number, None)
        self.served[number] = served
        self._since.append(served.id)
        self._benchmark = benchmark
        self._read_test(benchmark)
        return served

    def task_label(self, number: int | None, stream: str) -> int | None:
        """Return the task label for the name of a metric: of a request, or of a whole stream if ``number`` is None."""
        if number is None and stream == "test":
            return self._test_task_label
        return self.served[number if number is not None else next(reversed(self.served))].task_label

    def matrix(self) -> RelapseMatrix:
        """Return the relapse matrix so far."""
        return RelapseMatrix(self.events, {number: request.id for number, request in self.served.items()})

    def state(self) -> dict[str, Any]:
        """Return everything that was noted as JSON values for :meth:`restore`."""
        return {
            "trained": self.trained,
            "arrived": sorted(self._arrived),
            "served": list(self.served),
            "served_at": {str(number): value for number, value in self.served_at.items()},
            "events": [
                {"after": event.after, "forget_accuracy": {str(key): v for key, v in event.forget_accuracy.items()}}
                for event in self.events
            ],
        }

    def restore(self, state: Mapping[str, Any], forget_stream: Sequence[ForgetExperience]) -> None:
        """Restore a result of :meth:`state`, and read the samples of its requests again.

        Parameters
        ----------
        state : mapping
            A result of :meth:`state`.
        forget_stream : sequence of ForgetExperience
            The forget stream of that time.
        """
        self.reset()
        for number in state["served"]:
            self.serve(forget_stream[number])
        self.served_at = {int(number): value for number, value in state["served_at"].items()}
        self.events = [
            RelapseEvent(event["after"], {int(key): value for key, value in event["forget_accuracy"].items()})
            for event in state["events"]
        ]
        self.trained, self._arrived, self._since = state["trained"], set(state["arrived"]), []

    def _measure(self, strategy: Any, after: str) -> StreamFigures:
        """Return the figures of all requests, and note them as the event ``after``."""
        self._read_test(self._benchmark)
        outcomes = self._outcomes_of(strategy)
        for number, request in self.served.items():
            if request.samples is not None and not self.readable(request.id):
                self.served[number] = replace(request, samples=None)
        figures = measure(
            self.reader.model(strategy.model),
            tuple(self.served.values()),
            committed={request.id for request in self.served.values() if outcomes.get(request.id, True)},
            test=self._test,
            arrived=self._arrived,
            membership=self._membership,
        )
        accuracies = {
            number: item.forget_accuracy
            for number, item in figures.requests.items()
            if item.forget_accuracy is not None
        }
        relapse = {
            number: accuracy - self.served_at.setdefault(number, accuracy) for number, accuracy in accuracies.items()
        }
        self.events.append(RelapseEvent(after, accuracies))
        self._since = []
        return replace(figures, relapse=relapse)

    def _audited(self, strategy: Any, request: ServedRequest) -> Mapping[str, Measured]:
        """Return the figures of all audits of a request that was served last."""
        if request.samples is None:
            return {}
        experience = strategy.experience
        trained = list(experience.origin_stream.benchmark.streams["train"])[: experience.after]
        named = [item for item in experience.origin_stream if int(item.current_experience) in self.served]
        staying = self._arrived - {label for item in self.served.values() for label in item.classes}
        retained = retained_of(
            [item.dataset for item in trained],
            request.samples,
            staying=staying,
            without={name for item in named for name in sample_ids(item.dataset)},
            seed=request.id,
            reader=self.reader,
        )
        return full_figures(self.reader.model(strategy.model), request, retained, self._test, staying)

    def _read_as(self, strategy: Any) -> None:
        """Read samples from now on as a plug-in of the strategy does."""
        readers = (getattr(plugin, "reader", None) for plugin in strategy.plugins)
        reader = next((reader for reader in readers if isinstance(reader, SampleReader)), self.reader)
        if reader != self.reader:
            # Labels and inputs of another reader mean something else. Serving a request notes what has arrived.
            self.reader, self._arrived, self._test_of = reader, set(), None

    def _is_new_event(self, reader: object) -> bool:
        """Return whether a new event has begun: nobody has read the last one yet, or this reader has."""
        new = not self._readers or id(reader) in self._readers
        self._readers = {id(reader)} if new else self._readers | {id(reader)}
        return new

    def _outcomes_of(self, strategy: Any) -> dict[str, bool]:
        """Return whether each request was ever committed."""
        outcomes = dict(self.outcomes)
        for plugin in strategy.plugins:
            for item in getattr(plugin, "outcomes", ()):
                outcomes[item.request.id] = item.committed or outcomes.get(item.request.id, False)
        return outcomes

    def _read_test(self, benchmark: Any) -> None:
        """Read the benchmark's test samples; without any, those that were evaluated."""
        given = list(benchmark.streams.get("test", ()))
        experiences = given or [experience for _, experience in sorted(self._evaluated.items())]
        read = [id(benchmark), len(experiences)]
        if self._test_of == read:
            return
        self._test_of = read
        datasets = [item.dataset for item in experiences]
        self._test = self.reader.joined(datasets, datasets[0]) if datasets else None
        self._test_task_label = task_label_of(experiences[0]) if experiences else None


def _always(request_id: str) -> bool:
    return True


def task_label_of(experience: Any) -> int | None:
    """Return the task label that Avalanche puts into names of metrics; None if there is none, or several."""
    labels = getattr(experience, "task_labels", None)
    return int(labels[0]) if labels is not None and len(labels) == 1 else None
