"""Strategies that share a benchmark, and strategies that meet their benchmark once more."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.training import Naive, Replay
from avalanche.training.plugins import EvaluationPlugin
from plugged_strategies import CLOSED_GATE, OPEN_GATE, plugged, scenario_of
from watched_strategies import made, made_benchmark

from fed_unlearn.avalanche.plugin import UnlearningPlugin
from fed_unlearn.avalanche.streams import GrowingForgetStream
from fed_unlearn.errors import InvalidRequestError
from fed_unlearn.requests import ForgetRequest

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("seeded")]
ask = ForgetRequest.for_class
COPIES = [copy.deepcopy, lambda given: pickle.loads(pickle.dumps(given))]


def unwatched(**options: Any) -> tuple[Any, UnlearningPlugin]:
    """A strategy whose copies have a plug-in of their own."""
    strategy, plugin, _ = plugged(made(Replay, mem_size=18), **options)
    strategy.plugins.pop()
    return strategy, plugin


def of_class(*labels: int) -> frozenset[str]:
    return frozenset(str(index) for index in range(60) if index % 6 in labels)


def requests_of(stream: Any) -> list[str]:
    return [experience.request.id for experience in stream]


def test_strategies_that_share_a_benchmark_ask_for_the_same_samples() -> None:
    scenario = scenario_of("ci", {2: ask(3, id="known")})
    for number in range(2):
        strategy, plugin, _ = plugged(made(Naive))
        strategy.train(scenario.train_stream[:2])
        assert strategy.unlearn(ask(0, id=f"own-{number}")).committed
        strategy.train(scenario.forget_stream[0])
        assert plugin.forgotten == of_class(0, 3)
        assert plugin.served[1] is scenario.forget_stream[0]
        assert plugin.served[0].sample_ids == tuple(sorted(of_class(0), key=int))
        with pytest.raises(InvalidRequestError, match="nothing to forget"):
            strategy.unlearn(ask(0))
    assert requests_of(scenario.forget_stream) == ["known"]


def test_a_request_that_one_strategy_refuses_is_refused_for_it_alone() -> None:
    scenario = scenario_of("ci", {2: ask(3, id="known")})
    for gate in (CLOSED_GATE, OPEN_GATE):
        strategy, plugin, _ = plugged(made(Naive), gate=gate)
        strategy.train(scenario.train_stream[:2])
        strategy.train(scenario.forget_stream[0])
        assert plugin.outcomes[0].committed == (gate is OPEN_GATE)
        if gate is OPEN_GATE:
            with pytest.raises(InvalidRequestError, match="nothing to forget"):
                strategy.unlearn(ask(3))
        else:
            assert strategy.unlearn(ask(3)).request.id == "submitted-1"


def test_a_served_request_has_a_stream_and_a_benchmark_to_be_evaluated_with() -> None:
    scenario = scenario_of("ci", {2: ask(3, id="known")})
    evaluator = EvaluationPlugin(accuracy_metrics(stream=True), loggers=[])
    strategy, plugin, _ = plugged(made(Naive, evaluator=evaluator))
    strategy.train(scenario.train_stream[0])
    strategy.unlearn(ask(0))
    served = plugin.served[0]
    assert requests_of(served.origin_stream) == ["known", "submitted-1"]
    assert served.benchmark is not None and served.origin_stream.benchmark.streams["forget"] is served.origin_stream
    assert len(served.origin_stream.benchmark.test_stream) == len(scenario.test_stream)
    assert any("forget_stream" in name for name in strategy.eval(served))


def test_a_request_that_the_benchmark_gets_later_is_met_with_its_samples() -> None:
    growing = GrowingForgetStream(made_benchmark("ci"))
    strategy, plugin, _ = plugged(made(Naive))
    strategy.train(growing.scenario.train_stream[:2])
    growing.add(ask(0, id="late"), 2)
    strategy.train(growing.scenario.forget_stream[0])
    assert plugin.outcomes[0].committed
    with pytest.raises(InvalidRequestError, match="nothing to forget"):
        strategy.unlearn(ask(0))
    with pytest.raises(InvalidRequestError, match="was given before"):
        strategy.unlearn(ask(1, id="late"))


@pytest.mark.parametrize("copied", COPIES)
def test_a_copy_of_a_strategy_leaves_the_benchmark_and_the_original_alone(copied: Any) -> None:
    scenario = scenario_of("ci", {2: ask(3, id="known")})
    strategy, plugin = unwatched()
    strategy.train(scenario.train_stream[0])
    twin = copied(strategy)
    for each in (twin, strategy):
        other = each.unlearn.func.__self__
        each.train(scenario.train_stream[1])
        assert each.unlearn(ask(0)).committed
        each.train(scenario.forget_stream[0])
        assert [outcome.request.id for outcome in other.outcomes] == ["submitted-1", "known"]
        assert other.forgotten == of_class(0, 3)
    assert requests_of(scenario.forget_stream) == ["known"]
    assert len(plugin.outcomes) == 2


@pytest.mark.parametrize("copied", COPIES)
@pytest.mark.parametrize("announced", [False, True])
def test_what_was_refused_can_be_asked_for_again_after_the_benchmark_was_made_anew(
    copied: Any, announced: bool
) -> None:
    def benchmark() -> Any:
        return scenario_of("ci", {1: ask(1, id="known")}) if announced else made_benchmark("ci", named=False)

    first = benchmark()
    strategy, plugin = unwatched(gate=CLOSED_GATE)
    strategy.train(first.train_stream[0])
    if announced:
        strategy.train(first.forget_stream[0])
    else:
        strategy.unlearn(ask(1, id="known"))
    assert not plugin.outcomes[0].committed
    twin = copied(strategy)
    other = twin.unlearn.func.__self__
    twin.train(benchmark().train_stream[1])
    asked = twin.unlearn(ask(1, id="again"))
    assert asked.request.id == "again"
    assert set(other.served[-1].sample_ids) == of_class(1)


@pytest.mark.parametrize("copied", COPIES)
def test_what_was_committed_cannot_be_asked_for_again_after_the_benchmark_was_made_anew(copied: Any) -> None:
    strategy, _ = unwatched()
    strategy.train(made_benchmark("ci", named=False).train_stream[0])
    assert strategy.unlearn(ask(0)).committed
    twin = copied(strategy)
    twin.train(made_benchmark("ci", named=False).train_stream[1])
    with pytest.raises(InvalidRequestError, match="nothing to forget"):
        twin.unlearn(ask(0))
