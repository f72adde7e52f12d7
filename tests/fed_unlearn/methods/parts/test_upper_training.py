"""The loss and the learning rate of the upper part's training, against values computed by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from fed_unlearn.data.images import ImageSet
from fed_unlearn.methods.parts.blocks import divide
from fed_unlearn.methods.parts.upper_batches import UpperBatch, UpperBatches
from fed_unlearn.methods.parts.upper_training import UpperTraining, alone_trained, train_upper
from fed_unlearn.seeding import isolated_random

TRAINING = UpperTraining(
    distillation=0.7,
    temperature=2.0,
    learning_rate=0.05,
    momentum=0.9,
    weight_decay=0.0,
    batch_size=4,
    max_gradient_norm=5.0,
)


def test_the_loss_equals_one_computed_by_hand() -> None:
    logits = torch.tensor([[2.0, 0.0, 1.0]])
    answers = torch.tensor([[1.0, 9.0, 3.0]])
    found = TRAINING.loss(logits, UpperBatch(logits, torch.tensor([2]), answers), [1])
    cross_entropy = -torch.log(torch.tensor(1.0).exp() / (torch.tensor([2.0, 0.0, 1.0]).exp().sum()))
    wanted = torch.tensor([0.5, 1.5]).exp() / torch.tensor([0.5, 1.5]).exp().sum()  # classes 0 and 2, T = 2
    said = (torch.tensor([1.0, 0.0, 0.5]).exp() / torch.tensor([1.0, 0.0, 0.5]).exp().sum())[[0, 2]]
    torch.testing.assert_close(found, 0.3 * cross_entropy + 0.7 * 4 * (wanted * (wanted / said).log()).sum())
    plain = TRAINING.loss(logits, UpperBatch(logits, torch.tensor([2]), None), [1])
    torch.testing.assert_close(plain, cross_entropy)


def test_the_learning_rate_falls_along_one_cosine_over_all_rounds() -> None:
    assert TRAINING.rate_at(1, 8) == 0.05
    assert TRAINING.rate_at(5, 8) == pytest.approx(0.025)  # cos(pi / 2) = 0
    assert TRAINING.rate_at(3, 8) == pytest.approx(0.05 * (1 + math.sqrt(0.5)) / 2)


def test_one_step_of_a_later_round_equals_one_by_hand() -> None:
    """Round 1 of 2 with one step a round: the rate is half, the step that of plain SGD on the layer above."""
    with isolated_random(0):
        model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).eval()
        images, labels = torch.rand(4, 1, 2, 2), torch.tensor([0, 1, 1, 0])
    samples = ImageSet(images, labels, [str(index) for index in range(4)])
    division = divide("a test", model, images[:1], 0)
    assert division.lower is not None and [block.name for block in division.reset] == ["3"]
    with torch.no_grad():
        hidden = division.lower(images)
    head = model[3]
    assert isinstance(head, nn.Linear)
    weight, bias = (value.detach().clone().requires_grad_() for value in (head.weight, head.bias))
    nn.functional.cross_entropy(hidden @ weight.T + bias, labels).backward()
    assert weight.grad is not None and bias.grad is not None
    expected = weight.detach() - 0.025 * weight.grad, bias.detach() - 0.025 * bias.grad
    before = model[1].weight.detach().clone()
    batches, generator = UpperBatches(model, division, samples, hidden, None), torch.Generator().manual_seed(0)
    parameters = list(head.parameters())
    with alone_trained(model, parameters):
        assert not model[1].weight.requires_grad
        steps = train_upper(
            "a test", batches, parameters, TRAINING, epochs=1, forgotten=[], generator=generator, rounds=(1, 2)
        )
    assert steps == 1 and model[1].weight.requires_grad
    torch.testing.assert_close((head.weight.detach(), head.bias.detach()), expected)
    assert torch.equal(model[1].weight, before)
