from __future__ import annotations

import copy
import math
from typing import Literal

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from trained_digits import Digits, accuracy, fitted, state_bytes, untrained_network

from fed_unlearn.data.images import ImageSet, concatenate
from fed_unlearn.errors import InvalidDataError, InvalidModelError, InvalidParameterError, UnlearningDivergedError
from fed_unlearn.holder import UNGUARDED
from fed_unlearn.logits import confidence, logit_gaps, predict_logits
from fed_unlearn.methods import Outcome, create
from fed_unlearn.methods.base import Workspace
from fed_unlearn.methods.instance_wise import InstanceWise
from fed_unlearn.methods.instance_wise.anchors import BLEND_RANGE, MOST_IMAGES, AnchorPool, AnchorSettings, blend
from fed_unlearn.methods.parts.attacks import pgd
from fed_unlearn.methods.parts.sample_gradients import synaptic_importance
from fed_unlearn.pass_counter import PassCounter


def some(digits: Digits, count: int = 4) -> tuple[ImageSet, ImageSet]:
    """Samples to forget and the rest: every 300th one of the training set, of several classes."""
    train = concatenate(digits.retain, digits.forget)
    chosen = torch.arange(count) * 300 % len(train)
    rest = torch.ones(len(train), dtype=torch.bool)
    rest[chosen] = False
    return train.subset(chosen), train.subset(rest.nonzero().flatten())


def predicted(outcome: Outcome, samples: ImageSet) -> Tensor:
    return predict_logits(outcome.model, samples).argmax(dim=1)


def test_every_sample_is_misclassified_and_the_rest_stays(digits: Digits) -> None:
    forget, retain = some(digits)
    test = concatenate(digits.test_forget, digits.test_retain)
    before = accuracy(digits.trained, test)
    assert accuracy(digits.trained, forget) == 1
    outcome = InstanceWise().unlearn(digits.trained, forget, retain)
    assert outcome.converged
    assert accuracy(outcome.model, forget) == 0
    assert accuracy(outcome.model, test) > before - 0.03
    assert outcome.guard_labels is not None
    assert torch.equal(outcome.guard_labels, predicted(outcome, forget))


def test_it_works_without_retain_data(digits: Digits) -> None:
    forget, _ = some(digits)
    outcome = InstanceWise().unlearn(digits.trained, forget)
    assert accuracy(outcome.model, forget) == 0
    assert accuracy(outcome.model, digits.test_retain) > accuracy(digits.trained, digits.test_retain) - 0.1


def test_consolidation_wins_back_what_was_lost_on_the_way(digits: Digits) -> None:
    forget, retain = some(digits)
    before = predict_logits(digits.trained, retain)
    change = {}
    for steps in (0, 30):
        method = InstanceWise(consolidation_steps=steps, retained="anchors")
        after = predict_logits(method.unlearn(digits.trained, forget, retain).model, retain)
        change[steps] = float((after - before).square().mean())
    assert change[30] < change[0]


@pytest.mark.parametrize("retained", ["anchors", None])
def test_statistics_stay_frozen_where_only_forget_samples_and_anchors_are_read(
    digits: Digits, retained: str | None
) -> None:
    forget, retain = some(digits)
    model = digits.model
    before = state_bytes(model)
    method = create("instance-wise", retained=retained or "joint")
    outcome = method.unlearn(model, forget, retain if retained is not None else None)
    assert state_bytes(model) == before
    after = state_bytes(outcome.model)
    assert after != before
    assert {name: after[name] for name in after if "1.running" in name} == {
        name: before[name] for name in before if "1.running" in name
    }


def test_statistics_of_joint_training_are_those_of_retained_samples_under_the_new_weights(digits: Digits) -> None:
    forget, retain = some(digits)
    outcome = InstanceWise().unlearn(digits.model, forget, retain)
    first, layer = outcome.model[0], outcome.model[1]  # type: ignore[index]
    with torch.no_grad():
        seen = first(retain.images)
    mean, variance = seen.mean(dim=(0, 2, 3)), seen.var(dim=(0, 2, 3))
    torch.testing.assert_close(layer.running_mean, mean, atol=0.05, rtol=0.05)
    torch.testing.assert_close(layer.running_var, variance, atol=0.05, rtol=0.2)
    assert not torch.equal(layer.running_mean, digits.trained[1].running_mean)  # type: ignore[index]


def test_a_step_of_joint_training_equals_the_hand_computed_one() -> None:
    # f(x) = W x with x1 = (1, 0) and x2 = (0, 1): column j of W is the logits of sample j. Forget x1 (class 0, ahead
    # by 0.1: hinge 0.3) and x2 (class 0, behind by 0.25: no loss, so that the mean is over x1 alone), weighted by 0.5;
    # retain r = (1, 1) of class 2, logits (0.4, 0.55, 0): cross-entropy gradient softmax - one hot, times r.
    weight = torch.tensor([[0.4, 0.0], [0.3, 0.25], [0.0, 0.0]])
    forget = ImageSet(torch.eye(2).view(2, 1, 1, 2), torch.tensor([0, 0]))
    retain = ImageSet(torch.ones(1, 1, 1, 2), torch.tensor([2]))
    method = InstanceWise(
        margin=0.2, joint_learning_rate=0.1, joint_weight=0.5, joint_gradient_norm=9.0, max_steps=1, momentum=0.0
    )
    outcome = method.unlearn(linear_model(weight), forget, retain)
    exponentials = [math.exp(0.4), math.exp(0.55), 1.0]
    errors = [value / sum(exponentials) - (row == 2) for row, value in enumerate(exponentials)]
    expected = torch.tensor(
        [
            [0.4 - 0.1 * (0.5 + errors[0]), -0.1 * errors[0]],
            [0.3 - 0.1 * (-0.5 + errors[1]), 0.25 - 0.1 * errors[1]],
            [-0.1 * errors[2], -0.1 * errors[2]],
        ]
    )
    torch.testing.assert_close(outcome.model[1].weight.detach(), expected)  # type: ignore[index]
    # before and after 2 forget samples each, and one step of both sets
    assert (outcome.steps, outcome.forward_passes, outcome.backward_passes) == (1, 2 + 3 + 2, 3)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(digits: Digits) -> None:
    forget, retain = some(digits)
    results = [
        state_bytes(
            InstanceWise(max_steps=5)
            .unlearn(digits.trained, forget, retain, generator=torch.Generator().manual_seed(seed))
            .model
        )
        for seed in (1, 1, 2)
    ]
    assert results[0] == results[1] != results[2]


def test_excluded_classes_never_become_labels(digits: Digits) -> None:
    forget, retain = some(digits)
    free = InstanceWise().unlearn(digits.trained, forget, retain)
    assert free.guard_labels is not None
    excluded = set(free.guard_labels.tolist()) - set(forget.labels.tolist())
    assert excluded
    outcome = InstanceWise().unlearn(digits.trained, forget, retain, excluded_classes=excluded)
    assert outcome.converged
    assert not excluded & set(predicted(outcome, forget).tolist())
    assert not (predicted(outcome, forget) == forget.labels).any()


@pytest.mark.parametrize("labels", [None, (7, 5, 9, 1)])
def test_relabel_reaches_the_given_or_drawn_labels(digits: Digits, labels: tuple[int, ...] | None) -> None:
    forget, retain = some(digits)
    method = create("instance-wise", goal="relabel", labels=labels, max_steps=400)
    outcome = method.unlearn(digits.trained, forget, retain, excluded_classes=[8])
    assert outcome.converged
    assert outcome.guard_labels is not None
    assert torch.equal(outcome.guard_labels, predicted(outcome, forget))
    assert not (outcome.guard_labels == forget.labels).any()
    assert 8 not in outcome.guard_labels.tolist()
    if labels is not None:
        assert outcome.guard_labels.tolist() == list(labels)


def linear_model(weight: Tensor) -> nn.Module:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    with torch.no_grad():
        layer.weight.copy_(weight)
    return nn.Sequential(nn.Flatten(), layer)


def test_a_sample_beyond_the_margin_adds_nothing_to_the_hand_computed_step() -> None:
    # f(x) = W x with x1 = (1, 0) and x2 = (0, 1), so that column j of W is the logits of sample j.
    # Sample 1 (class 0): logits (0.4, 0.3, 0): still right, gap 0.3 - 0.4 = -0.1, hinge 0.2 + 0.1.
    # Sample 2 (class 0): logits (0, 0.25, 0): wrong by 0.25 > margin 0.2, hinge zero.
    # The gradient of the sum: +1 at W[0, 0], -1 at W[1, 0], zero elsewhere, of norm sqrt(2) < 5; one step of 0.1.
    weight = torch.tensor([[0.4, 0.0], [0.3, 0.25], [0.0, 0.0]])
    images = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).view(2, 1, 1, 2)
    forget = ImageSet(images, torch.tensor([0, 0]))
    method = InstanceWise(margin=0.2, learning_rate=0.1, max_steps=1, anchor_weight=0)
    outcome = method.unlearn(linear_model(weight), forget)
    expected = torch.tensor([[0.3, 0.0], [0.4, 0.25], [0.0, 0.0]])
    torch.testing.assert_close(outcome.model[1].weight.detach(), expected)  # type: ignore[index]
    assert outcome.guard_labels is not None
    assert outcome.guard_labels.tolist() == [1, 1]
    # before, one step, after: 3 forward and 1 backward passes of 2 samples
    assert (outcome.steps, outcome.forward_passes, outcome.backward_passes) == (1, 6, 2)


def test_a_long_gradient_is_cut_to_its_bound() -> None:
    # The same gradient, (1, -1) of norm sqrt(2), cut to norm 0.5: each entry 0.5 / sqrt(2).
    forget = ImageSet(torch.tensor([[1.0, 0.0]]).view(1, 1, 1, 2), torch.tensor([0]))
    weight = torch.tensor([[0.4, 0.0], [0.3, 0.0], [0.0, 0.0]])
    method = InstanceWise(margin=0.2, learning_rate=0.1, max_steps=1, anchor_weight=0, max_gradient_norm=0.5)
    changed = method.unlearn(linear_model(weight), forget).model[1].weight.detach()  # type: ignore[index]
    length = 0.05 / 2**0.5
    torch.testing.assert_close(changed[:, 0], torch.tensor([0.4 - length, 0.3 + length, 0.0]))


def test_samples_that_are_misclassified_already_cost_one_look(digits: Digits) -> None:
    forget, retain = some(digits)
    once = InstanceWise().unlearn(digits.trained, forget, retain)
    twice = InstanceWise().unlearn(once.model, forget, retain)
    assert twice.converged
    assert (twice.steps, twice.forward_passes, twice.backward_passes) == (0, 8, 0)
    assert state_bytes(twice.model) == state_bytes(once.model)


@pytest.mark.parametrize(("retained", "others"), [("anchors", 64), ("joint", 128)])
def test_passes_are_those_that_a_hook_counts(digits: Digits, retained: str, others: int) -> None:
    forget, retain = some(digits)
    counted = 0

    def count(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal counted
        counted += len(inputs[0])

    model = digits.model
    model[0].register_forward_pre_hook(count)  # type: ignore[index,operator]
    outcome = create("instance-wise", retained=retained).unlearn(model, forget, retain)
    assert outcome.forward_passes == counted - 1  # the contract itself looks at one sample, for the number of classes
    # The last batch of each time through the retained samples is smaller.
    assert outcome.steps * (4 + others) * 0.8 < outcome.backward_passes <= outcome.steps * (4 + others)


def test_gaps_are_signed_by_the_prediction() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 1.0]])
    allowed = torch.tensor([[False, True, True], [False, True, True]])
    assert logit_gaps(logits, allowed).tolist() == [-1.0, 5.0]


def test_blends_lie_between_the_image_and_its_partner() -> None:
    ones, zeros = torch.ones(3, 1, 2, 2), torch.zeros(5, 1, 2, 2)
    blends = blend(ones, zeros, 100, torch.Generator().manual_seed(0))
    assert blends.shape == (300, 1, 2, 2)
    low, high = BLEND_RANGE
    assert low <= float(blends.min()) < low + 0.02
    assert high - 0.02 < float(blends.max()) <= high


def test_stronger_means_more_steps_before_and_after_settling() -> None:
    method = InstanceWise(margin=0.1, max_steps=10, consolidation_steps=5).stronger()
    assert (method.margin, method.max_steps, method.consolidation_steps) == (0.1, 20, 10)


@pytest.mark.parametrize(
    "parameters",
    [
        {"goal": "forget"},
        {"margin": 0.0},
        {"learning_rate": -1.0},
        {"momentum": 1.0},
        {"max_gradient_norm": 0.0},
        {"max_steps": 0},
        {"consolidation_steps": -1},
        {"anchor_weight": -0.1},
        {"blends": 1.5},
        {"labels": 3},
        {"goal": "relabel", "labels": "3"},
        {"goal": "relabel", "labels": (1, -2)},
    ],
)
def test_bad_parameters_are_refused(parameters: dict[str, object]) -> None:
    with pytest.raises(InvalidParameterError, match="instance-wise"):
        create("instance-wise", **parameters)


@pytest.mark.parametrize("labels", [(7, 5), (7, 5, 9, 10), (7, 5, 9, 8)])
def test_labels_that_a_sample_cannot_get_are_refused(digits: Digits, labels: tuple[int, ...]) -> None:
    forget, _ = some(digits)
    with pytest.raises(InvalidParameterError, match="labels"):
        InstanceWise(goal="relabel", labels=labels).unlearn(digits.trained, forget, excluded_classes=[8])


def test_a_sample_without_another_class_is_refused(digits: Digits) -> None:
    forget, _ = some(digits)
    own = int(forget.labels[0])
    with pytest.raises(InvalidDataError, match="no class but their own"):
        InstanceWise().unlearn(digits.trained, forget, excluded_classes=set(range(10)) - {own})


def test_frozen_models_and_endless_losses_are_refused(digits: Digits) -> None:
    forget, _ = some(digits)
    frozen = digits.model.requires_grad_(False)
    with pytest.raises(InvalidModelError, match="no parameter"):
        InstanceWise().unlearn(frozen, forget)
    broken = copy.deepcopy(digits.trained)
    with torch.no_grad():
        next(broken.parameters()).fill_(torch.nan)
    with pytest.raises(UnlearningDivergedError, match="unchanged"):
        InstanceWise().unlearn(broken, forget)


def test_one_step_of_the_papers_loss_equals_the_hand_computed_one() -> None:
    # One sample x = (1, 0) of class 0: logits are the first column of W. Ascending its cross-entropy by 0.1 adds
    # 0.1 * (p - one hot of 0) to that column; descending towards label 2 subtracts 0.1 * (p - one hot of 2).
    weight = torch.tensor([[0.4, 0.0], [0.3, 0.0], [0.0, 0.0]])
    forget = ImageSet(torch.tensor([[1.0, 0.0]]).view(1, 1, 1, 2), torch.tensor([0]))
    probabilities = weight[:, 0].double().softmax(dim=0)
    for goal, expected in (
        ("misclassify", probabilities - torch.tensor([1.0, 0.0, 0.0])),
        ("relabel", torch.tensor([0.0, 0.0, 1.0]) - probabilities),
    ):
        method = InstanceWise(
            goal=goal,  # type: ignore[arg-type]
            labels=2 if goal == "relabel" else None,
            loss="cross-entropy",
            learning_rate=0.1,
            max_steps=1,
            anchor_weight=0,
        )
        changed = method.unlearn(linear_model(weight), forget).model[1].weight.detach()  # type: ignore[index]
        torch.testing.assert_close(changed[:, 0].double(), weight[:, 0].double() + 0.1 * expected, atol=1e-6, rtol=0)


def test_ascent_without_a_bound_goes_on_with_samples_that_are_forgotten_already() -> None:
    # Sample 1 is far beyond its margin, sample 2 has a long way to go: unbounded, sample 1 is pushed on.
    weight = torch.tensor([[0.0, 50.0], [1.0, 0.0], [0.0, 0.0]])
    images = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).view(2, 1, 1, 2)
    forget = ImageSet(images, torch.tensor([0, 0]))

    def column_of_the_first(**parameters: object) -> Tensor:
        method = create("instance-wise", learning_rate=0.1, max_steps=10, anchor_weight=0, **parameters)
        return method.unlearn(linear_model(weight), forget).model[1].weight.detach()[:, 0]  # type: ignore[index]

    for loss in ("margin", "cross-entropy"):
        assert torch.equal(column_of_the_first(loss=loss), weight[:, 0])
        pushed = column_of_the_first(loss=loss, stop_per_sample=False)
        assert pushed[0] < weight[0, 0]


@pytest.mark.parametrize("targets", ["reference", "ranks"])
def test_indistinguishable_samples_look_unseen(digits: Digits, targets: Literal["reference", "ranks"]) -> None:
    # The unseen set is half of the test samples; the attacker sees the other half.
    test = concatenate(digits.test_forget, digits.test_retain)
    order = torch.randperm(len(test), generator=torch.Generator().manual_seed(0))
    unseen, outsiders = test.subset(order[::2]), test.subset(order[1::2])
    train = concatenate(digits.retain, digits.forget)
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(1))
    forget, retain = train.subset(order[:128]), train.subset(order[128:])

    def sureness(model: nn.Module, samples: ImageSet) -> Tensor:
        return confidence(predict_logits(model, samples), samples.labels)

    def auc(model: nn.Module) -> float:
        known, unknown = sureness(model, forget), sureness(model, outsiders)
        return float(roc_auc_score([1] * len(known) + [0] * len(unknown), torch.cat([known, unknown]).numpy()))

    outcome = InstanceWise(goal="indistinguishable", targets=targets).unlearn(
        digits.model, forget, retain, unseen=unseen
    )
    assert outcome.converged
    assert outcome.standing is not None and outcome.standing.by == targets and outcome.standing.above == 0
    oracle = auc(fitted(untrained_network(), retain, epochs=8)) if targets == "reference" else 0.5
    assert abs(auc(outcome.model) - oracle) <= min(abs(auc(digits.trained) - oracle), 0.05)
    assert accuracy(outcome.model, outsiders) >= accuracy(digits.trained, outsiders) - 0.03
    assert outcome.guard_labels is not None
    assert bool((outcome.guard_labels == UNGUARDED).all()), "no label is guarded: what others teach is what they become"
    if targets == "ranks":  # those that are less sure than unseen samples are stay so: none is learned again
        assert bool((sureness(outcome.model, forget) <= sureness(digits.trained, forget) + 2).all())


def test_adversarial_examples_are_counted_and_keep_what_they_anchor(digits: Digits) -> None:
    forget, _ = some(digits)
    settings = {"max_steps": 40, "consolidation_steps": 40, "blends": 0, "adversarial_steps": 10, "anchor_weight": 1.0}
    outcomes = {
        adversarial: create("instance-wise", adversarial=adversarial, **settings).unlearn(digits.model, forget)
        for adversarial in (False, True)
    }
    # 4 samples with 20 examples each: ten steps of the search and the original's logits.
    extra = 80 * 10 + 80 + outcomes[True].steps * 64
    assert outcomes[True].forward_passes - outcomes[False].forward_passes == extra + 4 * (
        outcomes[True].steps - outcomes[False].steps
    )
    labels = torch.tensor([(int(label) + 1) % 10 for label in forget.labels])
    examples = pgd(digits.trained, forget.images, labels, bound=4.0, step_size=0.1, steps=10, norm="l2", targeted=True)
    probe = ImageSet(examples, labels)
    change = {
        adversarial: float(
            (predict_logits(outcome.model, probe) - predict_logits(digits.trained, probe)).square().mean()
        )
        for adversarial, outcome in outcomes.items()
    }
    assert change[True] < change[False]


def test_importance_equals_gradients_taken_one_by_one(digits: Digits) -> None:
    forget, _ = some(digits)
    model = digits.model
    passes = PassCounter()
    found = synaptic_importance(model, forget, passes)
    expected = {name: torch.zeros_like(parameter) for name, parameter in model.named_parameters()}
    for index in range(len(forget)):
        model.zero_grad()
        model(forget.batch(torch.tensor([index]))[0]).norm().backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None
            expected[name] += parameter.grad.abs() / len(forget)
    for name, values in expected.items():
        torch.testing.assert_close(found[name], values, atol=1e-5, rtol=1e-3)
    assert (passes.forward, passes.backward) == (4, 4)


def test_held_parameters_move_less_the_less_they_matter(digits: Digits) -> None:
    forget, _ = some(digits)
    importance = synaptic_importance(digits.model, forget, PassCounter())["7.weight"]
    unimportant = (importance > 0) & (importance < importance[importance > 0].median())

    def moved(**parameters: object) -> float:
        method = create("instance-wise", anchor_weight=0, consolidation_steps=20, max_steps=60, **parameters)
        changed = method.unlearn(digits.model, forget).model[7].weight.detach()  # type: ignore[index]
        return float((changed - digits.trained[7].weight.detach())[unimportant].norm())  # type: ignore[index]

    assert moved(importance=True, importance_weight=20.0) < 0.9 * moved()


def test_a_whole_class_is_bounded_in_anchors_and_forgotten(digits: Digits) -> None:
    work_forget = digits.forget
    method = InstanceWise(max_steps=60, consolidation_steps=0, blends=1000, retained="anchors")
    outcome = method.unlearn(digits.model, work_forget, digits.retain)
    assert accuracy(outcome.model, work_forget) <= 0.05
    anchors = outcome.forward_passes - outcome.steps * 128
    assert anchors < MOST_IMAGES + 1024 + 10 * len(work_forget)


def test_joint_training_forgets_a_whole_class_and_keeps_the_others(digits: Digits) -> None:
    before = accuracy(digits.trained, digits.test_retain)
    outcome = InstanceWise().unlearn(digits.model, digits.forget, digits.retain)
    assert accuracy(outcome.model, digits.forget) <= 0.05
    assert accuracy(outcome.model, digits.test_retain) >= before - 0.03


def test_adversarial_examples_are_anchors_beside_joint_training_too(digits: Digits) -> None:
    forget, retain = some(digits)
    settings = {"max_steps": 10, "blends": 0, "retained_anchors": 0, "adversarial_steps": 3}
    plain, more = (
        create("instance-wise", adversarial=adversarial, **settings).unlearn(digits.model, forget, retain)
        for adversarial in (False, True)
    )
    # 4 samples with 20 examples each: three steps of the search and the original's logits; then 64 in every step.
    assert more.forward_passes - plain.forward_passes == 80 * 3 + 80 + 64 * 10
    assert state_bytes(more.model) != state_bytes(plain.model)


@pytest.mark.parametrize("class_count", [3, 12])
def test_adversarial_targets_are_of_all_classes_that_a_model_has(class_count: int) -> None:
    model = linear_model(10 * torch.eye(class_count, 16))  # every class has a pixel of its own
    images = torch.rand(4, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    forget = ImageSet(images, model(images).argmax(dim=1))
    settings = AnchorSettings(retained=0, blends=0, adversarial=200, adversarial_steps=300)
    work = Workspace(
        model=model,
        original=model,
        forget=forget,
        retain=None,
        unseen=None,
        excluded_classes=frozenset([1]),
        class_count=class_count,
        generator=torch.Generator().manual_seed(0),
    )
    pool = AnchorPool.build(work, settings)
    assert pool is not None and len(pool.images) == 800
    for sample in range(4):
        found = set(pool.logits[200 * sample : 200 * (sample + 1)].argmax(dim=1).tolist())
        assert found == set(range(class_count)) - {1, int(forget.labels[sample])}
