"""What other plug-ins hear of a training experience whose samples are all forgotten."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from fed_unlearn.avalanche.plugin import UnlearningPlugin, encounters


def test_regularisers_are_told_before_they_are_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    plugin, told = UnlearningPlugin(), list[list[Any]]()
    other = object()
    strategy = SimpleNamespace(
        plugins=[plugin, other],
        clock=SimpleNamespace(train_exp_counter=1),
        stop_training=lambda: None,
        experience=None,
    )
    experience = SimpleNamespace(dataset=[], current_experience=1)
    monkeypatch.setattr(encounters, "note_skipped", lambda strategy: told.append(list(strategy.plugins)))
    monkeypatch.setattr(plugin._service.history, "add_training", lambda *args: experience)
    plugin._service.history.forgotten = frozenset({"0"})
    plugin._encounters._meet_training(strategy)
    assert told == [[plugin, other]]
    assert strategy.plugins == [plugin]
    assert strategy.clock.train_exp_counter == 2
