"""Runs a scenario in this process and stops after every event, where the model and its oracles can be read."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from flwr.app import ArrayRecord
from flwr.serverapp import Grid
from torch import nn

from fed_unlearn.arrays import pack, to_state_dict
from fed_unlearn.client.store import ClientStore
from fed_unlearn.ledger import Ledger
from fed_unlearn.locks import run_lock
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.seeding import derive_seed
from fed_unlearn.simulations.run.data_checks import Prepared
from fed_unlearn.simulations.run.driver import frozen_objects, in_process_grid, prepare
from fed_unlearn.simulations.run.logs import quiet_flower
from fed_unlearn.simulations.run.scenario_run import strategy_of, timeline_of
from fed_unlearn.simulations.run.stream import keep_experiences
from fed_unlearn.simulations.scenario.sections import Scenario
from fed_unlearn.simulations.task import new_model
from fed_unlearn.strategies import ContinualUnlearning, Forget, Train
from fed_unlearn.strategies.outcomes import UnlearningResult
from fed_unlearn.strategies.training.retraining import Retraining

Forgotten = tuple[frozenset[tuple[str, frozenset[str]]], int]
"""All requests that were committed, with their samples, and the number of trainings: these determine an oracle."""


@dataclass(frozen=True, kw_only=True)
class Moment:
    """A run after one event.

    Attributes
    ----------
    event : str
        The id of a request, or of several joined by ``+`` that were put together; ``train:2`` for the second training.
    model : nn.Module
        The model that serves.
    committed : mapping of str to ForgetRequest
        Requests that were ever committed, by id, in order.
    sample_ids : mapping of str to frozenset of str
        The training samples of each of these.
    trainings : int
        Number of trainings so far.
    reasons : mapping of str to str
        Why requests of this event were not committed.
    """

    event: str
    model: nn.Module
    committed: Mapping[str, ForgetRequest]
    sample_ids: Mapping[str, frozenset[str]]
    trainings: int
    reasons: Mapping[str, str]

    @property
    def forgotten(self) -> Forgotten:
        """What determines an oracle of this moment."""
        return frozenset(self.sample_ids.items()), self.trainings


class SequenceRun:
    """One run of a scenario, in a temporary folder.

    Parameters
    ----------
    scenario : Scenario
    """

    def __init__(self, scenario: Scenario) -> None:
        self.prepared: Prepared = prepare(scenario, oracle=True)
        self._scenario = scenario
        self._retrainings: dict[int, tuple[frozenset[str], Retraining]] = {}

    def run(self, on_event: Callable[[Moment], None]) -> None:
        """Run the timeline.

        Parameters
        ----------
        on_event : callable
            Called after every event. It may ask for :meth:`oracle` then.
        """
        with tempfile.TemporaryDirectory() as temporary:
            out = Path(temporary).resolve()
            with run_lock(out), frozen_objects(), closing(Ledger(out / "ledger.db")) as ledger:
                self._out, self._grid = out, in_process_grid(self._scenario, out)
                if self.prepared.experiences is not None:
                    keep_experiences(self._scenario, self.prepared.experiences, out)
                self._strategy = strategy_of(self.prepared, out, ledger)
                names = self.prepared.source.classes
                entries = timeline_of(self._scenario, self.prepared.experiences, names)
                ledger.name_classes(names.names)

                def note(position: int, result: UnlearningResult) -> None:
                    trainings = sum(isinstance(entry, Train) for entry in entries[: position + 1])
                    on_event(self._moment(entries[position], trainings, result))

                with quiet_flower():
                    self._strategy.run(self._grid, entries, self.prepared.initial, on_entry=note)

    def oracle(self, number: int) -> nn.Module:
        """The oracle of this moment with a number from 1. No number draws as the run does.

        It goes on with an oracle of an earlier moment where nothing was forgotten since.
        """
        committed = frozenset(entry.id for entry in self._strategy.ledger.committed())
        known = self._retrainings.get(number)
        if known is None or known[0] != committed:
            seed = derive_seed(self._scenario.seed, "sequence", "oracle", number) % 2**31
            known = committed, _retraining(self._strategy, self._grid, self.prepared, self._scenario, seed)
            self._retrainings[number] = known
        return self._model(pack(known[1].catch_up()))

    def _moment(self, entry: Train | Forget, trainings: int, result: UnlearningResult) -> Moment:
        requests = {item.id: item.request for item in self._strategy.ledger.committed()}
        asked = [request.id for request in entry.requests] if isinstance(entry, Forget) else []
        ended = [self._strategy.ledger.entry(name) for name in asked]
        return Moment(
            event="+".join(asked) or f"train:{trainings}",
            model=self._model(result.arrays),
            committed=requests,
            sample_ids={name: self._sample_ids(name) for name in requests},
            trainings=trainings,
            reasons={item.id: f"{item.status}: {item.reason}" for item in ended if item.id not in requests},
        )

    def _sample_ids(self, request_id: str) -> frozenset[str]:
        """The samples of a request, from the stores of all clients."""
        found = set[str]()
        for client in range(self._scenario.clients.count):
            folder = self._out / "clients" / str(client)
            store = ClientStore.open(folder, self.prepared.source.fingerprint, self._strategy.ledger.identity)
            stored = store.get(request_id)
            found.update(() if stored is None else stored.sample_ids)
        return frozenset(found)

    def _model(self, arrays: ArrayRecord) -> nn.Module:
        model = new_model(self._scenario, self.prepared.source)
        model.load_state_dict(to_state_dict(arrays))
        return model.eval()


def _retraining(
    strategy: ContinualUnlearning, grid: Grid, prepared: Prepared, scenario: Scenario, seed: int
) -> Retraining:
    """An oracle with fresh weights and draws of its own, on the clients of the run."""
    fresh = new_model(scenario.model_copy(update={"seed": seed}), prepared.source)
    return strategy.retraining(grid, pack(fresh.state_dict()), seed=seed, config={"seed": seed})
