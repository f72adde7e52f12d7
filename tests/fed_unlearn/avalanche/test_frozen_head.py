"""Sums that training experiences add and forget experiences take away: any order ends with the retrained head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.training.plugins import EvaluationPlugin, ReplayPlugin
from digit_strategies import digit_benchmark
from digit_stream import CLASSES, DRAWN, TRAIN, digits, stream
from torch import nn
from trained_digits import state_bytes

from fed_unlearn.avalanche import FrozenHead, UnlearningPlugin, forget_benchmark, forget_metrics, interleave
from fed_unlearn.avalanche.compat.support import UnsupportedStrategyError
from fed_unlearn.data.images import ImageSet
from fed_unlearn.errors import InvalidModelError, InvalidParameterError
from fed_unlearn.methods import create
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.seeding import isolated_random

IDS = {
    label: [name for name, own in zip(TRAIN.ids, TRAIN.labels.tolist(), strict=True) if own == label]
    for label in range(6)
}
REQUESTS = {
    1: [ForgetRequest.for_samples("b", IDS[0][:3], id="three")],
    2: [ForgetRequest.for_class(1, id="ones"), ForgetRequest.for_client("a", id="client")],
    3: [ForgetRequest.for_class(4, id="fours"), ForgetRequest.for_samples("b", DRAWN, id="drawn")],
}
LEAVING = [*IDS[0][5:9], *IDS[2][5:9], *IDS[5][:4]]
CLIENTS = {"a": LEAVING, "b": [name for name in TRAIN.ids if name not in LEAVING]}


def network(classes: int = CLASSES) -> nn.Sequential:
    """With dropout and BatchNorm, neither of which may change anything."""
    with isolated_random(3):
        return nn.Sequential(
            nn.Flatten(), nn.Linear(64, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Dropout(0.5), nn.Linear(24, classes)
        )


def strategy_of(model: nn.Module, *metrics: Any, **settings: Any) -> FrozenHead:
    return FrozenHead(model=model, evaluator=EvaluationPlugin(*metrics), **settings)


def retrained(left: Sequence[str]) -> nn.Module:
    """The head over some samples, solved at once by the method."""
    return create("frozen-head").unlearn(network(), TRAIN.only(DRAWN), TRAIN.only(list(left))).model


def left_of(forgotten: Sequence[str], classes: Sequence[int] = ()) -> list[str]:
    labels = zip(TRAIN.ids, TRAIN.labels.tolist(), strict=True)
    return [name for name, label in labels if name not in forgotten and label not in classes]


LEFT = left_of([*IDS[0][:3], *LEAVING, *DRAWN], classes=[1, 4])


def relative(found: nn.Module, expected: nn.Module) -> float:
    first, second = (
        torch.cat([value.flatten().double() for value in each[-1].parameters()]) for each in (found, expected)
    )
    return float((first - second).norm() / second.norm())


@pytest.mark.parametrize("order", range(4))
def test_any_order_of_additions_and_deletions_is_the_retrained_head(order: int, seeded: None) -> None:
    benchmark = stream(REQUESTS, clients=CLIENTS)
    experiences = list(interleave(benchmark))
    if order:
        shuffled = np.random.default_rng(order).permutation(len(experiences)).tolist()
        experiences = [experiences[place] for place in shuffled]
    strategy = strategy_of(network())
    for experience in experiences:
        strategy.train(experience)
    expected = retrained(LEFT)
    assert relative(strategy.model, expected) <= 1e-9
    assert state_bytes(strategy.model) == state_bytes(expected)
    assert strategy.statistics is not None and strategy.statistics.count == len(LEFT)


def test_every_state_on_the_way_is_the_retrained_head(seeded: None) -> None:
    benchmark = stream(REQUESTS, clients=CLIENTS)
    strategy = strategy_of(network())
    for experience in interleave(benchmark):
        strategy.train(experience)
        arrived = range(2 * strategy.clock.train_exp_counter)
        left = [name for label in arrived for name in IDS[label] if name not in strategy.forgotten]
        assert state_bytes(strategy.model) == state_bytes(retrained(left))
    assert strategy.clock.train_exp_counter == 3, "the clock counts no request"


def test_an_experience_that_comes_again_counts_once_and_forgotten_samples_stay_away(seeded: None) -> None:
    benchmark = stream({1: [ForgetRequest.for_class(1, id="ones")]})
    strategy = strategy_of(network())
    first, ones = benchmark.train_stream[0], benchmark.forget_stream[0]
    for experience in (first, ones, first, ones, first):
        strategy.train(experience)
    assert state_bytes(strategy.model) == state_bytes(retrained(IDS[0]))


def test_a_class_of_one_task_is_taken_away_and_left_out_when_it_comes_again(seeded: None) -> None:
    benchmark = forget_benchmark(digit_benchmark("nc", task_labels=True), {1: ForgetRequest.for_class((0, 1))})
    strategy = strategy_of(network())
    first, ones = benchmark.train_stream[0], benchmark.forget_stream[0]
    strategy.train(first)
    for experience in (ones, first):
        strategy.train(experience)
        assert state_bytes(strategy.model) == state_bytes(retrained(IDS[0]))


def test_a_request_for_all_that_was_met_leaves_no_answer(seeded: None) -> None:
    benchmark = stream({2: [ForgetRequest.for_class(2, id="twos"), ForgetRequest.for_class(3, id="threes")]})
    strategy = strategy_of(network())
    strategy.train([benchmark.train_stream[1], *benchmark.forget_stream])
    assert not strategy.model[-1].weight.any() and not strategy.model[-1].bias.any()
    strategy.train([benchmark.train_stream[1], benchmark.train_stream[0]])
    assert state_bytes(strategy.model) == state_bytes(retrained([*IDS[0], *IDS[1]]))


def test_metrics_are_those_of_the_solved_model_and_of_forgetting(seeded: None) -> None:
    benchmark = stream({2: [ForgetRequest.for_class(1, id="ones")]})
    strategy = strategy_of(network(), accuracy_metrics(epoch=True, stream=True), forget_metrics())
    for experience in interleave(benchmark):
        strategy.train(experience)
    metrics = strategy.evaluator.get_last_metrics()
    images = ImageSet(*digits()[0].of_classes({4, 5}).batch())
    with torch.no_grad():
        hits = strategy.model.eval()(images.batch()[0]).argmax(1) == images.labels
    assert metrics["Top1_Acc_Epoch/train_phase/train_stream"] == pytest.approx(float(hits.float().mean()))
    assert metrics["Forget_Acc_Exp/eval_phase/forget_stream/Exp000"] == 0.0
    assert strategy.eval(benchmark.test_stream)["Top1_Acc_Stream/eval_phase/test_stream"] > 0.6


def test_a_backbone_that_changed_and_a_class_without_an_output_are_refused(seeded: None) -> None:
    benchmark = stream({1: [ForgetRequest.for_class(1, id="ones")]})
    strategy = strategy_of(network())
    strategy.train(benchmark.train_stream[0])
    with torch.no_grad():
        strategy.model[1].weight[0, 0] += 1
    with pytest.raises(InvalidModelError, match=r"the layers below '5' have changed since samples were read"):
        strategy.train(benchmark.forget_stream[0])
    with torch.no_grad():
        strategy.model[1].weight[0, 0] -= 1
    with pytest.raises(InvalidModelError, match="a sample of class 3 was given, and the model has 2 outputs"):
        strategy_of(network(2)).train(benchmark.train_stream[1])


def test_plugins_that_have_nothing_to_do_here_are_refused() -> None:
    with pytest.raises(UnsupportedStrategyError, match="serves forget experiences by itself"):
        strategy_of(network(), plugins=[UnlearningPlugin()])
    with pytest.raises(UnsupportedStrategyError, match="of which ReplayPlugin can change nothing"):
        strategy_of(network(), plugins=[ReplayPlugin(10)])
    with pytest.raises(InvalidParameterError, match="frozen-head: ridge"):
        strategy_of(network(), ridge=0.0)
