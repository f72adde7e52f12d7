"""What is frozen keeps its bytes, whatever trains the model."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from fed_unlearn.errors import UnsuitableModelError
from fed_unlearn.seeding import isolated_random
from fed_unlearn.training.frozen import frozen_part

NAMES = ["0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked"]


def built() -> nn.Sequential:
    with isolated_random(0):
        return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 2))


def trained(model: nn.Module) -> None:
    """As a user's own training does: all parameters, in training mode, with weight decay."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    generator = torch.Generator().manual_seed(1)
    model.train()
    for _ in range(3):
        loss = functional.cross_entropy(model(torch.randn(8, 4, generator=generator)), torch.arange(8) % 2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize("wrap", [lambda model: model, nn.DataParallel])
def test_the_frozen_part_keeps_its_bytes_and_the_rest_is_trained(wrap) -> None:  # type: ignore[no-untyped-def]
    model, before = built(), built().state_dict()
    whole = wrap(model)
    with frozen_part(whole, NAMES):
        assert [parameter.requires_grad for parameter in model.parameters()] == [False] * 4 + [True] * 2
        trained(whole)
    after = model.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in NAMES)
    assert not torch.equal(after["3.weight"], before["3.weight"])
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_frozen_normalisation_normalises_by_its_statistics_in_training_too() -> None:
    model, inputs = built(), 5 + torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    expected = model.eval()(inputs)
    with frozen_part(model, NAMES):
        assert torch.equal(model.train()(inputs), expected)
    assert not torch.allclose(model.train()(inputs), expected), "afterwards by those of the batch again"


def test_what_was_frozen_before_stays_so_and_a_failure_puts_all_back() -> None:
    model, before = built(), built().state_dict()
    model[0].weight.requires_grad_(False)
    with pytest.raises(ValueError, match="in between"), frozen_part(model, ["0.weight", "0.bias"]):
        with torch.no_grad():
            model[0].bias += 1
        raise ValueError("in between")
    assert torch.equal(model[0].bias, before["0.bias"]) and model[0].bias.requires_grad
    assert not model[0].weight.requires_grad


def test_nothing_left_to_train_is_told() -> None:
    model = built()
    with (
        pytest.raises(UnsuitableModelError, match="all of the model is frozen"),
        frozen_part(model, list(model.state_dict())),
    ):
        pass
    assert all(parameter.requires_grad for parameter in model.parameters())
