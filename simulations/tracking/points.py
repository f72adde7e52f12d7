"""What trackers are told of a run: points from its results, and the settings of its scenario."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from fed_unlearn.audits.base import Figures
from fed_unlearn.figure_numbers import finite_number
from fed_unlearn.simulations.run.results import RequestResult, RunResults
from fed_unlearn.simulations.scenario.sections import Scenario
from fed_unlearn.simulations.tracking.base import Point, Setting

_STAGES = ("before", "unlearned", "as_trained", "after")
_LEFT_OUT = {"name", "description", "reporting", "serve", "timeline", "data.dataset", "data.root", "model.checkpoint"}
"""Keys that say nothing, or whose values may be a path, a sample, a client or the name of a class."""

_SECTIONS_LEFT_OUT = ("clients.backdoor.",)


def points_of(results: RunResults) -> list[Point]:
    """The points of a run so far, in the order of its events.

    Later results of the same run have the same points, and more. A request that is tried again after its end has new
    ones. Reasons are left out, since they may name clients.

    Parameters
    ----------
    results : RunResults
    """
    places = _Places(results)
    points = list(_of_history(results, places))
    for request in results.requests:
        if request.status in ("committed", "failed", "rejected"):
            points += _of_request(request, places)
    for row in results.relapse:
        figures: dict[str, float | None] = {}
        for name, values in (("forget", row.forget_accuracy), ("test_forget", row.test_forget_accuracy)):
            figures |= {f"relapse/{request}/{name}_accuracy": value for request, value in values.items()}
        judged = sorted({*row.forget_accuracy, *row.test_forget_accuracy, *row.relapsed})
        figures |= {f"relapse/{request}/relapsed": float(request in row.relapsed) for request in judged}
        key = f"relapse after {row.after}: {' '.join(judged)}"
        points.append(Point(key=key, event=row.after, step=places.end(row.after), figures=_finite(figures)))
    return sorted(points, key=lambda point: point.step)


class _Places:
    """At which round each event of a run ended."""

    def __init__(self, results: RunResults) -> None:
        self._ends = {point.event: point.round for point in results.history}
        self._order = [request.id for request in results.requests]

    def end(self, event: str) -> int:
        """The round at the end of an event, or of the last of several that a plus sign joins.

        An event without accuracies stands where the request before it does.
        """
        return max(self._end(name) for name in event.split("+"))

    def _end(self, event: str) -> int:
        if event in self._ends:
            return self._ends[event]
        before = self._order[: self._order.index(event)] if event in self._order else self._order
        known = [self._ends[name] for name in before if name in self._ends]
        return known[-1] if known else self._ends.get("train:1", 0)


def _of_history(results: RunResults, places: _Places) -> Iterator[Point]:
    requests = {request.id: request for request in results.requests}
    numbers: Counter[str] = Counter()
    for point in results.history:
        numbers[point.event] += 1
        request = requests.get(point.event)
        key = f"{point.event}/{numbers[point.event]}" if request is None else f"{_key(request)}/test_accuracy"
        yield Point(
            key=key, event=point.event, step=point.round, figures=_finite({"test_accuracy": point.test_accuracy})
        )


def _of_request(request: RequestResult, places: _Places) -> Iterator[Point]:
    step = places.end(request.id)
    figures: dict[str, float | None] = {"seconds": request.seconds, "passes": request.passes}
    figures |= {"attempts": request.attempts, "bytes_sent": request.bytes_sent, "messages": request.messages}
    for stage in _STAGES:
        figures |= _named(stage, getattr(request, stage))
    tags = {"status": request.status, "scope": request.scope, "method": request.method}
    if request.evidence is not None:
        tags["evidence"] = request.evidence
    yield Point(
        key=_key(request),
        event=request.id,
        step=step,
        figures=_finite({f"{request.id}/{name}": value for name, value in figures.items()}),
        tags={f"{request.id}/{name}": text for name, text in tags.items()},
    )
    if request.oracle is not None:
        figures = {"oracle_seconds": request.oracle_seconds, "oracle_passes": request.oracle_passes}
        figures |= {"speedup": request.speedup, "pass_ratio": request.pass_ratio} | _named("oracle", request.oracle)
        named = {f"{request.id}/{name}": value for name, value in figures.items()}
        yield Point(key=f"{_key(request)}/oracle", event=request.id, step=step, figures=_finite(named))


def _key(request: RequestResult) -> str:
    return f"{request.id}/attempt {request.attempts}: {request.status}"


def _named(stage: str, figures: Figures | None) -> dict[str, float | None]:
    return {} if figures is None else {f"{stage}/{name}": value for name, value in figures.named().items()}


def _finite(figures: Mapping[str, float | None]) -> dict[str, float]:
    return {name: number for name, value in figures.items() if (number := finite_number(value)) is not None}


def settings_of(scenario: Scenario) -> dict[str, Setting]:
    """The settings of a scenario by dotted key, without what may name a sample, a client, a class or a path.

    Lists are left out, and so are texts with a slash. Of the data set only the source is there, not its place. The
    timeline is given by its number of requests and of training rounds.

    Parameters
    ----------
    scenario : Scenario
    """
    settings: dict[str, Setting] = {"scenario": scenario.name, "data.source": scenario.data.dataset.partition(":")[0]}
    settings |= dict(_scalars(scenario.model_dump(by_alias=True, exclude_none=True)))
    settings["timeline.rounds"] = sum(entry.train.rounds for entry in scenario.timeline if entry.train is not None)
    settings["timeline.requests"] = sum(len(steps) for _, steps in scenario.forget_entries())
    return settings


def _scalars(table: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, Setting]]:
    for key, value in table.items():
        name = prefix + key
        if name in _LEFT_OUT or name.startswith(_SECTIONS_LEFT_OUT):
            continue
        if isinstance(value, dict):
            yield from _scalars(value, f"{name}.")
        elif isinstance(value, bool | int | float) or (isinstance(value, str) and not {"/", "\\"} & set(value)):
            yield name, value
