"""A sample of :mod:`tests.trials.hostile_clients`: every lie beside one kind of step, by turns."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import cycle

import pytest
from lies import LIES

from tests.trials.hostile_clients import STEPS, Ending, Trial


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Trial:
    return Trial(tmp_path_factory.mktemp("lying"))


@pytest.fixture(scope="module")
def honest(trial: Trial) -> Iterator[object]:
    yield cache(lambda step: trial.run(step, None))


CASES = [
    pytest.param(lie, step, marks=[] if number < len(STEPS) else pytest.mark.slow)
    for number, (lie, step) in enumerate(zip(LIES, cycle(STEPS), strict=False))
]


@pytest.mark.parametrize(("lie", "step"), CASES)
def test_one_lying_client_of_four_harms_nobody(trial: Trial, honest, lie: str, step: str) -> None:  # type: ignore[no-untyped-def]
    ending: Ending = trial.run(step, LIES[lie])
    assert not list(ending.faults(honest(step)))
