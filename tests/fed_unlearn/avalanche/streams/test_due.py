"""Which requests a script has passed over, and what it is told of them."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from avalanche.training import Naive
from plugged_strategies import plugged, scenario_of
from watched_strategies import made

from fed_unlearn.avalanche.streams.due import overdue
from fed_unlearn.avalanche.streams.order import interleave
from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.requests import ForgetRequest

pytestmark = pytest.mark.usefixtures("seeded")
FIRST, SECOND = ForgetRequest.for_class(0, id="zeros"), ForgetRequest.for_class(2, id="twos")
WAY = "forget_stream[0] brings it: strategy.train(scenario.forget_stream[0]), or loop over interleave(scenario)"


def told(strategy: Any, *experiences: Any) -> list[str]:
    """The warnings about requests that come up while experiences are trained on one by one."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        for experience in experiences:
            strategy.train(experience)
    return [str(item.message) for item in found if str(item.message).startswith("request ")]


def test_a_request_is_overdue_once_more_was_trained_than_it_comes_after() -> None:
    scenario = scenario_of("ci", {1: FIRST, 2: SECOND})
    first, second = scenario.forget_stream
    assert [overdue(scenario, trained, ()) for trained in (0, 1, 2, 3)] == [[], [], [first], [first, second]]
    assert overdue(scenario, 3, {"zeros"}) == [second]
    assert overdue(object(), 3, ()) == []


@pytest.mark.parametrize("kind", ["ci", "nc"])
def test_a_loop_without_requests_is_told_at_the_end_of_the_next_experience_and_once(kind: str) -> None:
    scenario = scenario_of(kind, {1: FIRST})
    strategy, plugin, _ = plugged(made(Naive))
    assert told(strategy, scenario.train_stream[0]) == []
    [text] = told(strategy, scenario.train_stream[1])
    assert text == f"request zeros comes after 1 training experience and was not served, 2 were trained; {WAY}"
    assert told(strategy, scenario.train_stream[2]) == []
    strategy.train(scenario.forget_stream)
    assert [outcome.request.id for outcome in plugin.outcomes] == ["zeros"]


def test_each_request_is_named_with_its_own_experience() -> None:
    scenario = scenario_of("ci", {1: FIRST, 2: SECOND})
    strategy, _, _ = plugged(made(Naive))
    texts = told(strategy, scenario.train_stream)
    assert [text.split(" comes after ")[0] for text in texts] == ["request zeros", "request twos"]
    assert "forget_stream[1] brings it" in texts[1] and "after 2 training experiences and" in texts[1]


@pytest.mark.parametrize("whole", [True, False])
def test_who_serves_requests_in_time_is_told_nothing(whole: bool) -> None:
    scenario = scenario_of("ci", {1: FIRST, 2: SECOND})
    strategy, plugin, _ = plugged(made(Naive))
    order = interleave(scenario)
    assert told(strategy, *([order] if whole else order)) == []
    assert len(plugin.outcomes) == 2


def test_a_request_that_comes_too_early_is_told_the_same_way() -> None:
    scenario = scenario_of("ci", {2: FIRST})
    strategy, _, _ = plugged(made(Naive))
    strategy.train(scenario.train_stream[0])
    with pytest.raises(InvalidParameterError) as caught:
        strategy.train(scenario.forget_stream[0])
    assert str(caught.value) == f"request zeros comes after 2 training experiences, and 1 were trained so far; {WAY}"
