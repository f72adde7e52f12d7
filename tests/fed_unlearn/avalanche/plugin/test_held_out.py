"""A share of the training samples is held out for the gate, and the gate says what it judged by."""

from __future__ import annotations

import copy
import logging
import warnings
from collections import Counter
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from avalanche.benchmarks import benchmark_from_datasets, split_online_stream
from avalanche.training import Cumulative, Naive, Replay
from avalanche.training.plugins import SupervisedPlugin
from digit_strategies import SERVED, digit_benchmark
from plugged_strategies import plugged, scenario_of
from watched_strategies import made, made_benchmark, made_dataset, watched_model

from fed_unlearn.avalanche.plugin import UnlearningPlugin
from fed_unlearn.avalanche.plugin.held_out import HeldOut
from fed_unlearn.avalanche.plugin.memory.buffers import buffered
from fed_unlearn.avalanche.streams import forget_benchmark
from fed_unlearn.avalanche.streams.order import interleave
from fed_unlearn.avalanche.streams.samples import sample_ids
from fed_unlearn.errors import InvalidParameterError, InvalidRequestError
from fed_unlearn.requests import ForgetRequest

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("seeded")]
FIRST = ForgetRequest.for_class(0, id="zeros")


def by_class(ids: Any) -> dict[int, int]:
    return dict(Counter(int(name) % 6 for name in ids))


# ---------------------------------------------------------------------- the choice


@pytest.mark.parametrize(("share", "of_each"), [(0.1, 1), (0.25, 3), (0.5, 5), (0.04, 0)])
def test_the_share_of_each_class_is_held_out(share: float, of_each: int) -> None:
    held = HeldOut(share, seed=1)
    held.meet(made_dataset())  # ten samples of each class
    assert by_class(held.ids) == (dict.fromkeys(range(6), of_each) if of_each else {})


def test_seed_and_ids_make_the_choice() -> None:
    held, again, other = HeldOut(0.3, seed=1), HeldOut(0.3, seed=1), HeldOut(0.3, seed=2)
    held.meet(made_dataset())
    again.meet(made_dataset().subset(list(reversed(range(60)))))
    other.meet(made_dataset())
    assert held.ids == again.ids != other.ids


def test_the_same_samples_are_held_out_when_they_come_again_whole_or_in_parts() -> None:
    dataset = made_dataset()
    held = HeldOut(0.2)
    for start in range(0, 60, 4):
        held.meet(dataset.subset(list(range(start, start + 4))))
    ids = held.ids
    assert by_class(ids) == dict.fromkeys(range(6), 2)
    held.meet(dataset)
    for start in range(0, 60, 7):
        held.meet(dataset.subset(list(range(start, min(start + 7, 60)))))
    assert held.ids == ids
    assert copy.deepcopy(held).ids == ids


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_one_sample_of_a_class_at_least_is_trained_on(count: int) -> None:
    held = HeldOut(0.5)
    held.meet(made_dataset().subset([6 * row for row in range(count)]))
    assert len(held.ids) == min(int(count / 2 + 0.5), count - 1)


def test_forgotten_samples_are_neither_held_out_nor_counted() -> None:
    held = HeldOut(0.5)
    held.meet(made_dataset().subset([0, 6, 12, 18]), {"0", "6"})
    assert len(held.ids) == 1 and held.ids < {"12", "18"}
    nothing = HeldOut()
    nothing.meet(made_dataset())
    assert nothing.ids == frozenset()


@pytest.mark.parametrize("share", [0.0, 0.6, -0.1, float("nan")])
def test_another_share_is_refused(share: float) -> None:
    with pytest.raises(InvalidParameterError, match=r"expected a share of the training samples in \(0, 0.5\]"):
        UnlearningPlugin(validation=share)


@pytest.mark.parametrize("given", [1, True, "0.1"])
def test_what_is_no_share_is_refused(given: Any) -> None:
    with pytest.raises(InvalidParameterError, match="validation"):
        UnlearningPlugin(validation=given)


@pytest.mark.parametrize("share", [np.float64(0.25), np.float32(0.25), Fraction(1, 4)])
def test_any_real_number_is_a_share(share: Any) -> None:
    strategy, plugin, _ = plugged(made(Naive), validation=share)
    strategy.train(made_benchmark("ci").train_stream[0])
    assert len(plugin._history.held_out.ids) == 6  # of ten samples of two classes


# ---------------------------------------------------------------------- in a strategy


@pytest.mark.parametrize("kind", ["ci", "nc", "ni"])
@pytest.mark.parametrize("build", [Naive, Cumulative, lambda **given: Replay(mem_size=18, **given)])
def test_the_strategy_never_trains_on_them_and_the_gate_judges_by_them(
    kind: str, build: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = scenario_of(kind, {2: FIRST})
    model = watched_model()
    strategy, plugin, _ = plugged(made(build, model), validation=0.2)
    served: list[Any] = []
    serve = plugin._service.unlearning.serve
    monkeypatch.setattr(
        plugin._service.unlearning, "serve", lambda *given, **rest: served.append(given[2]) or serve(*given, **rest)
    )
    model.trained_on.clear()
    for experience in scenario.train_stream[:2]:
        strategy.train(experience)
    held = plugin._history.held_out.ids
    arrived = {name for experience in scenario.train_stream[:2] for name in sample_ids(experience.dataset)}
    assert model.trained_on == {int(name) for name in arrived - held}
    assert 0 < len(held) <= 0.3 * len(arrived)
    strategy.train(scenario.forget_stream[0])
    [samples] = served
    left = {name for name in held if int(name) % 6}
    assert set(samples.validation.ids) == left != held
    assert not set(samples.retained.ids) & held
    assert plugin.outcomes[0].judged_by == "validation"
    again = set(model.trained_on)
    strategy.train(scenario.train_stream[0])  # the same samples are held out when an experience comes again
    assert not {str(index) for index in model.trained_on - again} & held


class Replayed(SupervisedPlugin):
    """Notes the ids of all that is stored while a strategy trains."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        self.ids.update(name for dataset in buffered(strategy) for name in sample_ids(dataset))


@pytest.mark.parametrize("kind", ["er-ace", "er-aml"])
def test_strategies_that_store_an_experience_before_it_is_met_store_no_held_out_sample(kind: str) -> None:
    strategy, plugin, replayed = SERVED[kind](), UnlearningPlugin(validation=0.2), Replayed()
    strategy.plugins += [plugin, replayed]
    strategy.train(digit_benchmark("nc").train_stream[:2])
    held = plugin._history.held_out.ids
    assert held and replayed.ids and not held & replayed.ids


def test_online_parts_of_which_all_is_held_out_are_skipped() -> None:
    model = watched_model()
    strategy, plugin, _ = plugged(made(Replay, model, mem_size=18), validation=0.5)
    [experience, *_] = made_benchmark("ci").train_stream
    strategy.train(split_online_stream([experience], 1, seed=1))
    held = {int(name) for name in plugin._history.held_out.ids}
    assert len(held) == 10 and model.trained_on == {int(name) for name in sample_ids(experience.dataset)} - held
    assert strategy.clock.train_exp_counter == 20


def test_retained_samples_of_the_user_lose_what_is_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = scenario_of("ci", {1: FIRST})
    strategy, plugin, _ = plugged(made(Naive), validation=0.3, retain=made_dataset())
    strategy.train(scenario.train_stream[0])
    samples = plugin._service.samples.read(
        strategy, scenario.forget_stream[0], plugin._history, plugin._history.views()
    )
    held = plugin._history.held_out.ids
    assert len(held) == 6 and not held & set(samples.retained.ids) and set(samples.validation.ids) == held


def test_a_share_comes_before_the_valid_stream_of_the_benchmark() -> None:
    scenario = forget_benchmark(
        benchmark_from_datasets(
            train=[made_dataset()], test=[made_dataset(12, 60, "test:")], valid=[made_dataset(12, 72, "valid:")]
        ),
        {1: FIRST},
    )
    for share, prefix in ((0.3, ""), (None, "valid:")):
        strategy, plugin, _ = plugged(made(Naive), validation=share)
        strategy.train(scenario.train_stream[0])
        samples = plugin._service.samples.read(
            strategy, scenario.forget_stream[0], plugin._history, plugin._history.views()
        )
        assert len(samples.validation) and all(
            name.removeprefix(prefix).isdigit() and name.startswith(prefix) for name in samples.validation.ids
        )


def test_a_plug_in_without_a_share_leaves_training_as_it_is() -> None:
    weights = []
    for options in ({}, {"validation": None}):
        torch.manual_seed(0)
        strategy, _, _ = plugged(made(Naive), **options)
        strategy.train(scenario_of("ci", {}).train_stream)
        weights.append(strategy.model.state_dict())
    assert all(torch.equal(one, other) for one, other in zip(weights[0].values(), weights[1].values(), strict=True))


def test_held_out_samples_that_a_request_names_are_not_unlearned(monkeypatch: pytest.MonkeyPatch) -> None:
    strategy, plugin, _ = plugged(made(Naive), validation=0.3)
    strategy.train(made_benchmark("ci").train_stream[0])
    held = plugin._history.held_out.ids
    served: list[Any] = []
    serve = plugin._service.unlearning.serve
    monkeypatch.setattr(
        plugin._service.unlearning, "serve", lambda *given, **rest: served.append(given[2]) or serve(*given, **rest)
    )
    [kept, *more] = sorted(held)
    trained = sorted({str(6 * row) for row in range(10)} - held)[:2]
    assert strategy.unlearn(ForgetRequest.for_samples("me", [kept, *trained])).committed
    assert sorted(served[0].forget.ids) == trained and set(served[0].validation.ids) == set(more)
    assert plugin.forgotten == {kept, *trained}
    forgotten = plugin.forgotten
    with pytest.raises(InvalidRequestError, match=r"has nothing to unlearn: all of its 2 samples are held out"):
        strategy.unlearn(ForgetRequest.for_samples("me", more[:2], id="held"))
    assert plugin.forgotten == forgotten and len(plugin.outcomes) == 1
    assert strategy.unlearn(ForgetRequest.for_samples("me", [more[0], _other(held, trained)])).committed


def _other(held: Any, trained: list[str]) -> str:
    return next(str(6 * row) for row in range(10) if str(6 * row) not in held and str(6 * row) not in trained)


# ---------------------------------------------------------------------- what the gate says


@pytest.mark.parametrize(("share", "judged_by"), [(None, "training"), (0.2, "validation")])
def test_each_request_says_what_it_was_judged_by_and_training_samples_are_warned_of_once(
    share: float | None, judged_by: str, caplog: pytest.LogCaptureFixture
) -> None:
    scenario = scenario_of("ci", {1: FIRST, 2: ForgetRequest.for_class(2, id="twos")})
    strategy, plugin, _ = plugged(made(Naive), validation=share)
    with warnings.catch_warnings(record=True) as caught, caplog.at_level(logging.INFO, "fed_unlearn.avalanche"):
        warnings.simplefilter("always")
        for experience in interleave(scenario):
            strategy.train(experience)
    assert [outcome.judged_by for outcome in plugin.outcomes] == [judged_by] * 2
    lines = [text for text in caplog.messages if "judged by" in text]
    assert [text.split()[1] for text in lines] == ["zeros:", "twos:"]
    assert all(f"{judged_by} samples" in text for text in lines)
    told = [str(item.message) for item in caught if "the gate judges by samples" in str(item.message)]
    assert len(told) == (share is None)
    assert all("validation=0.1" in text for text in told)
