from __future__ import annotations

import copy
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional

from fed_unlearn.training.sgd import GradientDescent


def made_model() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3 * 16, 5))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
@pytest.mark.parametrize("frozen", [False, True])
def test_parameters_are_those_of_torchs_own_optimizer_bit_for_bit(
    momentum: float, weight_decay: float, frozen: bool
) -> None:
    ours = made_model()
    ours[0].requires_grad_(not frozen)
    theirs = copy.deepcopy(ours)
    descent = GradientDescent(ours.parameters(), learning_rate=0.07, momentum=momentum, weight_decay=weight_decay)
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.07, momentum=momentum, weight_decay=weight_decay)
    generator = torch.Generator().manual_seed(1)
    for _ in range(5):
        images = torch.rand((8, 1, 6, 6), generator=generator)
        labels = torch.randint(5, (8,), generator=generator)
        functional.cross_entropy(ours(images), labels).backward()
        descent.step()
        optimizer.zero_grad()
        functional.cross_entropy(theirs(images), labels).backward()
        optimizer.step()
    for mine, other in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
        assert torch.equal(mine, other)
    assert all(parameter.grad is None for parameter in ours.parameters())


def test_a_parameter_whose_gradient_comes_later_begins_with_it() -> None:
    ours = [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))]
    theirs = copy.deepcopy(ours)
    descent = GradientDescent(ours, learning_rate=0.1, momentum=0.9, weight_decay=0.1)
    optimizer = torch.optim.SGD(theirs, lr=0.1, momentum=0.9, weight_decay=0.1)
    for used in ([0], [0, 1], [1], [], [0, 1]):
        optimizer.zero_grad()
        for index in used:
            (ours[index] ** 2).sum().backward()
            (theirs[index] ** 2).sum().backward()
        descent.step()
        optimizer.step()
    assert all(torch.equal(mine, other) for mine, other in zip(ours, theirs, strict=True))


def test_gradients_from_before_do_not_count() -> None:
    parameter = nn.Parameter(torch.ones(2))
    parameter.grad = torch.ones(2)
    GradientDescent([parameter], learning_rate=0.1).step()
    assert parameter.tolist() == [1, 1]


def test_training_does_not_import_the_compiler_of_torch() -> None:
    program = """
import sys, torch
from fed_unlearn.data.images import ImageSet
from fed_unlearn.models import build_model
from fed_unlearn.training import TrainingSettings, train_locally

samples = ImageSet(torch.rand(4, 1, 8, 8), torch.arange(4))
model = build_model("small-cnn", class_count=4, image_shape=(1, 8, 8))
passes = train_locally(model, samples, TrainingSettings(), torch.Generator())
print(passes.backward, "torch._dynamo" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["4", "False"]
