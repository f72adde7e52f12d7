import warnings
from typing import Any

import pytest
import torch
from avalanche.models import SimpleMLP
from avalanche.training import Naive
from avalanche.training.plugins import (
    EarlyStoppingPlugin,
    FeatureDistillationPlugin,
    LFLPlugin,
    LwFPlugin,
    ReplayPlugin,
    SupervisedPlugin,
)
from torch import Tensor, nn
from unlearned_strategies import (
    FORGOTTEN,
    TRAINED,
    assert_close,
    plugin_of,
    trained,
    unlearn,
    weights_of,
)
from watched_strategies import OTHERS_WITH_TASKS, made, naive_with

from fed_unlearn.avalanche.plugin.regularisers import keep_consistent

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("seeded")]


def test_teachers_are_copies_of_the_unlearned_model() -> None:
    strategy = OTHERS_WITH_TASKS["lwf"]()
    seen, rest = trained(strategy)
    plugin = plugin_of(strategy, LwFPlugin)
    plugin.lwf.prev_model.eval()
    weights = unlearn(strategy)
    classes = {task: set(found) for task, found in plugin.lwf.prev_classes_by_task.items()}
    keep_consistent(strategy, FORGOTTEN, seen, TRAINED[:2])
    teacher = plugin.lwf.prev_model
    assert teacher is not strategy.model
    assert not teacher.training
    assert strategy.model.training
    assert plugin.lwf.prev_classes_by_task == classes
    strategy.train(rest)
    assert not torch.equal(strategy.model.head.weight, weights["head.weight"])
    assert_close(weights_of(teacher), weights, rtol=0, atol=0)


def test_lfl_has_a_frozen_teacher() -> None:
    model = SimpleMLP(num_classes=6, input_size=64, hidden_size=8)
    strategy = made(Naive, model, plugins=[LFLPlugin(0.1)])
    seen, rest = trained(strategy)
    weights = unlearn(strategy)
    keep_consistent(strategy, FORGOTTEN, seen, TRAINED[: len(seen)])
    teacher = plugin_of(strategy, LFLPlugin).prev_model
    assert_close(weights_of(teacher), weights, rtol=0, atol=0)
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert any(parameter.requires_grad for parameter in model.parameters())
    strategy.train(rest)


class Featured(nn.Module):
    """A model that keeps its features, as feature distillation wants it."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh()), nn.Linear(8, 6)
        self.features: Tensor | None = None

    def forward(self, images: Tensor) -> Tensor:
        self.features = self.body(images)
        return self.head(self.features)


def test_feature_distillation_has_the_unlearned_model_as_its_teacher() -> None:
    strategy = made(Naive, Featured(), plugins=[FeatureDistillationPlugin(alpha=0.5)])
    seen, rest = trained(strategy)
    weights = unlearn(strategy)
    strategy.model(torch.rand(2, 1, 8, 8))
    keep_consistent(strategy, FORGOTTEN, seen, TRAINED[: len(seen)])
    teacher = plugin_of(strategy, FeatureDistillationPlugin).prev_model
    assert_close(weights_of(teacher), weights, rtol=0, atol=0)
    strategy.train(rest)
    assert_close(weights_of(teacher), weights, rtol=0, atol=0)


def test_early_stopping_drops_its_weights() -> None:
    plugin = EarlyStoppingPlugin(1, "train_stream")
    plugin.best_state, plugin.best_val, plugin.best_step = {"weights": torch.ones(1)}, 0.5, 3
    keep_consistent(naive_with(plugin), FORGOTTEN, [], [])
    assert (plugin.best_state, plugin.best_val, plugin.best_step) == (None, None, None)


class Minding(SupervisedPlugin):
    def __init__(self) -> None:
        super().__init__()
        self.told: list[Any] = []

    def forget(self, strategy: Any, sample_ids: frozenset[str]) -> None:
        self.told.append((strategy, sample_ids))


class Careless(SupervisedPlugin):
    pass


class MindingTeacher(LwFPlugin, Minding):
    pass


class OwnReplay(ReplayPlugin):
    pass


def test_a_plug_in_of_a_users_sees_to_itself() -> None:
    plugin, teacher = Minding(), MindingTeacher()
    teacher.told, teacher.lwf.prev_model = [], nn.Linear(1, 1)
    mine = teacher.lwf.prev_model
    strategy = naive_with(plugin, teacher)
    keep_consistent(strategy, ["1", "2"], [], [])
    assert plugin.told == teacher.told == [(strategy, frozenset({"1", "2"}))]
    assert teacher.lwf.prev_model is mine, "its own method replaces what is done for its kind"


def test_a_plug_in_that_cannot_is_named_once() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        keep_consistent(naive_with(Careless(), OwnReplay(), Minding()), ["1"], [], [])
        keep_consistent(naive_with(Careless(), Careless()), ["1"], [], [])
    texts = [str(warning.message) for warning in caught if "forget(strategy" in str(warning.message)]
    assert len(texts) == 1
    assert "Careless" in texts[0]
