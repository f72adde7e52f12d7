"""Requests that cannot be served at their turn: what interrupts them, what stands against them, and what they wait for."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
from avalanche.benchmarks import benchmark_from_datasets
from avalanche.benchmarks.utils import AvalancheDataset, DataAttribute
from avalanche.training import Naive, Replay
from avalanche.training.plugins import SupervisedPlugin
from plugged_strategies import CLOSED_GATE, plugged, scenario_of
from torch.utils.data import TensorDataset
from watched_strategies import made, made_benchmark, naive_with

from fed_unlearn.avalanche.plugin import RequestFailedError, UnlearningPlugin
from fed_unlearn.avalanche.streams.order import interleave
from fed_unlearn.errors import InvalidDataError, InvalidParameterError
from fed_unlearn.requests import ForgetRequest

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("seeded")]
ask = ForgetRequest.for_class


class Failing(SupervisedPlugin):
    """Raises at the first event of a name."""

    def __init__(self, event: str, error: type[BaseException]) -> None:
        super().__init__()
        self.error: type[BaseException] | None = error
        setattr(self, event, self._raise)

    def _raise(self, strategy: Any, **kwargs: Any) -> None:
        error, self.error = self.error, None
        if error is not None:
            raise error("no more")

    def forget(self, strategy: Any, forgotten: frozenset[str]) -> None:
        """It keeps none."""


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_request_that_was_interrupted_waits_on(error: type[BaseException]) -> None:
    strategy, plugin, watcher = plugged(made(Replay, mem_size=18))
    strategy.plugins.append(Failing("before_unlearning_exp", error))
    benchmark = made_benchmark("ci", named=False)
    plugin.submit(ask(0, id="first"), after=2)
    plugin.submit(ask(1, id="second"), after=2)
    strategy.train(benchmark.train_stream[0])
    with pytest.raises(error):
        strategy.train(benchmark.train_stream[1])
    assert [each.id for each in plugin.waiting] == ["first", "second"]
    assert not plugin.outcomes
    strategy.train(benchmark.train_stream[2])
    assert [outcome.request.id for outcome in plugin.outcomes] == ["first", "second"]
    assert [experience.after for experience in plugin.served] == [2, 2]
    assert [len(experience.dataset) for experience in plugin.served] == [10, 10]
    assert not watcher.leaks


def test_a_request_that_was_served_is_not_served_again_when_a_plug_in_fails_after_it() -> None:
    strategy, plugin, _ = plugged(made(Naive))
    strategy.plugins.append(Failing("after_unlearning_exp", RuntimeError))
    benchmark = made_benchmark("ci", named=False)
    plugin.submit(ask(0, id="first"))
    with pytest.raises(RuntimeError, match="no more"):
        strategy.train(benchmark.train_stream[0])
    strategy.train(benchmark.train_stream[1])
    assert [outcome.request.id for outcome in plugin.outcomes] == ["first"]
    assert plugin.waiting == ()
    with pytest.raises(ValueError, match="forgotten already"):
        strategy.unlearn(ask(0))


def test_a_call_that_was_interrupted_may_be_made_again() -> None:
    strategy, plugin, _ = plugged(made(Naive))
    strategy.plugins.append(Failing("before_unlearning_exp", KeyboardInterrupt))
    strategy.train(made_benchmark("ci", named=False).train_stream[0])
    with pytest.raises(KeyboardInterrupt):
        strategy.unlearn(ask(0, id="now"))
    assert strategy.unlearn(ask(0, id="now")).committed
    assert [outcome.request.id for outcome in plugin.outcomes] == ["now"]


def test_what_waits_behind_a_request_that_raises_waits_on() -> None:
    strategy, plugin, _ = plugged(made(Naive), gate=CLOSED_GATE, strict=True)
    benchmark = made_benchmark("ci", named=False)
    plugin.submit(ask(2, id="first"), after=2)
    plugin.submit(ForgetRequest.for_samples("me", ["1"], id="second"), after=2)
    with pytest.raises(RequestFailedError, match="first"):
        strategy.train(benchmark.train_stream)
    assert [each.id for each in plugin.waiting] == ["second"]


def test_all_classes_of_the_first_experience_are_forgotten_once_there_is_something_to_retain() -> None:
    strategy, plugin, watcher = plugged(made(Replay, mem_size=18))
    benchmark = made_benchmark("ci", named=False)
    plugin.submit(ask(0, id="first"))
    plugin.submit(ask(1, id="second"))
    strategy.train(benchmark.train_stream[0])
    assert [each.id for each in plugin.waiting] == ["second"]
    strategy.train(benchmark.train_stream[1])
    assert [experience.after for experience in plugin.served] == [1, 2]
    assert not plugin.refused
    assert not watcher.leaks


def test_the_last_class_of_all_is_refused_since_nothing_more_comes() -> None:
    strategy, plugin, _ = plugged(made(Naive))
    for label in range(6):
        plugin.submit(ask(label, id=str(label)))
    strategy.train(made_benchmark("ci", named=False).train_stream)
    assert len(plugin.outcomes) == 5
    [(request, error)] = plugin.refused
    assert request.id == "5"
    assert "leaves none of the 60 samples" in str(error)


def test_a_plug_in_that_came_late_refuses_what_was_submitted() -> None:
    strategy, benchmark = made(Naive), made_benchmark("ci", named=False)
    strategy.train(benchmark.train_stream[0])
    strategy, plugin, _ = plugged(strategy)
    plugin.submit(ask(0, id="late"))
    plugin.submit(ask(4, id="later"), after=3)
    with pytest.warns(UserWarning, match=r"request late was refused: .* give it to the strategy before the first one"):
        strategy.train(benchmark.train_stream[1])
    assert [(request.id, type(error)) for request, error in plugin.refused] == [
        ("late", InvalidParameterError),
        ("later", InvalidParameterError),
    ]
    assert plugin.waiting == ()


def test_what_has_no_labels_refuses_what_was_submitted() -> None:
    bare = AvalancheDataset([TensorDataset(torch.rand(16, 1, 8, 8), torch.arange(16) % 6, torch.zeros(16).long())])
    plugin = UnlearningPlugin()
    strategy = naive_with(plugin)
    plugin.submit(ask(0, id="nowhere"))
    with pytest.warns(UserWarning, match="request nowhere was refused"):
        strategy.train(benchmark_from_datasets(train=[bare, bare]).train_stream[0])
    [(_, error)] = plugin.refused
    assert isinstance(error, InvalidDataError)


def test_unlearn_belongs_to_the_plug_in_that_the_strategy_has() -> None:
    strategy, plugin, _ = plugged(made(Naive))
    benchmark = made_benchmark("ci", named=False)
    strategy.train(benchmark.train_stream[0])
    apart: UnlearningPlugin = pickle.loads(pickle.dumps(plugin))
    strategy.plugins = [apart if each is plugin else each for each in strategy.plugins]
    strategy.train(benchmark.train_stream[1])
    with pytest.raises(InvalidParameterError, match="used with another strategy before"):
        strategy.unlearn(ask(0))


def test_an_id_that_is_made_is_none_that_was_given() -> None:
    strategy, plugin, _ = plugged(made(Naive))
    assert plugin.submit(ask(0, id="submitted-1")) == "submitted-1"
    assert plugin.submit(ask(2)) == "submitted-2"
    strategy.train(made_benchmark("ci", named=False).train_stream)
    assert [outcome.request.id for outcome in plugin.outcomes] == ["submitted-1", "submitted-2"]


def test_a_request_with_the_id_of_one_that_the_benchmark_announces_is_refused() -> None:
    strategy, plugin, _ = plugged(made(Naive))
    scenario = scenario_of("ci", {2: ask(0, id="mine")})
    plugin.submit(ask(1, id="mine"))
    strategy.train(interleave(scenario))
    assert [experience.sample_ids for experience in plugin.served] == [scenario.forget_stream[0].sample_ids]
    [(request, error)] = plugin.refused
    assert request.scope.classes == (1,)
    assert "has a request with the id 'mine' already" in str(error)


@pytest.mark.parametrize("target", [0.5, {"boxes": torch.zeros(1, 4), "labels": torch.tensor([1])}])
def test_targets_that_are_no_classes_matter_at_a_request_alone(target: Any) -> None:
    dataset = TensorDataset(torch.rand(16, 1, 8, 8), torch.arange(16) % 6, torch.zeros(16).long())
    named = AvalancheDataset([dataset], data_attributes=[DataAttribute([target] * 16, "targets")])
    plugin = UnlearningPlugin()
    strategy = naive_with(plugin)
    strategy.train(benchmark_from_datasets(train=[named]).train_stream[0])
    with pytest.raises(InvalidDataError, match="the labels of a classification benchmark"):
        strategy.unlearn(ask(0))
