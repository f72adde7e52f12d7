from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, weight_norm

from fed_unlearn.methods.parts.fresh_weights import draw_fresh
from fed_unlearn.seeding import isolated_random


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Scaled(nn.Module):
    """Parameters that no module of torch's own holds."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(3 + 2 * torch.randn(200, 50, generator=generator(7)))
        self.scale = nn.Parameter(torch.full((50,), 1e-6))

    def forward(self, values: Tensor) -> Tensor:
        return (values @ self.weight) * self.scale


def test_draws_are_those_of_the_modules_own_reset() -> None:
    layer = nn.Linear(4, 3)
    drawn = draw_fresh(nn.Sequential(layer), ["0"], generator())
    assert drawn == [layer.weight, layer.bias]
    seed = int(torch.randint(2**62, (), generator=generator()))
    with isolated_random(seed):
        expected = nn.Linear(4, 3)
    assert torch.equal(layer.weight, expected.weight) and torch.equal(layer.bias, expected.bias)


def test_other_parameters_are_drawn_by_their_mean_and_spread() -> None:
    module = Scaled()
    old = module.weight.detach().clone()
    draw_fresh(module, ["weight", "scale"], generator())
    assert abs(float(torch.corrcoef(torch.stack([old.flatten(), module.weight.detach().flatten()]))[0, 1])) < 0.05
    assert float(module.weight.detach().mean()) == pytest.approx(3, abs=0.1)
    assert float(module.weight.detach().std()) == pytest.approx(2, abs=0.1)
    assert torch.equal(module.scale, torch.full((50,), 1e-6))


@pytest.mark.parametrize("wrap", [parametrizations.weight_norm, weight_norm])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_weights_made_of_other_parameters_are_drawn_too(wrap: object) -> None:
    model = nn.Sequential(wrap(nn.Linear(20, 30)))  # type: ignore[operator]
    inputs = torch.eye(20)
    with torch.no_grad():
        old = model(inputs) - model[0].bias
        draw_fresh(model, ["0"], generator())
        new = model(inputs) - model[0].bias
    assert abs(float(torch.corrcoef(torch.stack([old.flatten(), new.flatten()]))[0, 1])) < 0.15


def test_attention_statistics_and_frozen_parameters() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16)
    norm, frozen = nn.BatchNorm1d(4), nn.BatchNorm1d(4).requires_grad_(False)
    for each in (norm, frozen):
        each.running_mean.fill_(5.0)  # type: ignore[union-attr]
    model = nn.Sequential(layer, norm, frozen)
    old = {name: value.clone() for name, value in model.state_dict().items()}
    draw_fresh(model, ["0", "1", "2"], generator())
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, old[name])}
    assert {"0.self_attn.in_proj_weight", "0.self_attn.out_proj.weight", "0.linear1.weight"} <= changed
    assert "1.running_mean" in changed and not any(name.startswith("2.") for name in changed)


def test_global_generators_end_as_they_began() -> None:
    model = nn.Sequential(nn.Linear(4, 3))
    state = torch.get_rng_state()
    draw_fresh(model, ["0"], generator())
    assert torch.equal(torch.get_rng_state(), state)
