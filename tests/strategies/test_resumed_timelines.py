"""A timeline that is run again while a request of it still waits: every request has its own entry's configuration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fault_trials import (
    PLAN,
    Trial,
    evaluating,
    quiet_averaging,
)
from federation import initial_arrays, same_bytes
from flwr.app import ConfigRecord, Message

from fed_unlearn import protocol
from fed_unlearn.data.images import ImageSet
from fed_unlearn.ledger import Ledger
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies import Forget, Train, UnlearningResult
from fed_unlearn.strategies.timeline import LedgerView, last_begun

WAITING = Forget((ForgetRequest.for_samples(2, count=2, id="waiting"),), ConfigRecord({"entry": 1}))
LATER = Forget((ForgetRequest.for_class(3, id="later"),), ConfigRecord({"entry": 2}))
TIMELINE = (
    Train(rounds=2, train_config=ConfigRecord({"entry": 0})),
    WAITING,
    LATER,
    Train(rounds=2, train_config=ConfigRecord({"entry": 3}), evaluate_config=ConfigRecord({"entry": 3})),
    Forget((ForgetRequest.for_class(8, id="last"),), ConfigRecord({"entry": 4})),
)
NONE = -1
"""The clients of these tests train as they please, and repair as they are told."""


class Run:
    """A timeline in which client 2 leaves after the first entry; remembers by which entry's configuration clients trained and repaired."""

    def __init__(self, folder: Path, new_inner: Callable = quiet_averaging) -> None:  # type: ignore[type-arg]
        self.trial = Trial(folder, plan=replace(PLAN, alternations=1, durable_seconds=0.0), new_inner=new_inner)
        self.entries: list[int] = []
        self.told: list[int] = []
        task = self.trial.federation.task
        train = task.train

        def noted(model: torch.nn.Module, samples: ImageSet, config: ConfigRecord, generator: torch.Generator):  # type: ignore[no-untyped-def]
            self.entries.append(int(str(config.get("entry", NONE))))
            return train(model, samples, config, generator)

        task.train = noted  # type: ignore[method-assign]

    def go(self, timeline: tuple[Train | Forget, ...] = TIMELINE) -> UnlearningResult:
        """Run the timeline, or go on with it."""
        self.entries.clear()
        self.told.clear()
        return self.trial.strategy.run(
            self.trial.grid, timeline, initial_arrays(), timeout=0.2, on_entry=lambda index, _: self._note(index)
        )

    def _note(self, index: int) -> None:
        self.told.append(index)
        if index == 0:
            self.trial.grid.gone.add(2)


def power_cut(*_: object, **__: object) -> None:
    raise SystemExit("power cut")


def test_a_later_request_is_repaired_under_its_own_entry_s_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in the ledger when the power goes, and nothing of it has begun."""
    whole = Run(tmp_path / "whole")
    expected = whole.go(TIMELINE[:3]).arrays
    assert whole.entries == [NONE] * 8 + [2] * 3
    run = Run(tmp_path / "cut")
    receive = Ledger.receive

    def received_and_cut(ledger: Ledger, request: ForgetRequest) -> str:
        name = receive(ledger, request)
        return name if name == "waiting" else power_cut() or name

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(Ledger, "receive", received_and_cut)
        run.go(TIMELINE[:3])
    run.trial.restart()
    result = run.go(TIMELINE[:3])
    assert (run.entries, run.told) == ([2] * 3, [2])
    assert run.trial.strategy.outcome("later") is not None
    assert same_bytes(result.arrays, expected)


def test_a_training_that_was_cut_short_goes_on_as_the_entry_that_it_is(tmp_path: Path) -> None:
    """With its own evaluation, and not as part of the older request's entry."""
    whole = Run(tmp_path / "whole", evaluating)
    expected = whole.go().arrays
    run = Run(tmp_path / "cut", evaluating)
    answered: list[int] = []
    evaluated: list[object] = []

    def cut(client: int, reply: Message) -> None:
        answered.append(client)
        if len(answered) == 4 * 2 + 3 + 2:
            power_cut()

    run.trial.grid.watch(protocol.TRAIN, cut)
    with pytest.raises(SystemExit):
        run.go()
    assert run.told == [0, 1, 2]
    run.trial.restart()
    run.trial.grid.watch(protocol.TRAIN, lambda client, reply: None)
    send = run.trial.grid.send_and_receive

    def noted(messages, **settings):  # type: ignore[no-untyped-def]
        messages = list(messages)
        evaluated.extend(
            message.content.config_records[protocol.CONFIG_KEY].get("entry")
            for message in messages
            if message.metadata.message_type == protocol.EVALUATE
        )
        return send(messages, **settings)

    run.trial.grid.send_and_receive = noted  # type: ignore[method-assign]
    result = run.go()
    assert run.told == [3, 4]
    assert run.entries == [NONE] * 3 + [4] * 3
    assert evaluated and set(evaluated) == {3}
    assert same_bytes(result.arrays, expected)


def test_what_waited_is_served_under_the_last_entry_s_configuration_and_told_as_its_own(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.go()
    assert run.told == [0, 1, 2, 3, 4]
    run.trial.restart()
    run.go()
    assert (run.entries, run.told) == ([], [1]), "it waits still"
    run.trial.grid.heal()
    run.trial.restart()
    [outcome] = run.go().requests
    assert (outcome.request.id, str(outcome.status)) == ("waiting", "committed")
    assert run.told == [1]
    assert set(run.entries) == {4}
    run.trial.restart()
    assert (run.go().requests, run.told) == ([], [])


def view(finished: int, known: set[str], *, is_open: bool) -> LedgerView:
    return LedgerView(finished=finished, training_is_open=is_open, known=frozenset(known))


def test_how_far_a_timeline_has_come() -> None:
    again = (*TIMELINE, WAITING)
    assert last_begun(again, view(0, set(), is_open=False)) == -1
    assert last_begun(again, view(0, set(), is_open=True)) == 0
    assert last_begun(again, view(1, {"waiting", "later"}, is_open=False)) == 2
    assert last_begun(again, view(1, {"waiting", "later", "last"}, is_open=False)) == 2, (
        "it was given to the ledger by somebody else"
    )
    assert last_begun(again, view(1, {"waiting", "later"}, is_open=True)) == 3
    assert last_begun(again, view(2, {"waiting", "later"}, is_open=False)) == 3
    assert last_begun(again, view(2, {"waiting", "later", "last"}, is_open=False)) == 4
