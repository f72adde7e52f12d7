"""Turns what the ledger knows of a run into its results, and saves them after every entry of the timeline."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from fed_unlearn.simulations.run.installed import installed_versions
from fed_unlearn.simulations.run.ledger_facts import ENDED, LedgerFacts, lives_of, owed_by_request
from fed_unlearn.simulations.run.recorded import Recorded
from fed_unlearn.simulations.run.recorded_requests import (
    request_result,
    waiting_result,
    with_known_oracle,
    with_oracle,
    with_views,
)
from fed_unlearn.simulations.run.results import (
    FILE_NAME,
    IMAGES,
    DeviceCount,
    HistoryPoint,
    RelapseResult,
    RequestResult,
    RunResults,
)
from fed_unlearn.simulations.run.training_results import RoundResult, TrainingResult
from fed_unlearn.simulations.run.views.view_results import RequestViews
from fed_unlearn.simulations.scenario.sections import Scenario
from fed_unlearn.strategies import ContinualUnlearning
from fed_unlearn.strategies.outcomes import OracleOutcome, RelapseRow, RequestOutcome
from fed_unlearn.strategies.serving.relapse import relapse_rows
from fed_unlearn.strategies.state import Experience, looks_due
from fed_unlearn.strategies.training.figures import TrainingFigures

ViewsOf = Callable[[str], RequestViews | None]
"""Gives the views of a request by its id; None where there are none."""


def no_views(request_id: str) -> None:
    """No request has views."""


class Recorder:
    """Keeps ``results.json`` of a run folder up to date.

    Everything but the figures of oracles and the views of models comes from the ledger. A run that was killed at any
    moment and resumed has the results of one that was not, but for times and counts of messages by device.

    Parameters
    ----------
    results : RunResults
        The results so far.
    out : Path or None
        The run folder. With None nothing is saved.
    views_of : callable
        Gives the views of a request by its id; None where there are none.
    """

    def __init__(self, results: RunResults, out: Path | None, views_of: ViewsOf = no_views) -> None:
        self._results = results
        self._out = out
        self._views_of = views_of
        self._devices_before = results.devices

    @classmethod
    def begin(
        cls, scenario: Scenario, out: Path, engine: str, strategy: ContinualUnlearning, views_of: ViewsOf = no_views
    ) -> Recorder:
        """Make a recorder for a new run, or for one that the folder holds a part of."""
        if (out / FILE_NAME).exists():
            known = RunResults.load(out)
            _take_over(known, strategy)
            ended = tuple(item for item in known.requests if item.status in ENDED)
            return cls(replace(known, requests=ended), out, views_of)
        results = RunResults(
            scenario=scenario.name,
            seed=scenario.seed,
            engine=engine,
            versions=installed_versions(),
            input=IMAGES,
        )
        results.save(out)
        return cls(results, out, views_of)

    @property
    def results(self) -> RunResults:
        """The results that were saved last."""
        return self._results

    def rounds(self, strategy: Recorded) -> int:
        """Count the rounds of the whole run so far, with unlearn rounds and repair rounds."""
        trained = sum(experience.rounds for experience in strategy.state.experiences())
        return trained + sum(1 + outcome.repair_rounds for outcome in _outcomes(strategy).values())

    def note(self, strategy: Recorded) -> None:
        """Record what has ended so far, and save it."""
        oracles = {item.id: item for item in self._results.requests if item.oracle is not None}
        names = strategy.ledger.class_names()
        training, requests, history = TrainingResult(), list[RequestResult](), list[HistoryPoint]()
        lives, owed, moment = lives_of(strategy.ledger.events()), owed_by_request(strategy.ledger), 0
        for name, ended in _in_order(strategy):
            if isinstance(ended, Experience):
                history += _points(name, ended, moment)
                training = _with_experience(training, ended, is_first=not requests)
                moment += ended.rounds
            else:
                moment += 1 + ended.repair_rounds
                item = replace(request_result(ended, names), **vars(lives[name]), owed=owed.get(name, ()))
                requests.append(with_views(with_known_oracle(item, oracles.get(name)), self._views_of(name)))
                history += _points_of_request(ended, moment)
        self._results = replace(
            self._results,
            training=training,
            requests=tuple(requests),
            history=tuple(history),
            devices=self._devices(strategy),
            relapse=tuple(_relapse_row(row) for row in relapse_rows(strategy.ledger)),
            relapse_due=tuple(looks_due(strategy.ledger)),
            ledger=LedgerFacts.of(strategy.ledger),
            served_model=strategy.ledger.served_model(),
        )
        self._save()

    def note_oracles(self, oracles: Mapping[str, OracleOutcome], strategy: Recorded) -> None:
        """Record the figures and the cost of the retrain oracle for the requests of an entry."""
        requests = tuple(
            with_oracle(item, oracles[item.id], len(oracles)) if item.id in oracles else item
            for item in self._results.requests
        )
        self._results = replace(self._results, requests=requests)
        self.note(strategy)

    def finish(self, strategy: Recorded, *, complete: bool) -> RunResults:
        """Record the end of the timeline. Requests that still wait become results, and the run stays incomplete."""
        self.note(strategy)
        names = strategy.ledger.class_names()
        waiting = tuple(
            waiting_result(entry, entry.method or strategy.plan.method_of(entry.request), names)
            for entry in strategy.ledger.entries()
            if entry.outcome is None
        )
        self._results = replace(
            self._results, requests=(*self._results.requests, *waiting), complete=complete and not waiting
        )
        self._save()
        return self._results

    def _save(self) -> None:
        if self._out is not None:
            self._results.save(self._out)

    def _devices(self, strategy: Recorded) -> tuple[DeviceCount, ...]:
        """Messages by device; those of earlier processes count, repeated ones too."""
        counts: Counter[tuple[str, str, str, str]] = Counter()
        for known in self._devices_before:
            counts[known.client, known.message, known.device, known.cuda_visible_devices] += known.count
        for use, count in strategy.device_use.items():
            counts[use.client, use.message, use.device, use.cuda_visible_devices] += count
        return tuple(
            DeviceCount(client=client, message=message, device=device, cuda_visible_devices=visible, count=count)
            for (client, message, device, visible), count in counts.items()
        )


def _outcomes(strategy: Recorded) -> dict[str, RequestOutcome]:
    return {
        entry.id: RequestOutcome.from_json(entry.request, entry.outcome)
        for entry in strategy.ledger.entries()
        if entry.outcome is not None
    }


def _in_order(strategy: Recorded) -> Iterator[tuple[str, Experience | RequestOutcome]]:
    """Training experiences and requests, each with its name, in the order in which they came to be known.

    An experience stands where its model was first judged, since requests that were served after that are served on it;
    a request stands where it ended last.
    """
    trained = {f"train:{number}": item for number, item in enumerate(strategy.state.trained(), start=1)}
    served = _outcomes(strategy)
    place: dict[str, int] = {}
    for event in strategy.ledger.events():
        name = str(event.facts.get("after" if event.name == "model-accepted" else "experience"))
        if name in trained and event.name in ("model-accepted", "training-refused"):
            place.setdefault(name, event.sequence)
        elif event.request_id in served and event.name in ENDED:
            place[event.request_id] = event.sequence
    everything: dict[str, Experience | RequestOutcome] = {**trained, **served}
    last = max(place.values(), default=0) + 1
    return iter(sorted(everything.items(), key=lambda item: place.get(item[0], last)))


def _points(name: str, experience: Experience, before: int) -> list[HistoryPoint]:
    return [
        HistoryPoint(event=name, round=before + number, test_accuracy=accuracy)
        for number, accuracy in _accuracies(experience).items()
    ]


def _points_of_request(outcome: RequestOutcome, moment: int) -> list[HistoryPoint]:
    if outcome.after is None or outcome.after.test_retain_accuracy is None:
        return []
    return [
        HistoryPoint(
            event=outcome.request.id,
            round=moment,
            test_accuracy=outcome.after.test_retain_accuracy,
            test_forget_accuracy=outcome.after.test_forget_accuracy,
        )
    ]


def _accuracies(experience: Experience) -> dict[int, float]:
    metrics = experience.figures.evaluate_metrics if experience.figures is not None else {}
    return {number: float(str(values["accuracy"])) for number, values in metrics.items() if "accuracy" in values}


def _with_experience(training: TrainingResult, experience: Experience, *, is_first: bool) -> TrainingResult:
    """The training with one more experience; ``is_first`` says that no request was served before it."""
    accuracies, figures = _accuracies(experience), experience.figures or TrainingFigures()
    trained = {*training.trained_clients, *figures.trained_clients}
    rounds = tuple(
        RoundResult(round=training.rounds + number, trained=clients.trained, failed=clients.failed)
        for number, clients in figures.clients.items()
    )
    failed = dict(training.never_trained) | {name: why for item in rounds for name, why in item.failed.items()}
    return replace(
        training,
        rounds=training.rounds + experience.rounds,
        seconds=training.seconds + figures.seconds,
        test_accuracy=accuracies[max(accuracies)] if is_first and accuracies else training.test_accuracy,
        forward_passes=training.forward_passes + figures.traffic.forward_passes,
        backward_passes=training.backward_passes + figures.traffic.backward_passes,
        clients=(*training.clients, *rounds),
        trained_clients=tuple(sorted(trained)),
        never_trained={name: why for name, why in failed.items() if name not in trained},
    )


def _take_over(known: RunResults, strategy: ContinualUnlearning) -> None:
    """Write into the ledger what earlier versions kept in ``results.json`` alone; totals go to the first entry."""
    experiences = strategy.state.experiences()
    if all(experience.figures is not None for experience in experiences):
        return
    figures = [experience.figures or TrainingFigures() for experience in experiences]
    for number, experience in enumerate(experiences, start=1):
        points = [point for point in known.history if point.event == f"train:{number}" and experience.figures is None]
        for point in points:  # the last round of an experience is always evaluated
            moment = experience.rounds - (points[-1].round - point.round)
            figures[number - 1].evaluate_metrics[moment] = {"accuracy": point.test_accuracy}
    figures[0].seconds += known.training.seconds
    figures[0].traffic.forward_passes += known.training.forward_passes
    figures[0].traffic.backward_passes += known.training.backward_passes
    strategy.state.add_figures(figures)


def _relapse_row(row: RelapseRow) -> RelapseResult:
    def known(values: Mapping[str, float | None]) -> dict[str, float]:
        return {key: value for key, value in values.items() if value is not None and not math.isnan(value)}

    return RelapseResult(
        after=row.after,
        forget_accuracy=known(row.forget_accuracy),
        test_forget_accuracy=known(row.test_forget_accuracy),
        relapsed=row.relapsed,
    )
