"""The blocks of well-known networks are those that their authors speak of, and their parts compute what they do."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from block_models import Branching, Encoder, Tied, perceptron, rows, tokens
from torch import Tensor, nn
from torchvision.models import VisionTransformer, mobilenet_v2, resnet18

from fed_unlearn.errors import InvalidModelError
from fed_unlearn.methods.parts.blocks import divide, model_blocks
from fed_unlearn.models import build_model
from fed_unlearn.seeding import isolated_random


def images(side: int = 32, channels: int = 3) -> Tensor:
    return torch.rand(3, channels, side, side, generator=torch.Generator().manual_seed(0))


def small_vit() -> nn.Module:
    return VisionTransformer(
        image_size=32, patch_size=16, num_layers=3, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=5
    )


def all_cnn() -> nn.Module:
    return build_model(
        "all-cnn", class_count=10, image_shape=(3, 32, 32), parameters={"width": 0.1, "dropout": 0.2}
    ).eval()


def small_cnn() -> nn.Module:
    return build_model("small-cnn", class_count=10, image_shape=(1, 8, 8))


def named_resnet() -> nn.Module:
    return build_model("torchvision:resnet18", class_count=5, image_shape=(1, 8, 8)).eval()


STAGES = [f"layer{stage}.{index}" for stage in (1, 2, 3, 4) for index in (0, 1)]
CASES: dict[str, tuple[Callable[[], nn.Module], Tensor, list[str]]] = {
    "all-cnn": (all_cnn, images(), [f"features.{index}" for index in (0, 1, 2, 4, 5, 6, 8, 9)] + ["classifier.0"]),
    "small-cnn": (small_cnn, images(8, 1), ["features.0", "features.4", "classifier"]),
    "resnet18": (lambda: resnet18(num_classes=5), images(), ["conv1", *STAGES, "fc"]),
    "torchvision:resnet18": (named_resnet, images(8, 1), ["conv1", *STAGES, "fc"]),
    "mobilenet_v2": (
        lambda: mobilenet_v2(num_classes=5, width_mult=0.25),
        images(),
        [f"features.{index}" for index in range(19)] + ["classifier.1"],
    ),
    "vit": (
        small_vit,
        images(),
        ["conv_proj", *(f"encoder.layers.encoder_layer_{index}" for index in range(3)), "heads.head"],
    ),
    "perceptron": (perceptron, rows(), ["0", "2", "4"]),
    "encoder": (lambda: Encoder(2), tokens(20), ["words", "encoder.layers.0", "encoder.layers.1", "head"]),
    "branching": (Branching, rows(), ["first", "second", "third", "head"]),
    "one layer": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(6, 3)), rows(), ["1"]),
}


def made(name: str) -> nn.Module:
    with isolated_random(0):
        return CASES[name][0]().eval()


@pytest.mark.parametrize("name", CASES)
def test_blocks_are_listed_from_input_to_output(name: str) -> None:
    model = made(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert [block.name for block in model_blocks(nn.DataParallel(model), CASES[name][1])] == CASES[name][2]
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", [name for name in CASES if name not in ("branching", "one layer")])
def test_both_parts_together_give_the_models_own_logits(name: str) -> None:
    model, inputs = made(name), CASES[name][1]
    with torch.no_grad():
        expected = model(inputs)
        for blocks in (0, 1, 2):
            division = divide("test", model, inputs, blocks)
            assert division.lower is not None
            assert len(division.reset) == min(blocks, len(CASES[name][2]) - 2) + 1
            assert torch.allclose(division.upper(division.lower(inputs)), expected, atol=1e-6, rtol=0)


def test_the_upper_part_shares_the_models_layers() -> None:
    model = made("resnet18")
    division = divide("test", model, images(), 2)
    held = {id(parameter) for parameter in division.upper.parameters()}
    expected = [model.layer4, model.fc]
    assert held == {id(parameter) for module in expected for parameter in module.parameters()}  # type: ignore[union-attr]
    assert division.lower is not None
    assert held.isdisjoint(map(id, division.lower.parameters()))


def test_what_follows_a_layer_belongs_to_its_block() -> None:
    blocks = model_blocks(made("all-cnn"), images())
    assert blocks[-2].layers == ("features.9.0", "features.9.1")
    assert model_blocks(made("branching"), rows())[1].layers == ("second", "norm")


def test_a_model_that_cannot_be_traced_is_its_own_upper_part() -> None:
    model = made("branching")
    division = divide("test", model, rows(), 1)
    assert division.upper is model and division.lower is None
    assert [block.name for block in division.kept] == ["first", "second"]


def test_models_without_blocks_are_refused_in_one_line() -> None:
    with pytest.raises(InvalidModelError, match=r"^test: no point of Tied divides its layers .* untie them, or use"):
        divide("test", Tied(), tokens(5), 2)
    with pytest.raises(InvalidModelError, match=r"^test: Flatten calls no layer with a weight, .* such as scrub$"):
        divide("test", nn.Flatten(), rows(), 2)
