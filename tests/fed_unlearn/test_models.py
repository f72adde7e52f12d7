import copy
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.functional import cross_entropy

from fed_unlearn.data.sources import load_source
from fed_unlearn.errors import InvalidModelError, InvalidParameterError
from fed_unlearn.models import (
    AllCNN,
    Normalize,
    build_model,
    checkpoint_parameters,
    last_linear,
    load_checkpoint,
    save_checkpoint,
)


def for_digits(name: str, seed: int = 0, parameters: dict[str, object] | None = None) -> nn.Module:
    return build_model(name, class_count=10, image_shape=(1, 8, 8), seed=seed, parameters=parameters)


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Flat(nn.Module):
    def __init__(self, class_count: int, image_shape: tuple[int, int, int], hidden: int = 4) -> None:
        super().__init__()
        channels, height, width = image_shape
        self.layers = nn.Sequential(nn.Linear(channels * height * width, hidden), nn.Linear(hidden, class_count))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(images.flatten(1))
        return logits


def one_logit(class_count: int, image_shape: tuple[int, int, int]) -> nn.Module:
    return Flat(1, image_shape)


def no_module(class_count: int, image_shape: tuple[int, int, int]) -> int:
    return 3


def test_normalize_against_the_formula_and_out_of_checkpoints() -> None:
    layer = Normalize(3, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 1.0))
    images = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    expected = torch.stack([(images[:, c] - (0.1, 0.2, 0.3)[c]) / (0.5, 0.25, 1.0)[c] for c in range(3)], dim=1)
    torch.testing.assert_close(layer(images), expected)
    assert layer.state_dict() == {}
    with pytest.raises(InvalidParameterError, match="2 values were given for 3 channels"):
        Normalize(3, mean=(0.1, 0.2))
    with pytest.raises(InvalidParameterError, match="std: 0"):
        Normalize(3, std=0.0)


@pytest.mark.usefixtures("one_thread")
def test_small_cnn_learns_digits_in_a_few_epochs() -> None:
    source = load_source("digits")
    model = build_model("small-cnn", class_count=10, image_shape=source.image_shape)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    generator = torch.Generator().manual_seed(0)
    images, labels = source.train.batch()
    for _ in range(5):
        for batch in torch.split(torch.randperm(len(labels), generator=generator), 32):
            optimizer.zero_grad()
            torch.autograd.backward(cross_entropy(model(images[batch]), labels[batch]))
            optimizer.step()
    images, labels = source.test.batch()
    with torch.inference_mode():
        assert (model(images).argmax(1) == labels).float().mean() >= 0.97
    assert sum(parameter.numel() for parameter in model.parameters()) < 15_000


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 112, 92), (3, 33, 17), (1, 5, 4)])
def test_small_cnn_reads_images_of_any_size(shape: tuple[int, int, int]) -> None:
    model = build_model("small-cnn", class_count=7, image_shape=shape)
    assert model(torch.rand(2, *shape)).shape == (2, 7)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def test_all_cnn_has_the_tensors_of_the_published_code() -> None:
    model = build_model("all-cnn", class_count=10, image_shape=(3, 32, 32), parameters={"width": 0.5})
    state = model.state_dict()
    assert sum(tensor.numel() for tensor in state.values()) == 408_162
    convolutions = {name: tuple(tensor.shape) for name, tensor in state.items() if tensor.ndim == 4}
    assert convolutions == {
        "features.0.0.weight": (48, 3, 3, 3),
        "features.1.0.weight": (48, 48, 3, 3),
        "features.2.0.weight": (96, 48, 3, 3),
        "features.4.0.weight": (96, 96, 3, 3),
        "features.5.0.weight": (96, 96, 3, 3),
        "features.6.0.weight": (96, 96, 3, 3),
        "features.8.0.weight": (96, 96, 3, 3),
        "features.9.0.weight": (96, 96, 1, 1),
    }
    assert state["classifier.0.weight"].shape == (10, 96)


def test_initial_weights_follow_the_seed_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = for_digits("small-cnn", seed=3).state_dict()
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(6)
    again = for_digits("small-cnn", seed=3).state_dict()
    other = for_digits("small-cnn", seed=4).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["classifier.weight"], other["classifier.weight"])


def test_torchvision_model_is_torchvisions_own_behind_the_normalisation() -> None:
    import torchvision

    model = build_model("torchvision:resnet18", class_count=5, image_shape=(3, 64, 64)).eval()
    plain = torchvision.models.resnet18(num_classes=5).eval()
    plain.load_state_dict(model.state_dict())
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(model(images), plain((images - 0.5) / 0.5))


def test_torchvision_models_are_copied_and_pickled_with_their_normalisation() -> None:
    import torchvision

    model = build_model("torchvision:resnet18", class_count=5, image_shape=(1, 8, 8)).eval()
    images = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for made in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert isinstance(made, torchvision.models.ResNet) and type(made) is type(model)
        assert torch.equal(made(images), model(images))


def test_torchvision_resnet_keeps_small_images_large() -> None:
    model = build_model("torchvision:resnet18", class_count=5, image_shape=(1, 32, 32))
    seen: list[tuple[int, ...]] = []
    model.get_submodule("layer1").register_forward_hook(lambda _m, _i, output: seen.append(tuple(output.shape[1:])))
    assert model.eval()(torch.rand(1, 1, 32, 32)).shape == (1, 5)
    assert seen == [(64, 32, 32)]


def test_torchvision_model_of_other_channels() -> None:
    model = build_model("torchvision:mobilenet_v3_small", class_count=5, image_shape=(1, 32, 32))
    assert model.eval()(torch.rand(2, 1, 32, 32)).shape == (2, 5)


def test_own_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "own_models", sys.modules[__name__])
    model = for_digits("own_models:Flat", parameters={"hidden": 6})
    assert last_linear(model) == ("layers.1", model.get_submodule("layers.1"))
    assert last_linear(model, "layers.0")[1].out_features == 6
    with pytest.raises(InvalidModelError, match=r"no nn.Linear named 'head'; it has layers.0, layers.1"):
        last_linear(model, "head")
    with pytest.raises(InvalidModelError, match=r"Conv2d has no nn\.Linear"):
        last_linear(nn.Conv2d(1, 1, 1))


@pytest.mark.parametrize(
    ("name", "parameters", "error", "message"),
    [
        ("big-cnn", {}, InvalidModelError, "'big-cnn' is unknown; expected 'small-cnn', 'all-cnn'"),
        ("small-cnn", {"depth": 3}, InvalidParameterError, "'depth' is unknown; expected width, mean, std"),
        ("small-cnn", {"width": "wide"}, InvalidParameterError, "cannot be built with width='wide'"),
        ("small-cnn", {"width": 0}, InvalidParameterError, "width: 0 was given"),
        ("all-cnn", {"width": -1.0}, InvalidParameterError, r"width: -1\.0 was given"),
        ("torchvision:resnet19", {}, InvalidModelError, "no classification model of that name; for instance resnet"),
        ("torchvision:alexnet", {}, InvalidModelError, r"cannot read images of shape \(1, 8, 8\)"),
        ("nowhere.models:build", {}, InvalidModelError, "nowhere.models cannot be imported"),
        ("math:nothing", {}, InvalidModelError, "math has no callable 'nothing'"),
        ("own_models:one_logit", {}, InvalidModelError, r"gave \(1, 1\) for one image; expected logits of shape"),
        ("own_models:no_module", {}, InvalidModelError, "a int was built; expected a torch.nn.Module"),
        ("own_models:Flat", {"depth": 2}, InvalidParameterError, "cannot be built with depth=2"),
    ],
)
def test_what_cannot_be_built_is_named(
    name: str, parameters: dict[str, object], error: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "own_models", sys.modules[__name__])
    with pytest.raises(error, match=message) as caught:
        for_digits(name, parameters=parameters)
    assert "\n" not in str(caught.value)


def test_checkpoint_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "model.safetensors"
    model = for_digits("all-cnn", parameters={"width": 0.1}, seed=1)
    model(torch.rand(4, 1, 8, 8))
    save_checkpoint(model, path, {"note": "kept"})
    other = for_digits("all-cnn", parameters={"width": 0.1}, seed=2)
    load_checkpoint(other, path)
    for name, tensor in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor)
        assert other.state_dict()[name].dtype == tensor.dtype
    assert set(load_file(path)) == set(model.state_dict())
    assert [file.name for file in path.parent.iterdir()] == ["model.safetensors"]


def test_checkpoint_that_does_not_fit_names_the_tensor_and_changes_nothing(tmp_path: Path) -> None:
    model = for_digits("small-cnn")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    path = tmp_path / "model.safetensors"
    with pytest.raises(InvalidModelError, match=r"model\.safetensors: no such checkpoint"):
        load_checkpoint(model, path)
    path.write_text("weights")
    with pytest.raises(InvalidModelError, match=r"model\.safetensors: not a readable safetensors file"):
        load_checkpoint(model, path)
    save_checkpoint(build_model("small-cnn", class_count=4, image_shape=(1, 8, 8)), path)
    with pytest.raises(
        InvalidModelError, match=r"'classifier.weight' has shape \(4, 512\); the model expects \(10, 512\)"
    ):
        load_checkpoint(model, path)
    save_checkpoint(for_digits("all-cnn"), path)
    with pytest.raises(InvalidModelError, match="the checkpoint is of another model"):
        load_checkpoint(model, path)
    save_file({**model.state_dict(), "extra": torch.zeros(2)}, path)
    with pytest.raises(InvalidModelError, match=r"tensor 'extra' of shape \(2,\) is not one of the model's"):
        load_checkpoint(model, path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(("name", "width"), [("small-cnn", 1), ("small-cnn", 12), ("all-cnn", 0.5), ("all-cnn", 0.13)])
def test_a_checkpoint_tells_the_width_that_it_loads_at(tmp_path: Path, name: str, width: float) -> None:
    saved = for_digits(name, seed=1, parameters={"width": width})
    save_checkpoint(saved, tmp_path / "model.safetensors")
    told = checkpoint_parameters(name, tmp_path / "model.safetensors")
    model = for_digits(name, seed=2, parameters=told)
    load_checkpoint(model, tmp_path / "model.safetensors")
    assert all(torch.equal(tensor, saved.state_dict()[key]) for key, tensor in model.state_dict().items())


def test_half_width_is_told_as_a_half() -> None:
    shapes = {"features.0.0.weight": (48, 3, 3, 3), "classifier.0.weight": (10, 96)}
    assert AllCNN.parameters_from(shapes) == {"width": 0.5}
    assert AllCNN.parameters_from({**shapes, "classifier.0.weight": (10, 95)}) == {}


def test_shapes_of_another_model_tell_nothing(tmp_path: Path) -> None:
    save_checkpoint(for_digits("small-cnn"), tmp_path / "model.safetensors")
    assert checkpoint_parameters("all-cnn", tmp_path / "model.safetensors") == {}
    assert checkpoint_parameters("torchvision:resnet18", tmp_path / "model.safetensors") == {}
    save_checkpoint(for_digits("all-cnn", parameters={"width": 0.1}), tmp_path / "other.safetensors")
    assert checkpoint_parameters("small-cnn", tmp_path / "other.safetensors") == {}
    (tmp_path / "text.safetensors").write_text("nothing of the kind")
    with pytest.raises(InvalidModelError, match=r"text\.safetensors: not a readable safetensors file"):
        checkpoint_parameters("all-cnn", tmp_path / "text.safetensors")
    with pytest.raises(InvalidModelError, match=r"none\.safetensors: no such checkpoint"):
        checkpoint_parameters("all-cnn", tmp_path / "none.safetensors")
