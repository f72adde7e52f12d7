"""Measures the sequence of one seed: the scenario's own run, and those of other methods, beside the same oracles."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

from torch import nn

from fed_unlearn.audits.readings import RequestData
from fed_unlearn.data.joined import concatenate
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.scopes import ClassScope
from fed_unlearn.seeding import derive_seed
from fed_unlearn.simulations.bench.sequence.cells import FigureCell
from fed_unlearn.simulations.bench.sequence.events import Forgotten, Moment, SequenceRun
from fed_unlearn.simulations.bench.sequence.figures import accuracy_of, figures_of
from fed_unlearn.simulations.bench.sequence.results import ORIGINAL, Accuracies, RunCells, SeedResults
from fed_unlearn.simulations.scenario import Scenario
from fed_unlearn.simulations.task import data_of_client


class SeedMeasures:
    """Measures all runs of one seed.

    Parameters
    ----------
    scenarios : dict of str to Scenario
        The scenario by the name of its method, and first; the same with other methods by theirs. All have the seed.
    oracles : int
    on_progress : callable
        Called with a line of text after every event.
    """

    def __init__(self, scenarios: dict[str, Scenario], oracles: int, on_progress: Callable[[str], None]) -> None:
        self._scenarios, self._count, self._on_progress = scenarios, oracles, on_progress
        self._main, self._scenario = next(iter(scenarios.items()))
        self._seed = self._scenario.seed
        self._original: nn.Module | None = None
        self._oracles: dict[Forgotten, list[nn.Module]] = {}
        self._known: dict[tuple[Forgotten, str], list[dict[str, float]]] = {}

    def results(self) -> Iterator[SeedResults]:
        """Run and measure one sequence after another, and yield what was measured so far after each.

        Raises
        ------
        FedUnlearnError
            If a scenario cannot be run.
        """
        started = time.perf_counter()
        runs = dict[str, RunCells]()
        for name, scenario in self._scenarios.items():
            runs[name] = self._measured(name, scenario)
            yield SeedResults(seed=self._seed, runs=dict(runs), seconds=time.perf_counter() - started)

    def _measured(self, name: str, scenario: Scenario) -> RunCells:
        run = SequenceRun(scenario)
        self._source = run.prepared.source
        cells, accuracies, reasons = list[FigureCell](), list[Accuracies](), dict[str, str]()

        def note(moment: Moment) -> None:
            reasons.update(moment.reasons)
            if not moment.committed:
                if name == self._main:
                    self._original = moment.model
                self._on_progress(f"seed {self._seed}, {name}: {moment.event}")
                return
            started = time.perf_counter()
            oracles = self._oracles_of(run, moment)
            trained = time.perf_counter()
            cells.extend(self._cells(name, moment, oracles))
            accuracies.append(self._accuracies(name, moment, oracles))
            self._on_progress(
                f"seed {self._seed}, {name}: {moment.event}: oracles {trained - started:.0f} s, figures"
                f" {time.perf_counter() - trained:.0f} s"
            )

        run.run(note)
        return RunCells(cells=tuple(cells), accuracies=tuple(accuracies), not_committed=reasons)

    def _oracles_of(self, run: SequenceRun, moment: Moment) -> list[nn.Module]:
        """Oracles of a moment; those of another method's run where the same samples were forgotten."""
        key = moment.forgotten
        if key not in self._oracles:
            self._oracles[key] = [run.oracle(number) for number in range(1, self._count + 1)]
        return self._oracles[key]

    def _cells(self, name: str, moment: Moment, oracles: Sequence[nn.Module]) -> list[FigureCell]:
        models = {name: moment.model}
        if name == self._main:
            models[ORIGINAL] = self._before
        found = []
        for request in moment.committed:
            data, key = self._data(moment, request), (moment.forgotten, request)
            if key not in self._known:
                self._known[key] = [self._figures(oracle, data, moment, request) for oracle in oracles]
            figures = {each: self._figures(model, data, moment, request) for each, model in models.items()}
            for figure in dict.fromkeys(figure for known in self._known[key] for figure in known):
                found.append(
                    FigureCell(
                        seed=self._seed,
                        event=moment.event,
                        request=request,
                        figure=figure,
                        oracles=tuple(known[figure] for known in self._known[key] if figure in known),
                        models={each: known[figure] for each, known in figures.items() if figure in known},
                    )
                )
        return found

    def _figures(self, model: nn.Module, data: RequestData, moment: Moment, request: str) -> dict[str, float]:
        return figures_of(
            model,
            data,
            moment.committed[request].scope.kind,
            original=self._before,
            seed=derive_seed(self._seed, "sequence", request),
        )

    def _accuracies(self, name: str, moment: Moment, oracles: Sequence[nn.Module]) -> Accuracies:
        staying = self._source.test.of_classes(self._staying(moment))
        return Accuracies(
            event=moment.event,
            model=accuracy_of(moment.model, staying),
            oracles=tuple(accuracy_of(oracle, staying) for oracle in oracles),
        )

    def _data(self, moment: Moment, request: str) -> RequestData:
        """The samples that figures of a request read after an event."""
        gone = frozenset[str]().union(*moment.sample_ids.values())
        scope, test, staying = moment.committed[request].scope, self._source.test, self._staying(moment)
        classes = frozenset(scope.classes) if isinstance(scope, ClassScope) else frozenset[int]()
        every = frozenset(range(self._source.class_count))
        return RequestData(
            parts={
                "forget": self._train.only(moment.sample_ids[request]),
                "retain": self._train.without(gone),
                "test_forget": test.of_classes(classes),
                "test_retain": test.of_classes(staying) if classes else test,
            },
            classes=classes,
            class_count=self._source.class_count,
            left_out=every - staying - classes,
        )

    def _staying(self, moment: Moment) -> frozenset[int]:
        scopes = [request.scope for request in moment.committed.values()]
        gone = {label for scope in scopes if isinstance(scope, ClassScope) for label in scope.classes}
        return frozenset(range(self._source.class_count)) - gone

    @cached_property
    def _train(self) -> SampleSet:
        """The training samples of all clients, as they are trained on."""
        clients = range(self._scenario.clients.count)
        return concatenate(*(data_of_client(self._scenario, self._source, client).train for client in clients))

    @property
    def _before(self) -> nn.Module:
        if self._original is None:
            raise InvalidParameterError(
                f"{self._scenario.source_file}: the timeline begins with a request; expected training before it"
            )
        return self._original
