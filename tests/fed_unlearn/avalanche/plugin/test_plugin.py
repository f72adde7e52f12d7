"""What the plug-in does to a strategy's training: events, clock, plug-ins, and what is trained on and kept afterwards."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from avalanche.training import EWC, Naive
from avalanche.training.plugins import EvaluationPlugin, LRSchedulerPlugin, SupervisedPlugin
from plugged_strategies import (
    CLASS_0,
    EVERY_KIND,
    FORGETTING,
    OPEN_GATE,
    QUICK,
    plugged,
    scenario_of,
    state_of,
)
from watched_strategies import OTHERS, OTHERS_WITH_TASKS, REPLAYING, made, naive_with, watched_model

from fed_unlearn.avalanche.plugin import UnlearningPlugin
from fed_unlearn.avalanche.streams.order import interleave
from fed_unlearn.avalanche.streams.reading import as_samples
from fed_unlearn.avalanche.streams.samples import sample_ids
from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.logits import predict_logits
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.seeding import isolated_globals

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("seeded")]

SAMPLES = ForgetRequest.for_samples("0", ["1", "7"])
PLAIN_KINDS = [*REPLAYING, *OTHERS]


def counters(strategy: Any) -> dict[str, int]:
    return dict(vars(strategy.clock))


# ---------------------------------------------------------------------- a forget experience


@pytest.mark.parametrize("kind", ["ci", "nc", "ni"])
def test_a_forget_experience_changes_the_model_and_nothing_else(kind: str) -> None:
    scenario = scenario_of(kind, {1: CLASS_0})
    strategy, plugin, watcher = plugged(made(Naive, train_epochs=60), plan=FORGETTING)
    strategy.train(scenario.train_stream[0])
    forget = as_samples(scenario.forget_stream[0].dataset)
    assert (predict_logits(strategy.model, forget).argmax(1) == forget.labels).all(), "there is something to forget"
    before, clock, order = state_of(strategy.model), counters(strategy), list(strategy.plugins)
    watcher.events.clear()

    strategy.train(scenario.forget_stream[0])

    assert state_of(strategy.model) != before
    assert not (predict_logits(strategy.model, forget).argmax(1) == forget.labels).any()
    assert counters(strategy) == clock
    assert strategy.train_epochs == 60
    assert strategy.plugins == order
    assert strategy.model.training
    assert watcher.names() == ["before_training", "before_unlearning_exp", "after_unlearning_exp", "after_training"]
    assert {where for event, where in watcher.events if "unlearning" in event} == {"ForgetExperience"}
    assert [outcome.committed for outcome in plugin.outcomes] == [True]
    assert plugin.served == [scenario.forget_stream[0]]
    assert plugin.forgotten == frozenset(scenario.forget_stream[0].sample_ids)


def test_only_what_is_trained_advances_the_clock_and_the_schedule() -> None:
    scenario = scenario_of("ci", {1: CLASS_0, 3: SAMPLES})
    model = watched_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = LRSchedulerPlugin(
        torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5), reset_scheduler=False, reset_lr=False
    )
    strategy = made(Naive, model, optimizer=optimizer, plugins=[schedule], train_epochs=2)
    plugged(strategy)
    strategy.train(list(interleave(scenario)))
    # Three batches of each experience, in each of two epochs.
    assert strategy.clock.train_exp_counter == 3
    assert strategy.clock.train_iterations == 2 * (3 + 3 + 3)
    assert strategy.clock.total_iterations == 18
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 / 2**6)


@pytest.mark.parametrize("call", ["one by one", "a list", "the iterable"])
def test_every_way_of_calling_gives_the_same_model_and_events(call: str) -> None:
    def run(call: str) -> tuple[dict[str, bytes], list[tuple[str, str]], list[Any]]:
        scenario = scenario_of("ci", {1: CLASS_0, 2: [SAMPLES, ForgetRequest.for_class(3)]})
        strategy, plugin, watcher = plugged(REPLAYING["replay"]())
        order = interleave(scenario)
        with isolated_globals(0):
            if call == "one by one":
                for experience in order:
                    strategy.train(experience)
            else:
                strategy.train(list(order) if call == "a list" else order)
        assert len(strategy.plugins) == len(set(map(id, strategy.plugins)))
        assert not watcher.leaks
        assert [outcome.request.id for outcome in plugin.outcomes] == ["forget-1", "forget-2", "forget-3"]
        events = [event for event in watcher.events if event[0] not in ("before_training", "after_training")]
        return state_of(strategy.model), events, plugin.outcomes

    expected, found = run("one by one"), run(call)
    assert found[0] == expected[0]
    assert found[1] == expected[1]
    exps = [event for event, _ in found[1] if event in ("before_training_exp", "after_training_exp")]
    assert exps == ["before_training_exp", "after_training_exp"] * 3


def test_other_plug_ins_keep_their_order_and_are_told_once() -> None:
    class Counting(SupervisedPlugin):
        def __init__(self) -> None:
            super().__init__()
            self.calls: list[str] = []

        def before_training(self, strategy: Any, **options: Any) -> None:
            self.calls.append("before_training")

        def before_training_exp(self, strategy: Any, **options: Any) -> None:
            self.calls.append("before_training_exp")

        def after_training_exp(self, strategy: Any, **options: Any) -> None:
            self.calls.append("after_training_exp")

        def forget(self, strategy: Any, ids: Any) -> None:
            self.calls.append("forget")

    first, second = Counting(), Counting()
    plugin = UnlearningPlugin(plan=QUICK, gate=OPEN_GATE)
    strategy = naive_with(first, plugin, second)
    others = [given for given in strategy.plugins if given is not plugin]
    scenario = scenario_of("ci", {1: CLASS_0})
    for experience in interleave(scenario)[:3]:
        strategy.train(experience)
        assert [given for given in strategy.plugins if given is not plugin] == others
    once = ["before_training", "before_training_exp", "after_training_exp"]
    assert first.calls == second.calls == [*once, "before_training", "forget", *once]


@pytest.mark.parametrize("epochs", [0, 1])
def test_training_goes_on_at_once(epochs: int) -> None:
    scenario = scenario_of("ci", {1: CLASS_0})
    strategy, _, _ = plugged(naive_with())
    strategy.train(scenario.train_stream[0])
    strategy.train_epochs = epochs
    strategy.train(scenario.forget_stream[0])
    strategy.model.trained_on.clear()
    strategy.train_epochs = 1
    strategy.train([scenario.train_stream[1]])
    assert {str(index) for index in strategy.model.trained_on} == set(sample_ids(scenario.train_stream[1].dataset))


def test_a_call_that_trains_no_epoch_lets_the_next_experience_train() -> None:
    class OneEpochLater(SupervisedPlugin):
        def after_unlearning_exp(self, strategy: Any) -> None:
            strategy.train_epochs = 0

        def before_train_dataset_adaptation(self, strategy: Any, **options: Any) -> None:
            strategy.train_epochs = 1

        def forget(self, strategy: Any, ids: Any) -> None: ...

    scenario = scenario_of("ci", {1: CLASS_0})
    strategy, _, watcher = plugged(naive_with(OneEpochLater()))
    strategy.train(list(interleave(scenario)))
    assert watcher.names().count("after_training_epoch") == 3


@pytest.mark.parametrize("every", [0, 1])
@pytest.mark.parametrize("streams", ["none", "test", "all"])
def test_evaluation_while_training_goes_on(every: int, streams: str) -> None:
    scenario = scenario_of("ci", {1: CLASS_0, 2: SAMPLES})
    strategy, plugin, watcher = plugged(made(Naive, eval_every=every, train_epochs=2))
    given = {"none": None, "test": [scenario.test_stream], "all": [scenario.test_stream, scenario.forget_stream]}[
        streams
    ]
    for experience in interleave(scenario):
        strategy.train(experience, eval_streams=None if given is None else list(given))
    strategy.train(list(interleave(scenario))[-2:], eval_streams=given)
    assert not watcher.leaks
    assert "before_eval" in watcher.names()
    assert strategy.clock.train_exp_counter == 4
    # Asked for again, a request is served again.
    assert [outcome.request.id for outcome in plugin.outcomes] == ["forget-1", "forget-2", "forget-2"]


# ---------------------------------------------------------------------- what is trained on afterwards


@pytest.mark.parametrize("benchmark", ["ci", "nc"])
@pytest.mark.parametrize("name", PLAIN_KINDS)
def test_forgotten_samples_are_never_trained_on_or_kept_again(name: str, benchmark: str) -> None:
    _never_again(EVERY_KIND[name](), benchmark)


@pytest.mark.parametrize("name", OTHERS_WITH_TASKS)
def test_nor_by_strategies_that_need_task_labels(name: str) -> None:
    _never_again(EVERY_KIND[name](), "nc")


@pytest.mark.parametrize("name", ["naive", "replay", "replay-reservoir", "cumulative", "agem", "gdumb", "ewc", "si"])
def test_nor_where_later_experiences_bring_more_of_a_forgotten_class(name: str) -> None:
    _never_again(EVERY_KIND[name](), "ni")


def _never_again(strategy: Any, benchmark: str) -> None:
    scenario = scenario_of(
        benchmark, {1: CLASS_0, 2: [SAMPLES, ForgetRequest.for_class(5 if benchmark == "ni" else 2)]}
    )
    strategy, plugin, watcher = plugged(strategy)
    everything = {name for experience in scenario.train_stream for name in sample_ids(experience.dataset)}
    for experience in [*interleave(scenario), *scenario.train_stream]:
        strategy.model.trained_on.clear()
        strategy.train(experience)
        assert not plugin.forgotten & {str(index) for index in strategy.model.trained_on}
    assert not watcher.leaks
    assert len(plugin.outcomes) == 3
    if benchmark == "ni":
        assert plugin.forgotten == {name for name in everything if int(name) % 6 in (0, 5)} | {"1", "7"}
    assert any(event == "after_training_iteration" for event, _ in watcher.events)


def test_an_experience_with_nothing_left_is_skipped_and_counted() -> None:
    # Client a holds all of the second experience, and a little of the first.
    clients = {
        "a": [*map(str, range(18, 36)), "0", "1"],
        "b": [str(index) for index in (*range(2, 18), *range(36, 60))],
    }
    # After so short a training the samples stand as in a reference without them: there is nothing to do.
    for name in ("naive", "replay", "cumulative", "ewc", "ewc-online", "mas", "si"):
        scenario = scenario_of("ni", {1: ForgetRequest.for_client("a")}, clients=clients)
        strategy, plugin, watcher = plugged(
            EVERY_KIND[name](), strict=True, plan=QUICK, validation=as_samples(scenario.test_stream[0].dataset)
        )
        strategy.train(scenario.train_stream[0])
        strategy.train(scenario.forget_stream[0])
        before, iterations = state_of(strategy.model), strategy.clock.train_iterations
        watcher.events.clear()
        strategy.train(scenario.train_stream[1])
        assert state_of(strategy.model) == before, name
        assert watcher.names() == ["before_training", "after_training"]
        assert (strategy.clock.train_exp_counter, strategy.clock.train_iterations) == (2, iterations)
        assert set(clients["a"]) == plugin.forgotten
        strategy.model.trained_on.clear()
        strategy.train(scenario.train_stream[2])
        assert strategy.clock.train_exp_counter == 3
        assert set(range(36, 60)) <= strategy.model.trained_on
        assert not watcher.leaks, name


def test_a_training_that_broke_off_is_not_counted_twice() -> None:
    class Breaking(SupervisedPlugin):
        broken = False

        def after_training_iteration(self, strategy: Any, **options: Any) -> None:
            if self.broken:
                raise KeyboardInterrupt

        def forget(self, strategy: Any, ids: Any) -> None: ...

    scenario = scenario_of("ci", {2: CLASS_0})
    breaking = Breaking()
    strategy, plugin, _ = plugged(made(EWC, ewc_lambda=1.0, plugins=[breaking]), retain="seen")
    strategy.train(scenario.train_stream[0])
    breaking.broken = True
    with pytest.raises(KeyboardInterrupt):
        strategy.train(scenario.train_stream[1])
    breaking.broken = False
    strategy.train(scenario.train_stream[1])
    assert plugin._history.trained == list(scenario.train_stream[:2])
    strategy.train(scenario.forget_stream[0])
    assert plugin._history.sizes == [10, 20]


def test_a_forget_experience_that_broke_off_leaves_no_plug_in_out() -> None:
    scenario = scenario_of("ci", {1: CLASS_0})
    strategy, _, watcher = plugged(naive_with())
    strategy.train(scenario.train_stream[0])
    make, strategy.make_train_dataloader = strategy.make_train_dataloader, _fails
    with pytest.raises(MemoryError):
        strategy.train(scenario.forget_stream[0])
    strategy.make_train_dataloader = make
    watcher.events.clear()
    strategy.train(scenario.train_stream[1])
    assert watcher.names()[0] == "before_training"
    assert "after_training_iteration" in watcher.names()
    assert strategy.clock.train_exp_counter == 2


def _fails(**options: Any) -> None:
    raise MemoryError


# ---------------------------------------------------------------------- repeatable


def test_same_seed_same_bytes_and_other_seed_others() -> None:
    def run(seed: int) -> list[bytes]:
        scenario = scenario_of("ci", {1: CLASS_0, 2: SAMPLES})
        strategy, _, _ = plugged(REPLAYING["replay"](), seed=seed)
        with isolated_globals(0):
            strategy.train(list(interleave(scenario)))
        return list(state_of(strategy.model).values())

    assert run(1) == run(1)
    assert run(1) != run(2)


@pytest.mark.parametrize("name", [name for name in EVERY_KIND if name not in ("rar", "mir")])
def test_global_generators_are_left_alone(name: str) -> None:
    scenario = scenario_of("nc", {2: [CLASS_0, SAMPLES]})
    strategy, plugin, _ = plugged(EVERY_KIND[name]())
    strategy.train(scenario.train_stream[:2])
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tobytes(), np.random.get_state()[2]
    strategy.train(scenario.forget_stream[0])
    plugin.unlearn(strategy, scenario.forget_stream[1])
    after = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tobytes(), np.random.get_state()[2]
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


# ---------------------------------------------------------------------- misuse


def test_two_plug_ins_are_refused() -> None:
    scenario = scenario_of("ci", {1: CLASS_0})
    strategy = naive_with(UnlearningPlugin(), UnlearningPlugin())
    with pytest.raises(InvalidParameterError, match="several UnlearningPlugins"):
        strategy.train(scenario.train_stream[0])


def test_a_plug_in_that_came_late_is_told_so() -> None:
    scenario = scenario_of("ci", {1: CLASS_0})
    strategy = naive_with()
    strategy.train(scenario.train_stream[0])
    before = state_of(strategy.model)
    _, plugin, _ = plugged(strategy)
    with pytest.raises(InvalidParameterError, match="0 of 1 training experiences"):
        strategy.train(scenario.forget_stream[0])
    assert state_of(strategy.model) == before
    assert plugin.forgotten == frozenset()


def test_what_is_no_forget_experience_is_refused() -> None:
    scenario = scenario_of("ci", {1: CLASS_0})
    strategy, plugin, _ = plugged(naive_with())
    with pytest.raises(InvalidParameterError, match="or a ForgetExperience"):
        plugin.unlearn(strategy, scenario.train_stream[0])


def test_metrics_are_told_by_the_evaluation_plug_in() -> None:
    from avalanche.evaluation import PluginMetric
    from avalanche.evaluation.metric_results import MetricValue

    class Listening(PluginMetric[float]):
        def __init__(self) -> None:
            super().__init__()
            self.heard: list[tuple[str, bytes]] = []

        def result(self, **options: Any) -> None: ...

        def reset(self, **options: Any) -> None: ...

        def before_unlearning_exp(self, strategy: Any) -> None:
            self.heard.append(("before", state_of(strategy.model)["head.weight"]))

        def after_unlearning_exp(self, strategy: Any) -> Any:
            self.heard.append(("after", state_of(strategy.model)["head.weight"]))
            return [MetricValue(self, "Listened", 1.0, strategy.clock.train_iterations)]

        def before_training_exp(self, strategy: Any) -> None:
            self.heard.append((type(strategy.experience).__name__, b""))

    metric = Listening()
    scenario = scenario_of("ci", {1: CLASS_0})
    strategy, _, _ = plugged(made(Naive, evaluator=EvaluationPlugin(metric, loggers=[])))
    strategy.train(scenario.train_stream[0])
    before = state_of(strategy.model)["head.weight"]
    strategy.train(scenario.forget_stream[0])
    after = state_of(strategy.model)["head.weight"]
    assert before != after
    assert metric.heard[1:] == [("before", before), ("after", after)]
    assert strategy.evaluator.get_last_metrics()["Listened"] == 1.0
