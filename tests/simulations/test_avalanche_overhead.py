"""What the plug-in costs where nothing is to be forgotten."""

from __future__ import annotations

import time
from typing import Any

import pytest

from fed_unlearn.avalanche import UnlearningPlugin
from fed_unlearn.simulations.avalanche_overhead import STRATEGIES, _training, ratios


@pytest.mark.slow
@pytest.mark.parametrize("name", STRATEGIES)
def test_the_hooks_take_less_than_a_twentieth_of_an_epoch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their share of one and the same epoch: two epochs beside each other scatter by more than that on a busy machine."""
    inside = 0.0

    def timed(hook: Any) -> Any:
        def wrapped(*given: Any, **options: Any) -> Any:
            nonlocal inside
            started = time.process_time()
            try:
                return hook(*given, **options)
            finally:
                inside += time.process_time() - started

        return wrapped

    for hook in [item for item in dir(UnlearningPlugin) if item.startswith(("before_", "after_"))]:
        monkeypatch.setattr(UnlearningPlugin, hook, timed(getattr(UnlearningPlugin, hook)))
    train = _training(name, 5000, plugged=True)
    train()
    inside, started = 0.0, time.process_time()
    train()
    whole = time.process_time() - started
    assert 0 < inside < 0.05 * whole


def test_both_sides_are_trained_in_turn() -> None:
    assert [ratio > 0 for ratio in ratios("naive", samples=64, alternations=3)] == [True] * 3
