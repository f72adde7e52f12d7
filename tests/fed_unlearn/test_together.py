from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fed_unlearn.data.images import ImageSet
from fed_unlearn.errors import InvalidModelError, UnlearningDivergedError
from fed_unlearn.models import build_model
from fed_unlearn.seeding import seeded_generator
from fed_unlearn.training import TrainingSettings, train_locally
from fed_unlearn.training.together import check_model, train_together

SHAPE = (1, 8, 8)


def made_samples(seed: int, count: int = 20) -> ImageSet:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand((count, *SHAPE), generator=generator)
    return ImageSet(images, torch.randint(10, (count,), generator=generator))


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"local_epochs": 2, "batch_size": 8, "weight_decay": 0.01},
        {"fraction": 0.7, "augment": True, "proximal_mu": 0.5, "momentum": 0.0},
    ],
)
def test_each_client_gets_what_training_alone_gives_it_but_for_rounding(given: dict[str, Any]) -> None:
    settings = TrainingSettings(**given)
    model = build_model("small-cnn", class_count=10, image_shape=SHAPE)
    model.features[1].requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    samples = [made_samples(client) for client in range(3)]
    trained, passes = train_together(model, samples, settings, [seeded_generator(client) for client in range(3)])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for client, weights in enumerate(trained):
        alone = copy.deepcopy(model)
        assert train_locally(alone, samples[client], settings, seeded_generator(client)) == passes
        assert weights is not None and list(weights) == list(before)
        for name, value in alone.state_dict().items():
            torch.testing.assert_close(weights[name], value, rtol=1e-5, atol=1e-6)
        assert not torch.equal(weights["classifier.weight"], before["classifier.weight"])
        assert torch.equal(weights["features.1.weight"], before["features.1.weight"])


def test_a_client_whose_loss_is_not_finite_gets_no_model_and_the_others_do() -> None:
    model = build_model("small-cnn", class_count=10, image_shape=SHAPE)
    broken = made_samples(1)
    broken.images[3] = float("nan")
    generators = [torch.Generator().manual_seed(0) for _ in range(2)]
    (first, second), _ = train_together(model, [broken, made_samples(2)], TrainingSettings(), generators)
    assert first is None and second is not None
    with pytest.raises(UnlearningDivergedError):
        train_locally(model, broken, TrainingSettings(), torch.Generator())


class _Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.linear(images.flatten(1))
        return logits if logits.sum() > 0 else 2 * logits


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (build_model("all-cnn", class_count=10, image_shape=SHAPE, parameters={"width": 0.1}), r"BatchNorm2d\) keeps"),
        (nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10)), r"layer 1 \(Dropout\) draws at random"),
        (_Branching(), "torch.func cannot map it: vmap"),
    ],
)
def test_a_model_that_cannot_be_trained_for_several_clients_is_refused(model: nn.Module, reason: str) -> None:
    with pytest.raises(InvalidModelError, match=reason):
        check_model(model, SHAPE)
