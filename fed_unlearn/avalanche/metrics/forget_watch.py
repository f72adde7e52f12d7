"""What happened to the forget stream of an Avalanche strategy so far, and how its requests stand after each event."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from fed_unlearn.avalanche.metrics.forget_figures import ServedRequest, Standing, standing
from fed_unlearn.avalanche.metrics.relapse_matrix import RelapseEvent
from fed_unlearn.avalanche.streams import ForgetExperience
from fed_unlearn.avalanche.streams.samples import as_images
from fed_unlearn.data.images import ImageSet, concatenate
from fed_unlearn.requests import ClassScope


class ForgetWatch:
    """Measures once an event what all metrics of :func:`~fed_unlearn.avalanche.metrics.forget_metrics` report.

    D_f of a request and the test samples are read once, and kept; D_f no longer than it may be read.

    Parameters
    ----------
    membership : bool
        Whether the membership attack is wanted.

    Attributes
    ----------
    served : dict of int to ServedRequest
        By the number of its experience, in the order in which they were served.
    served_at : dict of int to float
        Forget accuracy right after the request was served, by number.
    events : list of RelapseEvent
        Rows of the relapse matrix.
    trained : int
        Training experiences so far, skipped ones too.
    readable : callable
        Whether the samples of a request, by its id, may be read now. Nothing is read of them otherwise, and what was is
        let go; asked before every reading and every measurement.
    test_task_label : int or None
        Of the test stream's experiences.
    """

    def __init__(self, *, membership: bool = True) -> None:
        self._membership = membership
        self.readable: Callable[[str], bool] = lambda request_id: True
        self.reset()

    def reset(self) -> None:
        """Forget all that was seen."""
        self.served: dict[int, ServedRequest] = {}
        self.served_at: dict[int, float] = {}
        self.events: list[RelapseEvent] = []
        self.trained = 0
        self.test_task_label: int | None = None
        self._arrived: set[int] = set()
        self._since: list[str] = []
        self._test: ImageSet | None = None
        self._test_of: object = None

    def arrive(self, experiences: Iterable[Any]) -> None:
        """Take in the classes of training experiences."""
        for experience in experiences:
            self._arrived |= {int(label) for label in experience.dataset.targets.uniques}

    def serve(self, experience: ForgetExperience) -> ServedRequest:
        """Take in a request that was served; one that is served again is read anew, and comes last."""
        benchmark, request = experience.origin_stream.benchmark, experience.request
        self.arrive(list(benchmark.streams["train"])[: experience.after])
        number = int(experience.current_experience)
        classes = request.scope.classes if isinstance(request.scope, ClassScope) else ()
        name = request.id
        samples = as_images(experience.dataset) if self.readable(name) else None
        served = ServedRequest(number, name, samples, classes, task_label_of(experience))
        self.served.pop(number, None)
        self.served_at.pop(number, None)
        self.served[number] = served
        self._since.append(served.id)
        self._read_test(benchmark)
        return served

    def measure(self, model: nn.Module, outcomes: Mapping[str, bool], *, after: str | None = None) -> Standing:
        """How all requests stand now, written down as one event.

        Parameters
        ----------
        model : nn.Module
        outcomes : mapping of str to bool
            Whether a request was committed, by id; those that are not there were.
        after : str, optional
            What happened, for the relapse matrix: the requests taken in since the last event where none is given.
        """
        for number, request in self.served.items():
            if request.samples is not None and not self.readable(request.id):
                self.served[number] = replace(request, samples=None)
        now = standing(
            model,
            tuple(self.served.values()),
            committed={request.id for request in self.served.values() if outcomes.get(request.id, True)},
            test=self._test,
            arrived=self._arrived,
            membership=self._membership,
        )
        accuracies = {
            number: item.forget_accuracy for number, item in now.requests.items() if item.forget_accuracy is not None
        }
        for number, accuracy in accuracies.items():
            self.served_at.setdefault(number, accuracy)
        self.events.append(RelapseEvent("+".join(self._since) if after is None else after, accuracies))
        self._since = []
        return now

    def state(self) -> dict[str, Any]:
        """What was seen, as JSON; :meth:`restore` reads it back."""
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
        """Take over what :meth:`state` wrote, and read the samples of its requests anew.

        Parameters
        ----------
        state : mapping
        forget_stream : sequence of ForgetExperience
            The same as then.
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

    def _read_test(self, benchmark: Any) -> None:
        if self._test_of is benchmark:
            return
        self._test_of = benchmark
        experiences = list(benchmark.streams.get("test", ()))
        self._test = concatenate(*(as_images(item.dataset) for item in experiences)) if experiences else None
        self.test_task_label = task_label_of(experiences[0]) if experiences else None


def task_label_of(experience: Any) -> int | None:
    """The task label that Avalanche puts into names of metrics: None where there is none, or several."""
    labels = getattr(experience, "task_labels", None)
    return int(labels[0]) if labels is not None and len(labels) == 1 else None
