"""A reference that the method trains by itself: what is drawn anew, what it costs, and when it is not used."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from trained_digits import Digits, accuracy, fitted, state_bytes, untrained_network

from fed_unlearn.data.images import ImageSet
from fed_unlearn.errors import InvalidModelError, UnlearningDivergedError
from fed_unlearn.logits import predict_logits
from fed_unlearn.methods.instance_wise.levels import find_levels
from fed_unlearn.methods.instance_wise.reference_training import ReferenceTraining
from fed_unlearn.methods.parts.workspace import Workspace


def work_on(model: nn.Module, forget: ImageSet, retain: ImageSet | None, seed: int = 0) -> Workspace:
    return Workspace(
        model=copy.deepcopy(model),
        original=model,
        forget=forget,
        retain=retain,
        unseen=None,
        excluded_classes=frozenset(),
        class_count=10,
        generator=torch.Generator().manual_seed(seed),
    )


def parts(digits: Digits) -> tuple[ImageSet, ImageSet]:
    return digits.forget.subset(torch.arange(8)), digits.retain


def trained(model: nn.Module, digits: Digits, training: ReferenceTraining, seed: int = 0) -> nn.Module:
    found = training.trained(work_on(model, *parts(digits), seed=seed))
    assert found is not None
    return found


def test_nothing_of_the_given_model_is_left_in_a_whole_reference(digits: Digits) -> None:
    training = ReferenceTraining(blocks=None, epochs=2)
    memorised = fitted(copy.deepcopy(digits.trained), digits.forget, epochs=3)
    before, state = state_bytes(memorised), torch.get_rng_state()
    references = [trained(model, digits, training) for model in (digits.trained, memorised, untrained_network())]
    assert state_bytes(references[0]) == state_bytes(references[1]) == state_bytes(references[2])
    assert state_bytes(references[0]) != state_bytes(trained(digits.trained, digits, training, seed=1))
    assert accuracy(references[0], digits.test_retain) >= accuracy(digits.trained, digits.test_retain) - 0.1
    assert accuracy(references[0], digits.forget) == 0, "no sample of class 3 is retained"
    assert not references[0].training
    assert state_bytes(memorised) == before and torch.equal(torch.get_rng_state(), state)


def test_blocks_below_those_that_are_drawn_stay(digits: Digits) -> None:
    reference = trained(digits.trained, digits, ReferenceTraining(blocks=1, epochs=1))
    is_kept = {
        name: torch.equal(value, reference.get_parameter(name)) for name, value in digits.trained.named_parameters()
    }
    assert [name for name, kept in is_kept.items() if kept] == ["0.weight", "1.weight", "1.bias"]


def test_passes_are_counted(digits: Digits) -> None:
    work = work_on(digits.trained, *parts(digits))
    ReferenceTraining(blocks=None, epochs=2).trained(work)
    assert (work.passes.forward, work.passes.backward) == (2 * len(digits.retain), 2 * len(digits.retain))


def test_what_is_frozen_stays_and_a_frozen_model_is_an_error(digits: Digits) -> None:
    model = digits.model
    model[0].requires_grad_(False)  # type: ignore[index]
    reference = trained(model, digits, ReferenceTraining(blocks=None, epochs=1))
    same = [torch.equal(old, new) for old, new in zip(model.parameters(), reference.parameters(), strict=True)]
    assert same == [True] + [False] * (len(same) - 1)
    with pytest.raises(InvalidModelError, match="all of Sequential is frozen"):
        trained(model.requires_grad_(False), digits, ReferenceTraining(blocks=None, epochs=1))


def test_without_retained_samples_there_is_none(digits: Digits) -> None:
    work = work_on(digits.trained, digits.forget, None)
    assert ReferenceTraining(blocks=None, epochs=1).trained(work) is None


class Exploding(nn.Module):
    """A layer whose outputs grow beyond float32 in training."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(0, 1, 640).view(10, 64))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.exp(200 * inputs.flatten(1) @ self.weight.T)


def test_a_reference_that_cannot_be_trained_says_what_to_do(digits: Digits) -> None:
    with pytest.raises(UnlearningDivergedError, match="give a reference, or a number of reference_blocks"):
        trained(Exploding(), digits, ReferenceTraining(blocks=None, epochs=1))


def test_a_reference_that_learned_little_is_not_used(digits: Digits, caplog: pytest.LogCaptureFixture) -> None:
    few, training = digits.retain.subset(torch.arange(16)), ReferenceTraining(blocks=None, epochs=1)
    for retain, by in ((digits.retain, "reference"), (few, "ranks")):
        forget = digits.retain.subset(torch.arange(16, 24))
        work = replace(work_on(digits.trained, forget, retain), unseen=digits.test_retain)
        before = predict_logits(digits.trained, work.forget)
        assert find_levels("instance-wise", work, before, 0.5, training).by == by
        assert ("samples go by ranks" in caplog.text) == (by == "ranks")


def test_samples_go_by_ranks_where_a_reference_diverges(digits: Digits, caplog: pytest.LogCaptureFixture) -> None:
    work = replace(work_on(Exploding(), *parts(digits)), unseen=digits.test_retain)
    before = torch.zeros(len(work.forget), 10)
    assert find_levels("instance-wise", work, before, 0.5, ReferenceTraining(blocks=None, epochs=1)).by == "ranks"
    assert "the reference cannot be trained from fresh weights" in caplog.text
