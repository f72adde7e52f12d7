import copy
from typing import Any

import pytest
import torch
from avalanche.training import Naive
from avalanche.training.losses import MaskedCrossEntropy
from avalanche.training.plugins import (
    EvaluationPlugin,
    EWCPlugin,
    LwFPlugin,
    MASPlugin,
    SynapticIntelligencePlugin,
)
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from unlearned_strategies import (
    FORGOTTEN,
    TRAINED,
    assert_close,
    copied,
    no_larger,
    penalty_gradient,
    plugin_of,
    retained,
    trained,
    unlearn,
    weights_of,
)
from watched_strategies import OTHERS, OTHERS_WITH_TASKS, REPLAYING, made, made_benchmark, naive_with, watched_model

from fed_unlearn.avalanche.compat import mend_synaptic_intelligence
from fed_unlearn.avalanche.plugin.regularisers import keep_consistent, note_skipped
from fed_unlearn.errors import InvalidParameterError

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("seeded")]


def batches(dataset: Any) -> list[tuple[Tensor, Tensor]]:
    """The data set in its order, eight at a time: what the strategies here have as batches."""
    items = [dataset[index] for index in range(len(dataset))]
    pairs = [
        (torch.stack([item[0] for item in part]), torch.tensor([int(item[1]) for item in part]))
        for part in (items[start : start + 8] for start in range(0, len(items), 8))
    ]
    return pairs


def squared_gradients(model: nn.Module, dataset: Any) -> dict[str, Tensor]:
    """Fisher importances as EWC has them: squared gradients of the mean loss of a batch, averaged over batches."""
    parameters = dict(model.named_parameters())
    parts = []
    for images, labels in batches(dataset):
        loss = cross_entropy(model(images), labels)
        parts.append([gradient.square() for gradient in torch.autograd.grad(loss, list(parameters.values()))])
    return {
        name: torch.stack(values).mean(0) for name, values in zip(parameters, zip(*parts, strict=True), strict=True)
    }


def output_sensitivities(model: nn.Module, dataset: Any) -> dict[str, Tensor]:
    """MAS: absolute gradients of the mean squared norm of the outputs, averaged over batches."""
    parameters = dict(model.named_parameters())
    parts = []
    for images, _ in batches(dataset):
        norm = model(images).square().sum(1).mean()
        parts.append([gradient.abs() for gradient in torch.autograd.grad(norm, list(parameters.values()))])
    return {
        name: torch.stack(values).mean(0) for name, values in zip(parameters, zip(*parts, strict=True), strict=True)
    }


def test_ewc_has_importances_of_what_is_left_and_holds_the_model_at_the_unlearned_weights() -> None:
    strategy = OTHERS["ewc"]()
    seen, _ = trained(strategy)
    plugin = plugin_of(strategy, EWCPlugin)
    own, other = copied(plugin.importances[0]), copied(plugin.importances[1])
    weights = unlearn(strategy)
    before = penalty_gradient(strategy, plugin, 0.0)
    assert max(float(gradient.abs().max()) for gradient in before.values()) > 0, "it pulls back to the old weights"

    keep_consistent(strategy, FORGOTTEN, seen, TRAINED[:2])
    fisher = no_larger(squared_gradients(strategy.model, seen[0].dataset), own)
    assert_close(plugin.importances[0], fisher)
    assert_close(plugin.importances[1], other, rtol=0, atol=0)
    for anchors in (plugin.saved_params[0], plugin.saved_params[1]):
        assert_close(anchors, weights, rtol=0, atol=0)
    assert all(not gradient.any() for gradient in penalty_gradient(strategy, plugin, 0.0).values())
    # d/dw of sum_k F_k (w - a)^2, at a + 0.01, with a penalty of weight 1.
    expected = {name: 2 * (fisher[name] + other[name]) * 0.01 for name in fisher}
    assert_close(penalty_gradient(strategy, plugin, 0.01), expected, rtol=1e-3, atol=1e-7)


def test_ewc_is_renewed_with_the_classes_that_its_criterion_saw_then() -> None:
    criterion = MaskedCrossEntropy(mask="new")
    model = watched_model()
    strategy = Naive(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        criterion=criterion,
        train_mb_size=8,
        plugins=[EWCPlugin(1.0)],
        evaluator=EvaluationPlugin(loggers=[]),
    )
    seen, rest = trained(strategy)
    plugin = plugin_of(strategy, EWCPlugin)
    unlearn(strategy)
    before = copied(plugin.importances[0])
    keep_consistent(strategy, FORGOTTEN, seen, TRAINED[:2])
    # Class 0 is forgotten, so that class 1 is left of the first experience. Its criterion had a softmax over both.
    parameters = dict(strategy.model.named_parameters())
    parts = []
    for images, labels in batches(seen[0].dataset):
        loss = cross_entropy(strategy.model(images)[:, [0, 1]], labels)
        parts.append(torch.autograd.grad(loss, list(parameters.values())))
    expected = {
        name: torch.stack([part.square() for part in values]).mean(0)
        for name, values in zip(parameters, zip(*parts, strict=True), strict=True)
    }
    assert any(bool(value.any()) for value in expected.values())
    assert_close(plugin.importances[0], no_larger(expected, before))
    assert criterion.current_classes == {2, 3}
    assert criterion.old_classes == {0, 1}
    strategy.train(rest)
    assert criterion.current_classes == {4, 5}


@pytest.mark.parametrize("keep", [False, True])
def test_online_ewc_builds_its_decayed_sum_again(keep: bool) -> None:
    plugin = EWCPlugin(1.0, mode="online", decay_factor=0.25, keep_importance_data=keep)
    strategy = naive_with(plugin)
    seen, rest = trained(strategy, 3)
    before, weights = copied(plugin.importances[2]), unlearn(strategy)
    keep_consistent(strategy, FORGOTTEN, seen, TRAINED)
    parts = [squared_gradients(strategy.model, experience.dataset) for experience in seen]
    expected = {name: parts[0][name] / 16 + parts[1][name] / 4 + parts[2][name] for name in weights}
    assert list(plugin.importances) == ([0, 1, 2] if keep else [2])
    assert_close(plugin.importances[2], no_larger(expected, before))
    assert_close(plugin.saved_params[2], weights, rtol=0, atol=0)
    assert all(not gradient.any() for gradient in penalty_gradient(strategy, plugin, 0.0).values())
    assert not rest


@pytest.mark.parametrize("name", ["ewc", "ewc-online", "mas"])
@pytest.mark.parametrize("scale", [0.3, 10.0], ids=["smaller outputs", "larger outputs"])
def test_the_penalty_never_gets_stiffer(name: str, scale: float) -> None:
    strategy = OTHERS[name]()
    seen, _ = trained(strategy)

    def largest() -> float:
        plugin = strategy.plugins[0]
        found = plugin.importance if isinstance(plugin, MASPlugin) else plugin.importances[1]
        return max(float(value.data.max()) for value in found.values())

    before = largest()
    with torch.no_grad():
        for parameter in strategy.model.head.parameters():
            parameter.mul_(scale)
    keep_consistent(strategy, FORGOTTEN, seen, TRAINED[: len(seen)])
    assert 0 < largest() <= before * (1 + 1e-6)


def test_an_experience_with_nothing_left_has_no_importance() -> None:
    strategy = OTHERS["ewc"]()
    experiences = list(made_benchmark("ci").train_stream)[:2]
    strategy.train(experiences)
    forgotten = list(experiences[0].dataset.sample_id)
    keep_consistent(strategy, forgotten, [retained(experience, forgotten) for experience in experiences], [20, 20])
    plugin = plugin_of(strategy, EWCPlugin)
    assert all(not value.data.any() for value in plugin.importances[0].values())
    assert any(bool(value.data.any()) for value in plugin.importances[1].values())


@pytest.mark.parametrize("name", ["ewc", "ewc-online", "mas"])
def test_the_model_and_the_generators_are_as_before(name: str) -> None:
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 6)
    )
    strategy = made(Naive, model, plugins=[copy.copy(OTHERS[name]().plugins[0])])
    seen, _ = trained(strategy)
    model.train()
    model[2].eval()
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 2.0)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    drawn, experience = torch.get_rng_state(), strategy.experience
    keep_consistent(strategy, FORGOTTEN, seen, TRAINED[: len(seen)])
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert all(bool((parameter.grad == 2.0).all()) for parameter in model.parameters())
    assert strategy.experience is experience

    def importances() -> list[Tensor]:
        plugin = strategy.plugins[0]
        found = plugin.importance if isinstance(plugin, MASPlugin) else plugin.importances[1]
        return [value.data.clone() for value in found.values()]

    first = importances()
    torch.rand(3)
    keep_consistent(strategy, FORGOTTEN, seen, TRAINED[: len(seen)])
    assert all(torch.equal(new, old) for new, old in zip(importances(), first, strict=True)), "dropout is seeded"


def test_mas_builds_its_running_mean_again() -> None:
    strategy = naive_with(MASPlugin(lambda_reg=1.0, alpha=0.25))
    seen, _ = trained(strategy, 3)
    plugin = plugin_of(strategy, MASPlugin)
    before, weights = copied(plugin.importance), unlearn(strategy)
    keep_consistent(strategy, FORGOTTEN, seen, TRAINED)
    parts = [output_sensitivities(strategy.model, experience.dataset) for experience in seen]
    expected = {
        name: 0.25 * (0.25 * parts[0][name] + 0.75 * parts[1][name]) + 0.75 * parts[2][name] for name in weights
    }
    assert_close(plugin.importance, no_larger(expected, before))
    assert_close(plugin.params, weights, rtol=0, atol=0)


def test_synaptic_intelligence_keeps_the_share_of_its_samples() -> None:
    mend_synaptic_intelligence()
    strategy = made(Naive, plugins=[SynapticIntelligencePlugin(si_lambda=4.0)])
    seen, rest = trained(strategy)
    plugin = plugin_of(strategy, SynapticIntelligencePlugin)
    gathered = {name: value.data.clone() for name, value in plugin.syn_data["cum_trajectory"].items()}
    importances = {name: value.data.clone() for name, value in plugin.ewc_data[1].items()}
    assert all(bool(value.any()) for value in importances.values())
    weights = unlearn(strategy)
    keep_consistent(strategy, FORGOTTEN, seen, TRAINED[:2])
    # 30 of the 40 samples are left.
    assert_close(plugin.syn_data["cum_trajectory"], {name: 0.75 * value for name, value in gathered.items()})
    assert_close(plugin.ewc_data[1], {name: 0.75 * value for name, value in importances.items()})
    assert_close(plugin.ewc_data[0], {name: value.flatten() for name, value in weights.items()}, rtol=0, atol=0)
    assert all(not value.data.any() for value in plugin.syn_data["trajectory"].values())
    assert all(not gradient.any() for gradient in penalty_gradient(strategy, plugin, 0.0).values())
    # d/dw of 4 / 2 sum I (w - a)^2, at a + 0.01.
    expected = {name: 4 * 0.01 * 0.75 * importances[name].view_as(weights[name]) for name in weights}
    assert_close(penalty_gradient(strategy, plugin, 0.01), expected, rtol=1e-3, atol=1e-9)
    # The anchor is a copy: training does not move it.
    strategy.train(rest)
    unlearn(strategy)
    assert not torch.equal(plugin.ewc_data[0]["head.weight"].data, strategy.model.head.weight.detach().flatten())


def test_nothing_is_made_up_before_the_first_training() -> None:
    strategy = naive_with(EWCPlugin(1.0), MASPlugin(), LwFPlugin(), SynapticIntelligencePlugin(1.0))
    keep_consistent(strategy, FORGOTTEN, [], [])
    ewc, mas, lwf, synapses = strategy.plugins[:4]
    assert not ewc.importances
    assert not ewc.saved_params
    assert mas.importance is None
    assert lwf.lwf.prev_model is None
    assert not synapses.ewc_data[0]


@pytest.mark.parametrize("name", [*OTHERS, *OTHERS_WITH_TASKS, *REPLAYING])
def test_every_strategy_trains_on(name: str) -> None:
    strategy = {**OTHERS, **OTHERS_WITH_TASKS, **REPLAYING}[name]()
    seen, rest = trained(strategy)
    weights = unlearn(strategy)
    keep_consistent(strategy, FORGOTTEN, seen, TRAINED[:2])
    assert_close(weights_of(strategy.model), weights, rtol=0, atol=0)
    strategy.train(rest)
    assert strategy.clock.train_exp_counter == 3
    assert all(bool(parameter.isfinite().all()) for parameter in strategy.model.parameters())


@pytest.mark.parametrize("counts", [[20], [20, 20, 20], [9, 20]])
def test_counts_that_cannot_be_are_refused(counts: list[int]) -> None:
    strategy = OTHERS["ewc"]()
    seen, _ = trained(strategy)
    with pytest.raises(InvalidParameterError, match="expected one number for each experience"):
        keep_consistent(strategy, FORGOTTEN, seen, counts)


@pytest.mark.parametrize("keep", [False, True])
def test_online_ewc_remembers_over_a_skipped_experience(keep: bool) -> None:
    plugin = EWCPlugin(1.0, mode="online", decay_factor=0.5, keep_importance_data=keep)
    strategy = naive_with(plugin)
    first, _, third = made_benchmark("nc").train_stream
    strategy.train(first)
    known = {name: value.data.clone() for name, value in plugin.importances[0].items()}
    note_skipped(strategy)
    strategy.clock.train_exp_counter += 1
    gradients = penalty_gradient(strategy, plugin, 0.01)
    assert_close(gradients, {name: 2 * 0.01 * value for name, value in known.items()}, rtol=1e-3, atol=1e-7)
    strategy.train(third)
    fresh = squared_gradients(strategy.model, third.dataset)
    assert_close(plugin.importances[2], {name: 0.5 * known[name] + fresh[name] for name in known})


@pytest.mark.parametrize("name", ["ewc", "ewc-online", "mas"])
def test_the_first_experience_may_be_skipped(name: str) -> None:
    strategy = OTHERS[name]()
    _, second, third = made_benchmark("nc").train_stream
    note_skipped(strategy)
    strategy.clock.train_exp_counter += 1
    plugin = strategy.plugins[0]
    assert all(not gradient.any() for gradient in penalty_gradient(strategy, plugin, 0.01).values())
    strategy.train([second, third])
    keep_consistent(strategy, FORGOTTEN, [retained(made_benchmark("nc").train_stream[0]), second, third], TRAINED)
    assert strategy.clock.train_exp_counter == 3
