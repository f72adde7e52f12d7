import pytest
import torch
from torch import Tensor, nn

from fed_unlearn.audits.layers import output_layer, penultimate_features, raw_logits
from fed_unlearn.data.images import ImageSet
from fed_unlearn.errors import InvalidModelError
from fed_unlearn.models import build_model

SHAPE = (3, 16, 16)
IMAGES = torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(0))
SAMPLES = ImageSet(IMAGES, torch.arange(5))


class MaskedInPlace(nn.Module):
    """A wrapper that hides the class 2 of whatever it wraps."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.inner(images)
        logits[:, 2] = -torch.inf
        return logits


class HeadFirst(nn.Module):
    """Registers its output layer before the others, and has a linear layer that nothing goes through."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, 10)
        self.body = nn.Linear(768, 6)
        self.unused = nn.Linear(6, 10)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(images.flatten(1)))
        return logits


def convolutional() -> nn.Module:
    """All-CNN as published: the last layer is a 1x1 convolution, averaged over positions."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return nn.Sequential(nn.Conv2d(3, 7, 3), nn.ReLU(), nn.Conv2d(7, 10, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.mark.parametrize("name", ["small-cnn", "all-cnn"])
def test_the_built_in_networks_end_in_their_classifier(name: str) -> None:
    model = build_model(name, class_count=10, image_shape=SHAPE).eval()
    layer = output_layer("probe", model, SAMPLES)
    assert isinstance(layer, nn.Linear) and layer.out_features == 10
    features = penultimate_features(model, SAMPLES, layer)
    with torch.no_grad():
        torch.testing.assert_close(model.features(model.normalize(IMAGES)).flatten(1), features)
        torch.testing.assert_close(layer(features), model(IMAGES))


def test_maps_before_a_last_convolution_are_averaged_over_positions() -> None:
    model = convolutional()
    layer = output_layer("probe", model, SAMPLES)
    assert layer is model[2]
    with torch.no_grad():
        torch.testing.assert_close(penultimate_features(model, SAMPLES, layer), model[:2](IMAGES).mean((2, 3)))
        with raw_logits(model, layer) as logits_of:
            torch.testing.assert_close(logits_of(IMAGES), model(IMAGES))


def test_the_output_layer_is_the_last_one_passed_whatever_the_order_of_registration() -> None:
    model = HeadFirst()
    assert output_layer("probe", model, SAMPLES) is model.head


def test_raw_logits_pass_by_a_mask_and_carry_gradients() -> None:
    inner = build_model("small-cnn", class_count=10, image_shape=SHAPE).eval()
    masked = MaskedInPlace(inner)
    layer = output_layer("relearn", masked, SAMPLES)
    with raw_logits(masked, layer) as logits_of:
        logits = logits_of(IMAGES)
        torch.testing.assert_close(logits, inner(IMAGES))
        logits[:, 2].sum().backward()
    assert layer.bias.grad is not None and layer.bias.grad.tolist() == [0, 0, 5, 0, 0, 0, 0, 0, 0, 0]
    assert not layer._forward_hooks and torch.isinf(masked(IMAGES)[:, 2]).all()


def test_models_without_a_layer_of_logits_are_refused() -> None:
    with pytest.raises(InvalidModelError, match=r"probe: Sequential goes through no nn\.Linear"):
        output_layer("probe", nn.Sequential(nn.Conv2d(3, 10, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), SAMPLES)
    with pytest.raises(InvalidModelError, match="layer 'body' has 6 outputs and the model 10"):
        output_layer("probe", HeadFirst(), SAMPLES, "body")
    with pytest.raises(InvalidModelError, match=r"head = 'unused' was given; .* goes through: body, head"):
        output_layer("probe", HeadFirst(), SAMPLES, "unused")
    broken = HeadFirst()
    nn.init.constant_(broken.body.weight, torch.nan)
    with pytest.raises(InvalidModelError, match="HeadFirst: features before the output layer are not finite"):
        penultimate_features(broken, SAMPLES, broken.head)
