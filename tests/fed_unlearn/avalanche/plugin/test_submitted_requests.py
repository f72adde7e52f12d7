"""Requests that arrive while a strategy lives: when they are served, how long they wait, and what becomes of them."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import pytest
from avalanche.benchmarks import split_online_stream
from avalanche.training import JointTraining, Naive, Replay
from avalanche.training.plugins import SupervisedPlugin
from plugged_strategies import CLASS_0, CLOSED_GATE, new_instances, plugged, scenario_of, state_of
from watched_strategies import made, made_benchmark

from fed_unlearn.avalanche.plugin import RequestFailedError, UnlearningPlugin
from fed_unlearn.avalanche.streams.arrivals import Arrivals
from fed_unlearn.avalanche.streams.samples import sample_ids
from fed_unlearn.errors import InvalidParameterError, InvalidRequestError
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.seeding import isolated_globals

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("seeded")]
ask = ForgetRequest.for_class


def of_class(*labels: int) -> frozenset[str]:
    """Ids of all samples of some classes: sample ``i`` has class ``i % 6``."""
    return frozenset(str(index) for index in range(60) if index % 6 in labels)


class Ordered(SupervisedPlugin):
    """Notes when requests are served between the experiences that are trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[str] = []

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        self.noted.append(f"experience {strategy.experience.current_experience}")

    def before_unlearning_exp(self, strategy: Any) -> None:
        self.noted.append(strategy.experience.request.id)


class Asking(SupervisedPlugin):
    """Submits a request from within the training of an experience."""

    def __init__(self, plugin: UnlearningPlugin, request: ForgetRequest, number: int) -> None:
        super().__init__()
        self.given = plugin, request, number

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        plugin, request, number = self.given
        if strategy.experience.current_experience == number and request.id not in {each.id for each in plugin.waiting}:
            plugin.submit(request)


@pytest.mark.parametrize("kind", ["ci", "nc"])
@pytest.mark.parametrize("whole", [False, True])
def test_a_submitted_request_is_served_once_its_class_has_arrived(kind: str, whole: bool) -> None:
    strategy, plugin, watcher = plugged(made(Replay, mem_size=18))
    order = Ordered()
    strategy.plugins.append(order)
    benchmark = made_benchmark(kind, named=False)
    assert plugin.submit(ask(2)) == "submitted-1"
    plugin.submit(ask(0, id="first"))
    for part in [benchmark.train_stream] if whole else benchmark.train_stream:
        strategy.train(part)
    assert order.noted == ["experience 0", "first", "experience 1", "submitted-1", "experience 2"]
    assert [outcome.committed for outcome in plugin.outcomes] == [True, True]
    assert plugin.waiting == ()
    assert plugin.forgotten == of_class(0, 2)
    assert not watcher.leaks


def test_a_request_waits_for_as_many_experiences_as_it_says() -> None:
    strategy, plugin, _ = plugged(made(Naive))
    order = Ordered()
    strategy.plugins.append(order)
    plugin.submit(ask(0, id="later"), after=2)
    strategy.train(made_benchmark("ci", named=False).train_stream)
    assert order.noted == ["experience 0", "experience 1", "later", "experience 2"]


def test_a_request_from_a_callback_is_served_at_the_end_of_its_experience() -> None:
    strategy, plugin, watcher = plugged(made(Replay, mem_size=18))
    order = Ordered()
    strategy.plugins += [order, Asking(plugin, ask(3, id="called"), 1)]
    strategy.train(made_benchmark("ci", named=False).train_stream)
    assert order.noted == ["experience 0", "experience 1", "called", "experience 2"]
    assert plugin.forgotten == of_class(3)
    assert not watcher.leaks


def test_requests_of_one_boundary_go_by_priority_and_then_deadline() -> None:
    strategy, plugin, _ = plugged(made(Naive))
    for name, priority, deadline in (("d", 0, None), ("c", 0, 9.0), ("b", 0, 3.0), ("a", 5, None)):
        number = "dcba".index(name)
        ids = [str(6 * number)]
        plugin.submit(ForgetRequest.for_samples("me", ids, id=name, priority=priority, deadline=deadline))
    strategy.train(made_benchmark("ci", named=False).train_stream[0])
    assert [outcome.request.id for outcome in plugin.outcomes] == ["a", "b", "c", "d"]


def test_a_request_for_several_classes_is_served_with_the_first_and_keeps_the_others_out() -> None:
    strategy, plugin, watcher = plugged(made(Naive))
    benchmark = made_benchmark("ci", named=False)
    plugin.submit(ask(1, 4))
    strategy.train(benchmark.train_stream[0])
    assert plugin.forgotten == of_class(1)
    strategy.train(benchmark.train_stream[1:])
    assert plugin.forgotten == of_class(1, 4)
    assert strategy.model.trained_on == set(map(int, of_class(0, 1, 2, 3, 5)))
    assert not watcher.leaks


def test_a_request_for_samples_waits_for_all_of_them() -> None:
    strategy, plugin, _ = plugged(made(Naive))
    benchmark = made_benchmark("ci", named=False)
    plugin.submit(ForgetRequest.for_samples("me", ["0", "2"], id="both"))
    strategy.train(benchmark.train_stream[0])
    assert [each.id for each in plugin.waiting] == ["both"]
    strategy.train(benchmark.train_stream[1])
    assert plugin.forgotten == {"0", "2"}


def test_a_request_that_does_not_wait_is_refused_in_sight() -> None:
    strategy, plugin, _ = plugged(made(Naive))
    benchmark = made_benchmark("ci", named=False)
    plugin.submit(ask(5, id="early"), missing="refuse")
    with pytest.warns(
        UserWarning, match=r"request early was refused: .* have not arrived after 1 training experiences"
    ):
        strategy.train(benchmark.train_stream[0])
    assert [(request.id, type(error)) for request, error in plugin.refused] == [("early", InvalidRequestError)]
    assert (plugin.waiting, plugin.outcomes) == ((), [])
    plugin.submit(ask(5, id="again"))
    strategy.train(benchmark.train_stream[1:])
    assert plugin.forgotten == of_class(5)


def test_what_the_stream_never_brings_is_refused_at_the_first_boundary() -> None:
    strategy, plugin, _ = plugged(made(Naive))
    plugin.submit(ask(9, id="none"))
    plugin.submit(ForgetRequest.for_samples("me", ["977"], id="unknown"))
    strategy.train(made_benchmark("ci", named=False).train_stream[0])
    assert {request.id: str(error) for request, error in plugin.refused}.keys() == {"none", "unknown"}
    assert "no sample" in str(plugin.refused[0][1])


def test_a_strict_plugin_raises_what_it_refuses() -> None:
    strategy, plugin, _ = plugged(made(Naive), strict=True)
    plugin.submit(ask(9))
    with pytest.raises(InvalidRequestError, match="class 9"):
        strategy.train(made_benchmark("ci", named=False).train_stream[0])


def test_at_once() -> None:
    strategy, plugin, watcher = plugged(made(Replay, mem_size=18))
    benchmark = made_benchmark("ci", named=False)
    strategy.train(benchmark.train_stream[:2])
    before = state_of(strategy.model)
    outcome = strategy.unlearn(ask(2))
    assert outcome.committed and plugin.outcomes == [outcome]
    assert state_of(strategy.model) != before
    assert plugin.forgotten == of_class(2)
    strategy.train(benchmark.train_stream[2])
    assert not watcher.leaks


def test_a_request_that_was_not_accepted_may_be_made_again() -> None:
    strategy, plugin, _ = plugged(made(Naive), gate=CLOSED_GATE)
    strategy.train(new_instances().train_stream[0])
    assert not strategy.unlearn(CLASS_0).committed
    assert not strategy.unlearn(CLASS_0).committed
    assert [served.sample_ids for served in plugin.served] == [("0", "6", "12")] * 2


def test_a_committed_request_has_nothing_left_to_forget() -> None:
    strategy, plugin, _ = plugged(made(Naive))
    strategy.train(made_benchmark("ci", named=False).train_stream[0])
    assert strategy.unlearn(CLASS_0).committed
    with pytest.raises(InvalidRequestError, match="nothing to forget"):
        strategy.unlearn(CLASS_0)
    assert len(plugin.outcomes) == 1


def test_misuse_is_named() -> None:
    strategy, plugin, _ = plugged(made(Naive))
    with pytest.raises(InvalidRequestError, match="expected a ForgetRequest"):
        plugin.submit(3)
    with pytest.raises(InvalidParameterError, match="nonsense"):
        plugin.submit(ask(1, method="nonsense"))
    with pytest.raises(InvalidParameterError, match="after = -1"):
        plugin.submit(ask(1), after=-1)
    with pytest.raises(InvalidParameterError, match='expected "wait" or "refuse"'):
        plugin.submit(ask(1), missing="drop")
    plugin.submit(ask(1, id="one"), after=2)
    with pytest.raises(InvalidRequestError, match="'one' was given before"):
        plugin.submit(ask(2, id="one"))
    strategy.train(made_benchmark("ci", named=False).train_stream[0])
    strategy.unlearn(ask(0, id="two"))
    with pytest.raises(InvalidRequestError, match="'two' was given before"):
        strategy.unlearn(ask(1, id="two"))


def test_no_request_is_served_within_a_train_call() -> None:
    class Impatient(SupervisedPlugin):
        def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
            strategy.unlearn(CLASS_0)

    strategy, plugin, _ = plugged(made(Naive))
    strategy.plugins.append(Impatient())
    with pytest.raises(InvalidParameterError, match="submit the request"):
        strategy.train(made_benchmark("ci", named=False).train_stream[0])
    assert plugin.forgotten == frozenset()


def test_strict_raises_what_the_gate_does_not_accept_at_its_turn() -> None:
    strategy, plugin, _ = plugged(made(Naive), gate=CLOSED_GATE, strict=True)
    plugin.submit(CLASS_0)
    with pytest.raises(RequestFailedError, match="not accepted"):
        strategy.train(new_instances().train_stream[0])
    assert len(plugin.outcomes) == 1 and plugin.refused == []


def test_a_request_before_any_training_is_refused_at_once() -> None:
    strategy, plugin, _ = plugged(made(Naive))
    with pytest.raises(ValueError, match="Train first, or submit the request"):
        plugin.unlearn(strategy, CLASS_0)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda given: pickle.loads(pickle.dumps(given))])
def test_strategy_and_plugin_are_copied_together(copied: Any) -> None:
    strategy, plugin, _ = plugged(made(Replay, mem_size=18))
    strategy.plugins.pop()  # the watcher has a plug-in of its own
    benchmark = made_benchmark("ci", named=False)
    strategy.train(benchmark.train_stream[0])
    strategy.unlearn(ask(1, id="one"))
    plugin.submit(ask(2, id="two"))
    twin = copied(strategy)
    other = twin.unlearn.func.__self__
    assert other is not plugin and any(each is other for each in twin.plugins)
    with isolated_globals(1):
        twin.train(made_benchmark("ci", named=False).train_stream[1:])  # the same benchmark made anew
    assert [outcome.request.id for outcome in other.outcomes] == ["one", "two"]
    assert other.forgotten == of_class(1, 2)
    assert [outcome.request.id for outcome in plugin.outcomes] == ["one"], "the original is not changed"
    with isolated_globals(1):
        strategy.train(benchmark.train_stream[1:])
    assert state_of(strategy.model) == state_of(twin.model)


@pytest.mark.parametrize("boundaries", [False, True])
def test_online_parts_bring_the_samples_of_their_experience(boundaries: bool) -> None:
    strategy, plugin, watcher = plugged(made(Replay, mem_size=18))
    strategy.train_mb_size = 4
    benchmark = made_benchmark("ci", named=False)
    plugin.submit(ask(2, id="two"))
    plugin.submit(ask(0, id="zero"), after=2)
    for experience in benchmark.train_stream:
        parts = split_online_stream([experience], 7, access_task_boundaries=boundaries, seed=1)
        strategy.train(parts)
    assert [outcome.request.id for outcome in plugin.outcomes] == ["two", "zero"]
    assert [served.after for served in plugin.served] == [2, 2]
    assert plugin.forgotten == of_class(0, 2)
    assert not watcher.leaks


def test_joint_training_forgets_after_it_was_trained() -> None:
    strategy, plugin, _ = plugged(made(JointTraining))
    strategy.plugins.pop()
    strategy.train(made_benchmark("ci", named=False).train_stream)
    assert strategy.unlearn(ask(4)).committed
    assert plugin.forgotten == of_class(4)
    assert len(plugin.served[0].sample_ids) == 10


def test_a_forget_benchmark_takes_further_requests() -> None:
    scenario = scenario_of("ci", {2: ask(3, id="known")})
    strategy, plugin, _ = plugged(made(Naive))
    plugin.submit(CLASS_0)
    strategy.train(scenario.train_stream[0])
    strategy.train(scenario.train_stream[1])
    strategy.train(scenario.forget_stream[0])
    assert [outcome.request.id for outcome in plugin.outcomes] == ["submitted-1", "known"]
    assert [experience.request.id for experience in scenario.forget_stream] == ["known"], "other strategies share it"
    assert sample_ids(plugin.served[0].dataset) == plugin.served[0].sample_ids == tuple(sorted(of_class(0), key=int))


def test_an_idle_plugin_gives_ids_and_nothing_else() -> None:
    trained = []
    for plugins in ([], [UnlearningPlugin()]):
        strategy = made(Replay, mem_size=18, plugins=plugins)
        with warnings.catch_warnings(), isolated_globals(1):
            warnings.simplefilter("error", UserWarning)
            strategy.train(made_benchmark("nc", named=False).train_stream[0])
        trained.append(state_of(strategy.model))
    assert trained[0] == trained[1]


@pytest.mark.parametrize("one_by_one", [False, True])
@pytest.mark.parametrize("size", [5, 6])  # Avalanche marks no part as the last one if all are of one size
def test_an_online_experience_counts_after_its_last_part(size: int, one_by_one: bool) -> None:
    strategy, plugin, _ = plugged(made(Naive))
    strategy.plugins.append(parts := Parts(plugin))
    plugin.submit(ForgetRequest.for_samples("me", ["1"], id="after one"), after=1)
    plugin.submit(ask(2, id="after two"), after=2)
    stream = list(split_online_stream(made_benchmark("ci", named=False).train_stream, size, seed=1))
    for given in stream if one_by_one else [stream]:
        strategy.train(given)
    of_each = -(-20 // size)
    assert parts.at == {"after one": of_each, "after two": 2 * of_each}


class Parts(SupervisedPlugin):
    """Notes after how many parts each request was served."""

    def __init__(self, plugin: UnlearningPlugin) -> None:
        super().__init__()
        self.at: dict[str, int] = {}
        self.plugin = plugin

    def after_unlearning_exp(self, strategy: Any) -> None:
        self.at[self.plugin.outcomes[-1].request.id] = len(self.plugin._history.trained)


def test_the_next_experience_ends_one_whose_last_parts_never_came() -> None:
    strategy, plugin, _ = plugged(made(Naive))
    plugin.submit(ask(1), after=1)
    stream = list(split_online_stream(made_benchmark("ci", named=False).train_stream, 5, seed=1))
    strategy.train(stream[:3])
    assert plugin.outcomes == []
    strategy.train(stream[4:])
    assert [served.after for served in plugin.served] == [1]


def test_what_has_arrived_is_looked_up_once_for_all_requests_that_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    strategy, plugin, _ = plugged(made(Naive))
    for label in (4, 5, 3, 2):
        plugin.submit(ask(label))
    calls: list[int] = []
    among = Arrivals.among
    monkeypatch.setattr(Arrivals, "among", lambda self, ids: calls.append(len(ids)) or among(self, ids))
    strategy.train(made_benchmark("ci", named=False).train_stream[0])
    assert calls == [20] and len(plugin.waiting) == 4
