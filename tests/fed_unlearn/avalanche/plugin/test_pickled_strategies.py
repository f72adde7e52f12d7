"""A pickled strategy goes on forgetting, also where its benchmark cannot be pickled."""

import copy
import pickle

import pytest
from avalanche.training import EWC, Replay
from avalanche.training.plugins import EWCPlugin
from plugged_strategies import plugged, scenario_of
from watched_strategies import made, made_benchmark

from fed_unlearn.avalanche.plugin import UnlearningPlugin
from fed_unlearn.requests import ForgetRequest

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("seeded")]
ask = ForgetRequest.for_class


@pytest.mark.parametrize("announced", [False, True])
def test_a_strategy_whose_benchmark_cannot_be_pickled_can(announced: bool) -> None:
    benchmark = scenario_of("nc", {3: ask(4, id="known")}) if announced else made_benchmark("nc", named=False)
    with pytest.raises((AttributeError, pickle.PicklingError)):
        pickle.dumps(benchmark.train_stream[0].benchmark)
    strategy, plugin, _ = plugged(made(Replay, mem_size=18))
    plugin.submit(ask(0, id="first"))
    plugin.submit(ask(5, id="last"))
    strategy.train(benchmark.train_stream[0])
    strategy.train(benchmark.train_stream[1])
    loaded = pickle.loads(pickle.dumps(strategy))
    [again] = [each for each in loaded.plugins if isinstance(each, UnlearningPlugin)]
    assert loaded.unlearn(ask(2, id="now")).committed
    served = {experience.request.id: experience for experience in again.served}
    assert served["now"].sample_ids == tuple(str(index) for index in range(2, 60, 6))
    assert served["now"].classes_in_this_experience == [2]
    later = scenario_of("nc", {3: ask(4, id="known")}) if announced else made_benchmark("nc", named=False)
    loaded.train(later.train_stream[2])
    assert [outcome.request.id for outcome in again.outcomes] == ["first", "now", "last"]
    assert again.forgotten == {str(index) for index in range(60) if index % 6 in (0, 2, 5)}
    assert not again.refused
    assert len(plugin.outcomes) == 1


def test_regularisers_forget_what_was_trained_before_the_pickle() -> None:
    strategy, _, _ = plugged(made(EWC, ewc_lambda=1.0))
    strategy.train(made_benchmark("nc", named=False).train_stream[:2])
    outcomes = []
    for each in (pickle.loads(pickle.dumps(strategy)), strategy):
        each.unlearn(ask(0))
        [ewc] = [item for item in each.plugins if isinstance(item, EWCPlugin)]
        outcomes.append({n: {k: v.data for k, v in values.items()} for n, values in ewc.importances.items()})
    loaded, whole = outcomes
    assert whole.keys() == loaded.keys() == {0, 1}
    for number in whole:
        for name, values in whole[number].items():
            assert values.equal(loaded[number][name]), (number, name)


def test_slices_and_shallow_copies_keep_the_benchmark() -> None:
    scenario = scenario_of("nc", {2: ask(0)})
    for stream in (scenario.train_stream, scenario.forget_stream):
        assert list(stream[:1]) == [stream[0]]
        assert copy.copy(stream[0]).benchmark is stream[0].benchmark
    assert copy.copy(scenario).n_classes == 6
