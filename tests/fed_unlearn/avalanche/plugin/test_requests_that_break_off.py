"""Requests that cannot be served, or that break off: what becomes of them and of those behind them."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from avalanche.benchmarks import benchmark_from_datasets
from avalanche.benchmarks.utils import as_classification_dataset
from avalanche.training import Naive, Replay
from avalanche.training.plugins import EWCPlugin, SupervisedPlugin
from plugged_strategies import CLASS_0, CLOSED_GATE, new_instances, plugged, scenario_of, state_of
from torch import nn
from torch.utils.data import TensorDataset
from watched_strategies import made, made_benchmark, made_dataset

from fed_unlearn.avalanche.plugin import RequestFailedError
from fed_unlearn.avalanche.plugin.memory.buffers import buffered
from fed_unlearn.avalanche.streams.samples import sample_ids, with_sample_ids
from fed_unlearn.errors import InvalidDataError, InvalidRequestError
from fed_unlearn.requests import ForgetRequest

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("seeded")]
ask = ForgetRequest.for_class


def test_a_client_that_nobody_knows_is_refused_in_sight() -> None:
    scenario = scenario_of("ci", {}, clients={"a": ["0", "1"], "b": ["6"]})
    strategy, plugin, _ = plugged(made(Naive))
    plugin.submit(ForgetRequest.for_client("c", id="whole"))
    plugin.submit(ForgetRequest.for_samples("c", count=1, id="some"))
    strategy.train(scenario.train_stream[0])
    assert [request.id for request, _ in plugin.refused] == ["whole", "some"]
    assert all("client c, who is unknown" in str(error) for _, error in plugin.refused)
    assert plugin.waiting == ()


def test_a_number_of_samples_of_a_class_waits_for_the_class() -> None:
    strategy, plugin, _ = plugged(made(Naive))
    plugin.submit(ForgetRequest.for_samples("me", count=2, of_class=3, id="threes"))
    benchmark = made_benchmark("ci", named=False)
    strategy.train(benchmark.train_stream[0])
    assert ([each.id for each in plugin.waiting], plugin.refused) == (["threes"], [])
    strategy.train(benchmark.train_stream[1])
    assert len(plugin.forgotten) == 2 and all(int(name) % 6 == 3 for name in plugin.forgotten)


def test_requests_after_one_that_raises_still_wait() -> None:
    strategy, plugin, _ = plugged(made(Naive), strict=True)
    for label in (9, 0, 1):
        plugin.submit(ask(label, id=f"class {label}"))
    benchmark = new_instances()
    with pytest.raises(InvalidRequestError, match="class 9"):
        strategy.train(benchmark.train_stream[0])
    assert [each.id for each in plugin.waiting] == ["class 0", "class 1"]
    plugin.submit(ask(2, id="class 2"))
    strategy.train(benchmark.train_stream[1])
    assert [outcome.request.id for outcome in plugin.outcomes] == ["class 0", "class 1", "class 2"]


def test_an_id_stays_taken_when_the_benchmark_is_made_anew_and_no_made_id_takes_it() -> None:
    strategy, plugin, _ = plugged(made(Naive))
    strategy.train(new_instances().train_stream[0])
    strategy.unlearn(ask(0, id="one"))
    strategy.train(new_instances().train_stream[1])
    with pytest.raises(InvalidRequestError, match="'one' was given before"):
        plugin.submit(ask(1, id="one"))
    plugin.submit(ask(1, id="submitted-1"), after=3)
    assert plugin.submit(ask(2), after=3) == "submitted-2"


def test_samples_of_a_request_that_broke_off_may_be_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    strategy, plugin, _ = plugged(made(Naive))
    strategy.train(made_benchmark("ci", named=False).train_stream[0])
    with monkeypatch.context() as patched, pytest.raises(OSError):
        patched.setattr(plugin._service.unlearning, "serve", lambda *_, **__: (_ for _ in ()).throw(OSError))
        strategy.unlearn(ForgetRequest.for_samples("me", ["0"]))
    assert strategy.unlearn(ForgetRequest.for_samples("me", ["0"])).committed


def test_after_a_train_call_that_raised_for_a_request_others_are_served_at_once() -> None:
    scenario = scenario_of("ni", {1: CLASS_0})
    strategy, plugin, _ = plugged(made(Naive), gate=CLOSED_GATE, strict=True)
    strategy.train(scenario.train_stream[0])
    with pytest.raises(RequestFailedError, match="not accepted"):
        strategy.train(scenario.forget_stream[0])
    with pytest.raises(RequestFailedError, match="not accepted"):
        strategy.unlearn(CLASS_0)
    assert len(plugin.outcomes) == 2


# ---------------------------------------------------------------------- a commit that breaks off


class Forgetful(SupervisedPlugin):
    """A plug-in whose own method ``forget`` breaks off until it is mended."""

    mended = False

    def forget(self, strategy: Any, sample_ids: frozenset[str]) -> None:
        if not self.mended:
            raise OSError("no disk")


def adam_for(strategy: Any, amsgrad: bool) -> None:
    strategy.optimizer = torch.optim.Adagrad(strategy.model.parameters(), lr=0.01)
    if amsgrad:
        strategy.optimizer = torch.optim.Adam(strategy.model.parameters(), lr=0.01, amsgrad=True)


@pytest.mark.parametrize("amsgrad", [False, True])
def test_nothing_is_committed_if_a_plug_in_cannot_forget(amsgrad: bool) -> None:
    strategy, plugin, _ = plugged(made(Naive))
    forgetful, ewc = Forgetful(), EWCPlugin(0.1)
    strategy.plugins[1:1] = [ewc, forgetful]
    adam_for(strategy, amsgrad)
    benchmark = new_instances()
    strategy.train(benchmark.train_stream[0])
    weights, optimizer = state_of(strategy.model), copy.deepcopy(strategy.optimizer.state_dict())
    anchors = copy.deepcopy(ewc.saved_params)
    sizes = list(plugin._history.sizes)
    with pytest.raises(OSError, match="no disk"):
        strategy.unlearn(CLASS_0)
    assert state_of(strategy.model) == weights
    assert str(strategy.optimizer.state_dict()) == str(optimizer)
    assert all(
        torch.equal(held.data, ewc.saved_params[place][name].data)
        for place, each in anchors.items()
        for name, held in each.items()
    )
    assert plugin._service.unlearning.forgotten_classes == frozenset()
    assert (plugin.outcomes, plugin._history.sizes) == ([], sizes)
    forgetful.mended = True
    assert strategy.unlearn(CLASS_0).committed
    assert plugin._service.unlearning.forgotten_classes == {0}
    assert state_of(strategy.model) != weights and plugin._history.sizes == [15]


def test_a_commit_is_recorded_although_a_warning_raises() -> None:
    strategy, plugin, _ = plugged(made(Naive))
    strategy.train(new_instances().train_stream[0])
    with warnings.catch_warnings(), pytest.raises(UserWarning, match="the gate judges by samples"):
        warnings.simplefilter("error")
        strategy.unlearn(CLASS_0)
    assert [outcome.committed for outcome in plugin.outcomes] == [True]
    with pytest.raises(InvalidRequestError, match="nothing to forget"):
        strategy.unlearn(CLASS_0)


# ---------------------------------------------------------------------- samples that cannot be read


def stream_with_a_bright_experience() -> Any:
    """Twelve samples of values up to 5.5, which are no pixels in [0, 1], and then 24 usual ones."""
    images = 5 * torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(0)) + 0.5
    samples = TensorDataset(images, torch.arange(12) % 6)
    samples.targets = (torch.arange(12) % 6).tolist()
    bright = with_sample_ids(as_classification_dataset(samples), [f"bright {index}" for index in range(12)])
    return benchmark_from_datasets(train=[bright, made_dataset(24)], test=[made_dataset(12, 60, "test:")])


@pytest.mark.parametrize("retain", ["seen", "memory", "given"])
def test_retained_and_held_out_samples_are_looked_at_before_anything_is_changed(retain: str) -> None:
    options: dict[str, Any] = {"retain": retain}
    if retain == "given":
        options = {"retain": made_dataset(24), "validation": 0.3}
    strategy, plugin, _ = plugged(made(Replay, mem_size=12), **options)
    benchmark = stream_with_a_bright_experience()
    strategy.train(benchmark.train_stream)
    held = {name for dataset in buffered(strategy) for name in sample_ids(dataset)}
    with pytest.raises(InvalidDataError):
        strategy.unlearn(ForgetRequest.for_samples("me", ["0", "6", "12", "18"]))
    assert plugin.forgotten == frozenset() and plugin._history.asked == []
    assert {name for dataset in buffered(strategy) for name in sample_ids(dataset)} == held


# ---------------------------------------------------------------------- a train call that breaks off while it hides


class Evaluated(SupervisedPlugin):
    """Counts the evaluations that it is told of."""

    told = 0

    def before_eval(self, strategy: Any, **kwargs: Any) -> None:
        self.told += 1


def broken_off(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any, Evaluated, list[Any]]:
    """A strategy whose ``train`` call broke off while a forget experience was hidden, and that adapts by itself."""
    scenario = scenario_of("ni", {1: CLASS_0})
    strategy, _, _ = plugged(made(Naive))
    evaluated, adapted = Evaluated(), list[Any]()
    strategy.plugins.append(evaluated)
    adapt = strategy.model_adaptation

    def own_adaptation(model: nn.Module | None = None) -> nn.Module:
        adapted.append(model)
        return adapt(model)

    strategy.model_adaptation = own_adaptation
    strategy.train(scenario.train_stream[0])
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(strategy, "make_optimizer", lambda **_: (_ for _ in ()).throw(KeyboardInterrupt))
        strategy.train(scenario.forget_stream[0])
    adapted.clear()
    return strategy, scenario, evaluated, adapted


def test_an_evaluation_after_a_call_that_broke_off_has_all_plug_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    strategy, scenario, evaluated, adapted = broken_off(monkeypatch)
    strategy.eval(scenario.test_stream)
    assert evaluated.told == 1 and evaluated in strategy.plugins and strategy.evaluator in strategy.plugins
    assert adapted, "the strategy's own adaptation is back"


def test_a_call_after_one_that_broke_off_trains_all_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    strategy, scenario, _, adapted = broken_off(monkeypatch)
    before = strategy.clock.train_iterations
    strategy.train(scenario.train_stream[1])
    assert strategy.clock.train_iterations > before and adapted
    strategy.train(scenario.forget_stream[0])
    assert "model_adaptation" in vars(strategy), "it is kept after an experience that was hidden"


# ---------------------------------------------------------------------- the method of the strategy


def test_another_plug_in_in_its_place_gives_the_strategy_its_own_method() -> None:
    strategy, old, _ = plugged(made(Naive))
    strategy.train(new_instances().train_stream[0])
    new = type(old)()
    strategy.plugins[strategy.plugins.index(old)] = new
    strategy.train(new_instances().train_stream[1])
    assert strategy.unlearn.func.__self__ is new


def test_a_method_of_the_strategys_own_stays() -> None:
    strategy, _, _ = plugged(made(Naive))
    strategy.unlearn = own = lambda asked: asked
    strategy.train(new_instances().train_stream[0])
    assert strategy.unlearn is own
