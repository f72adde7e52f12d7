from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from trained_digits import Digits, accuracy, fitted, untrained_network

from fed_unlearn.data.images import ImageSet, concatenate
from fed_unlearn.errors import InvalidDataError
from fed_unlearn.logits import confidence, predict_logits
from fed_unlearn.methods.instance_wise import InstanceWise
from fed_unlearn.methods.instance_wise.reference import ReferenceTargets

REFERENCE = torch.linspace(-2, 8, 101)
"""Log-odds of unseen samples in a reference: the place of -2 + 10 p is p."""
MODEL = torch.linspace(-4, 16, 101)
"""Those of the same samples in a model that is twice as sure of each."""


def test_a_place_in_the_reference_is_the_same_place_in_the_model() -> None:
    members = torch.tensor([-0.95, 3.05, 7.05])  # 11, 51 and 91 of the 101 unseen samples lie below
    found = ReferenceTargets.of(members, REFERENCE, MODEL, tolerance=0.5)
    torch.testing.assert_close(found.targets, -4 + 20 * torch.tensor([11, 51, 91]) / 101)


def test_a_sample_below_nine_in_ten_unseen_ones_stands_where_the_reference_has_it() -> None:
    found = ReferenceTargets.of(torch.tensor([-7.5, -1.05, 30.0]), REFERENCE, MODEL, tolerance=0.5)
    torch.testing.assert_close(found.targets, torch.tensor([-7.5, -1.05, 16.0]))


def test_unseen_samples_that_are_all_alike_in_the_reference_give_two_places() -> None:
    found = ReferenceTargets.of(torch.tensor([-2.0, 2.0]), torch.ones(101), MODEL, tolerance=0.5)
    torch.testing.assert_close(found.targets, torch.tensor([-2.0, 16.0]))


def test_a_limit_lies_above_its_target_by_what_is_usual_of_unseen_samples() -> None:
    # Every unseen sample stands where the reference says, and 8 of 100 stand higher by 3.
    model = REFERENCE.clone()
    found = ReferenceTargets.of(torch.tensor([3.05]), REFERENCE, model, tolerance=0.5)
    assert float(found.limits - found.targets) == pytest.approx(0.5, abs=1e-5)
    model[10:90:10] += 3
    found = ReferenceTargets.of(torch.tensor([3.05]), REFERENCE, model, tolerance=0.5)
    assert 2 < float(found.limits - found.targets) < 3


def test_no_unseen_sample_is_an_error() -> None:
    with pytest.raises(InvalidDataError, match="no unseen sample"):
        ReferenceTargets.of(torch.zeros(2), torch.zeros(0), torch.zeros(0), tolerance=0.5)


Memorised = tuple[nn.Module, ImageSet, ImageSet, ImageSet]


@pytest.fixture(scope="module")
def memorised(digits: Digits) -> Memorised:
    """A model that has memorised eight samples with wrong labels, these, the others, and unseen ones."""
    train = concatenate(digits.retain, digits.forget)
    chosen = torch.arange(8) * 150
    labels = train.labels.clone()
    labels[chosen] = (labels[chosen] + 1) % 10
    train = ImageSet(train.images, labels)
    is_kept = torch.ones(len(train), dtype=torch.bool)
    is_kept[chosen] = False
    model = fitted(untrained_network(), train, epochs=40)
    unseen = concatenate(digits.test_forget, digits.test_retain)
    return model, train.subset(chosen), train.subset(is_kept.nonzero().flatten()), unseen


def sureness(model: nn.Module, samples: ImageSet) -> Tensor:
    return confidence(predict_logits(model, samples), samples.labels)


def test_memorised_samples_are_forgotten_by_a_reference_and_not_by_ranks(memorised: Memorised) -> None:
    model, forget, retain, unseen = memorised
    assert accuracy(model, forget) == 1
    by = {
        targets: InstanceWise(goal="indistinguishable", targets=targets).unlearn(model, forget, retain, unseen=unseen)
        for targets in ("reference", "ranks")
    }
    standing = by["reference"].standing
    assert standing is not None
    assert (standing.by, standing.above) == ("reference", 0) and standing.above_before >= 7
    assert accuracy(by["reference"].model, forget) == 0, "as in a model that never saw these labels"
    assert accuracy(by["reference"].model, unseen) >= accuracy(model, unseen) - 0.02
    assert accuracy(by["ranks"].model, forget) == 1


def test_samples_end_where_the_reference_has_them_also_those_that_rise(memorised: Memorised) -> None:
    _, wrong, retain, unseen = memorised
    others, retain = retain.subset(torch.arange(16)), retain.subset(torch.arange(16, len(retain)))
    forget = concatenate(wrong, others)
    model = fitted(untrained_network(), concatenate(retain, wrong), epochs=12)
    oracle = fitted(untrained_network(), retain, epochs=8)
    outcome = InstanceWise(goal="indistinguishable").unlearn(model, forget, retain, unseen=unseen, reference=oracle)
    levels = ReferenceTargets.of(
        sureness(oracle, forget), sureness(oracle, unseen), sureness(model, unseen), tolerance=0.5
    ).targets
    rises = levels > sureness(model, forget) + 1
    assert outcome.converged and int(rises.sum()) >= 3
    distance = sureness(outcome.model, forget) - levels
    assert float(distance.abs().mean()) <= 0.5 and float(distance.mean().abs()) <= 0.25
    torch.testing.assert_close(levels[:8], sureness(oracle, wrong))


def test_a_given_reference_is_read_and_none_is_trained(memorised: Memorised) -> None:
    model, forget, retain, unseen = memorised
    oracle = fitted(untrained_network(), retain, epochs=8)
    before = [parameter.clone() for parameter in oracle.parameters()]
    outcome = InstanceWise(goal="indistinguishable", reference_epochs=1000).unlearn(
        model, forget, retain, unseen=unseen, reference=oracle
    )
    assert all(torch.equal(old, new) for old, new in zip(before, oracle.parameters(), strict=True))
    assert outcome.standing is not None and outcome.standing.above_before >= 7
    assert bool((sureness(outcome.model, forget) <= outcome.standing.limits).all())
    assert outcome.forward_passes < 100 * len(retain)


def test_without_retained_samples_the_ranks_are_used_and_it_is_said(memorised: Memorised) -> None:
    model, forget, _, unseen = memorised
    outcome = InstanceWise(goal="indistinguishable").unlearn(model, forget, unseen=unseen)
    assert outcome.standing is not None and outcome.standing.by == "ranks"
