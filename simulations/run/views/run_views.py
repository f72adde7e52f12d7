"""Looks at the models of a run's class requests as they come and go: before, after, and the oracle."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from fed_unlearn.arrays import Arrays, pack, to_state_dict
from fed_unlearn.data.sources import ImageSource
from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.protocol.instructions import arrived_of
from fed_unlearn.seeding import derive_seed, isolated_random
from fed_unlearn.simulations.run.stream import Experiences
from fed_unlearn.simulations.run.views.chosen_images import ChosenImages, choose
from fed_unlearn.simulations.run.views.kept_views import FOLDER, KeptView, ViewFolder
from fed_unlearn.simulations.run.views.looks import Look, look_at
from fed_unlearn.simulations.run.views.projection import Projection
from fed_unlearn.simulations.run.views.request_stand import RequestStand
from fed_unlearn.simulations.run.views.view_results import DestinationView, ProjectionView, RequestViews
from fed_unlearn.simulations.scenario.sections import Scenario
from fed_unlearn.simulations.task import new_model
from fed_unlearn.strategies import ContinualUnlearning, Event
from fed_unlearn.strategies.outcomes import OracleOutcome
from fed_unlearn.strategies.state import ServedModel

logger = logging.getLogger("fed_unlearn.simulations")

When = Literal["before", "after", "oracle"]


@dataclass
class RunViews:
    """Keeps the views of a run's class requests in its folder.

    The model before a request is looked at when its first attempt begins, and the model after it when it has ended. A
    process that goes on with a run makes up for what the one before did not come to, while that model still serves.
    Test images alone are read.

    Attributes
    ----------
    scenario : Scenario
    source : ImageSource
        Its data.
    strategy : ContinualUnlearning
        The strategy that runs it.
    out : Path
        The run folder.
    experiences : Experiences or None
        The training experiences, if the scenario has any: classes that have not arrived are not shown.
    """

    scenario: Scenario
    source: ImageSource
    strategy: ContinualUnlearning
    out: Path
    experiences: Experiences | None = None
    _kept: ViewFolder = field(init=False)
    _model: nn.Module | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._kept = ViewFolder(self.out / FOLDER)
        # Sums of floats depend on this number, which clients in this process may change.
        self._threads = self.scenario.run.threads or torch.get_num_threads()

    def of(self, request_id: str) -> RequestViews | None:
        """The views of a request so far; None where there are none."""
        kept = self._kept.read(request_id)
        return None if kept is None else kept.views

    def catch_up(self) -> None:
        """Make up for what an earlier process was killed before; call it before the run goes on."""
        served = self.strategy.state.load_served()
        for entry in self.strategy.ledger.entries() if served is not None else ():
            self._note(entry.id, served)

    def observe(self, event: Event) -> None:
        """Handle an event of the strategy, after it was written into the ledger."""
        if event.kind in ("request-started", "request-finished") and event.request_id is not None:
            self._note(event.request_id, self.strategy.served)

    def note_oracles(self, oracles: Mapping[str, OracleOutcome]) -> None:
        """Look at the retrain oracle of some requests.

        Parameters
        ----------
        oracles : mapping of str to OracleOutcome
            Oracles by request.
        """
        for request_id, oracle in oracles.items():
            kept = self._kept.read(request_id)
            if kept is not None and oracle.arrays is not None:
                self._look(request_id, kept, oracle.arrays, "oracle")

    def _note(self, request_id: str, served: ServedModel | None) -> None:
        """Look at the served model where it is that before or after a request, and was not looked at yet."""
        stand = RequestStand.of(self.strategy.ledger, request_id)
        if served is None or not stand.classes or not stand.is_begun or not stand.serves:
            return
        kept = self._kept.read(request_id)
        is_kept = kept is not None and kept.series == stand.series
        if not stand.is_ended and not is_kept:
            self._look(request_id, self._new(stand, kept, served), served.arrays, "before")
        elif stand.is_ended and kept is not None and is_kept and not kept.is_whole:
            self._look(request_id, kept, served.arrays, "after")

    def _new(self, stand: RequestStand, known: KeptView | None, served: ServedModel) -> KeptView:
        """Views without any model. Of a request that was opened again an oracle's counts stay, but not its points."""
        before = known.views.destinations if known is not None else None
        every, number = range(self.source.class_count), arrived_of(served.train_config)
        arrived = self.experiences.arrived_classes(number) if self.experiences is not None and number else every
        destinations = DestinationView(
            labels=tuple(self.source.classes.labels(every)), oracle=None if before is None else before.oracle
        )
        return KeptView(
            series=stand.series,
            classes=stand.classes,
            others=tuple(label for label in arrived if label not in stand.classes),
            views=RequestViews(destinations=destinations),
        )

    def _look(self, request_id: str, kept: KeptView, arrays: Arrays, when: When) -> None:
        """Look at a model, and keep what it says. What cannot be looked at is told of in the log alone."""
        name = f"request {request_id}, model {when}"
        chosen = choose(self.source.test, kept.classes, kept.others, seed=self.scenario.seed, request_id=request_id)
        if not len(chosen.counted):
            return
        try:
            with self._settled(request_id):
                look = look_at(self._loaded(arrays), chosen.images, name)
        except (FedUnlearnError, RuntimeError) as error:
            logger.warning("%s: cannot be looked at: %s", name, error)
            return
        self._kept.write(request_id, _with_look(kept, chosen, look, when))

    def _loaded(self, arrays: Arrays) -> nn.Module:
        if self._model is None:
            model = new_model(self.scenario, self.source)
            self._model = model.to("cuda" if torch.cuda.is_available() else "cpu").requires_grad_(False)
        self._model.load_state_dict(to_state_dict(pack(arrays)))
        return self._model

    @contextmanager
    def _settled(self, request_id: str) -> Iterator[None]:
        """The same number of threads and the same draws of a model that draws, in whatever process."""
        threads = torch.get_num_threads()
        torch.set_num_threads(self._threads)
        try:
            with isolated_random(derive_seed(self.scenario.seed, "views", request_id)):
                yield
        finally:
            torch.set_num_threads(threads)


def _with_look(kept: KeptView, chosen: ChosenImages, look: Look, when: When) -> KeptView:
    """The views with one more model; the model before is the one that the projection is fitted to."""
    destinations, shown, plane = kept.views.destinations, kept.views.projection, kept.projection
    labels = () if destinations is None else destinations.labels
    if destinations is not None:
        destinations = DestinationView(**{**vars(destinations), when: look.counts(chosen.counted.numpy())})
    features = None if look.features is None else look.features[chosen.shown.numpy()]
    if when == "before" and features is not None and (plane := Projection.fitted(features)) is not None:
        shown = ProjectionView(classes=chosen.shown_classes, labels=labels, explained=plane.explained)
    if shown is not None and plane is not None:
        shown = ProjectionView(**{**vars(shown), when: plane.points(features)})
    views = RequestViews(destinations=destinations, projection=shown)
    return replace(kept, views=views, projection=plane, is_whole=kept.is_whole or when == "after")
