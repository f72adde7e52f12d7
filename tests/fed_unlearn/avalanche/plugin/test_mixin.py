"""Unlearning by an explicit call: the plug-in's work, apart from training."""

import warnings
from typing import Any

import pytest
from avalanche.training import EWC, Naive, Replay
from avalanche.training.plugins import SupervisedPlugin
from plugged_strategies import CLASS_0, OPEN_GATE, QUICK, Told, plugged, scenario_of, state_of
from watched_strategies import made

from fed_unlearn.avalanche.plugin import UnlearningPlugin
from fed_unlearn.avalanche.plugin.mixin import Unlearning, UnlearningCallbacks
from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.seeding import isolated_globals

REQUESTS = {2: [CLASS_0, ForgetRequest.for_samples("0", ["1", "7"]), ForgetRequest.for_class(3)]}


class UnlearningNaive(Unlearning, Naive):
    pass


class UnlearningReplay(Unlearning, Replay):
    pass


class UnlearningEWC(Unlearning, EWC):
    pass


KINDS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "naive": (UnlearningNaive, Naive, {}),
    "replay": (UnlearningReplay, Replay, {"mem_size": 18}),
    "ewc": (UnlearningEWC, EWC, {"ewc_lambda": 1.0}),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", KINDS)
def test_an_explicit_call_gives_the_bytes_of_training_on_the_experience(name: str) -> None:
    mixed, plain, options = KINDS[name]

    def run(kind: Any, explicit: bool) -> tuple[list[dict[str, bytes]], Told]:
        scenario = scenario_of("ci", REQUESTS)
        strategy, plugin, watcher = plugged(made(kind, **options))
        states = []
        with isolated_globals(0):
            strategy.train(scenario.train_stream[:2])
            for experience in scenario.forget_stream:
                if explicit:
                    (outcome,) = strategy.unlearn(experience)
                    assert outcome is plugin.outcomes[-1]
                else:
                    strategy.train(experience)
                states.append(state_of(strategy.model))
            strategy.train(scenario.train_stream[2])
        assert not watcher.leaks
        return [*states, state_of(strategy.model)], watcher

    by_call, called = run(mixed, explicit=True)
    by_training, trained = run(plain, explicit=False)
    assert by_call == by_training
    assert len({state["head.weight"] for state in by_call}) >= 3
    within = ("before_training", "after_training")
    assert called.names(*within) == trained.names(*within)
    assert trained.names().count("before_training") == called.names().count("before_training") + 3


@pytest.mark.filterwarnings("ignore")
def test_a_slice_is_served_in_order_and_the_strategy_is_as_it_was() -> None:
    scenario = scenario_of("ci", REQUESTS)
    strategy, plugin, watcher = plugged(made(UnlearningNaive))
    strategy.train(scenario.train_stream[:2])
    clock, order = dict(vars(strategy.clock)), list(strategy.plugins)
    watcher.events.clear()
    outcomes = strategy.unlearn(scenario.forget_stream[1:])
    assert [outcome.request.id for outcome in outcomes] == ["forget-2", "forget-3"]
    assert outcomes == plugin.outcomes
    assert plugin.served == list(scenario.forget_stream[1:])
    assert watcher.names() == ["before_unlearning_exp", "after_unlearning_exp"] * 2
    assert (dict(vars(strategy.clock)), strategy.plugins, strategy.experience) == (clock, order, None)
    assert strategy.unlearn([]) == []


def test_a_plug_in_with_the_callbacks_is_told_without_a_warning_from_avalanche() -> None:
    class Listening(SupervisedPlugin):
        def __init__(self) -> None:
            super().__init__()
            self.heard: list[Any] = []

        def before_unlearning_exp(self, strategy: Any) -> None:
            self.heard.append(strategy.experience)

        def after_unlearning_exp(self, strategy: Any) -> None:
            self.heard.append(strategy.experience)

        def forget(self, strategy: Any, ids: frozenset[str]) -> None: ...

    class Derived(UnlearningCallbacks):
        def forget(self, strategy: Any, ids: frozenset[str]) -> None: ...

    def warned(kind: Any, *plugins: Any) -> tuple[Any, list[str]]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            strategy = made(kind, plugins=[UnlearningPlugin(plan=QUICK, gate=OPEN_GATE), *plugins])
        return strategy, [str(item.message) for item in caught if "incompatible callbacks" in str(item.message)]

    assert len(warned(Naive, Listening())[1]) == 1, "Avalanche warns of what its own strategies do not know"
    plugin = Listening()
    strategy, texts = warned(UnlearningNaive, plugin, Derived())
    assert texts == []
    scenario = scenario_of("ci", REQUESTS)
    strategy.train(scenario.train_stream[:2])
    strategy.unlearn(scenario.forget_stream[0])
    assert plugin.heard == [scenario.forget_stream[0]] * 2


@pytest.mark.filterwarnings("ignore")
def test_misuse_is_named() -> None:
    scenario = scenario_of("ci", REQUESTS)
    with pytest.raises(InvalidParameterError, match="UnlearningNaive has 0 UnlearningPlugins"):
        made(UnlearningNaive).unlearn(scenario.forget_stream[0])
    two = made(UnlearningNaive, plugins=[UnlearningPlugin(), UnlearningPlugin()])
    with pytest.raises(InvalidParameterError, match="has 2 UnlearningPlugins"):
        two.unlearn(scenario.forget_stream)
    strategy, plugin, _ = plugged(made(UnlearningNaive))
    with pytest.raises(InvalidParameterError, match="or a ForgetExperience"):
        strategy.unlearn(scenario.train_stream)
    with pytest.raises(InvalidParameterError, match="or a ForgetExperience"):
        strategy.unlearn(scenario.train_stream[0])
    assert plugin.forgotten == frozenset()
