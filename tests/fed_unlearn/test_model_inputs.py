from __future__ import annotations

import copy
from collections.abc import Callable

import odd_models
import pytest
import torch
from method_cases import METHODS, quick
from torch import nn

from fed_unlearn.audits.probe import probe
from fed_unlearn.audits.relearning import RelearnSettings, relearn
from fed_unlearn.data.images import ImageSet
from fed_unlearn.logits import predict_logits
from fed_unlearn.methods import create
from fed_unlearn.methods.parts.attacks import fgsm, pgd
from fed_unlearn.methods.parts.curvature import curvature
from fed_unlearn.model_inputs import laid_out, memory_layout, model_inputs
from fed_unlearn.models import build_model
from fed_unlearn.pass_counter import PassCounter
from fed_unlearn.training import TrainingSettings, train_locally
from fed_unlearn.training.together import train_together

SHAPE = (3, 8, 8)


def seeded(build: Callable[[int, tuple[int, int, int]], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build(10, SHAPE)


def channels_last(count: int, seed: int) -> ImageSet:
    """Images as many readers give them: their channels are stored last."""
    images = torch.rand(count, 8, 8, 3, generator=torch.Generator().manual_seed(seed)).permute(0, 3, 1, 2)
    assert not images.is_contiguous()
    return ImageSet(images, torch.arange(count) % 10)


def contiguous(samples: ImageSet) -> ImageSet:
    return ImageSet(samples.images.contiguous(), samples.labels, samples.ids)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_gives_a_model_of_a_user_contiguous_images(name: str) -> None:
    model = seeded(odd_models.viewing)
    sets = channels_last(12, 1).of_classes({0, 1}), channels_last(30, 2), channels_last(20, 3)
    forget, retain, unseen = sets
    outcome = quick(name).unlearn(model, forget, retain, excluded_classes={0}, unseen=unseen)
    plain = [contiguous(part) for part in sets]
    again = quick(name).unlearn(model, plain[0], plain[1], excluded_classes={0}, unseen=plain[2])
    for key, value in outcome.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[key])


def test_audits_attacks_and_training_do_too() -> None:
    model, samples = seeded(odd_models.viewing), channels_last(40, 1)
    images, labels = samples.batch()
    torch.testing.assert_close(predict_logits(model, samples), model(images.contiguous()).detach())
    settings = RelearnSettings(max_steps=2)
    relearn(model, samples, target_accuracy=1.0, generator=torch.Generator(), settings=settings)
    probe(model, samples, None, {1, 2}, seed=0)
    for moved in (
        fgsm(model, images, labels, bound=0.1),
        pgd(model, images, labels, bound=0.1, step_size=0.05, steps=2, norm="l2"),
    ):
        assert 0 < float((moved - images).abs().max()) <= 0.1 + 1e-6
    bent = curvature(model, images, labels, step=0.1, create_graph=True, passes=PassCounter())
    assert bent.shape == (40,)
    for settings_of_training in (TrainingSettings(), TrainingSettings(augment=True)):
        alone = copy.deepcopy(model)
        train_locally(alone, samples, settings_of_training, torch.Generator().manual_seed(0))
        (together,), _ = train_together(model, [samples], settings_of_training, [torch.Generator().manual_seed(0)])
        assert together is not None
        for name, value in alone.state_dict().items():
            torch.testing.assert_close(together[name], value, rtol=1e-4, atol=1e-5)


def test_own_networks_get_the_fastest_layout_and_keep_saying_so() -> None:
    images = torch.rand(4, *SHAPE)
    own = [
        build_model(name, class_count=10, image_shape=SHAPE)
        for name in ("small-cnn", "all-cnn", "torchvision:resnet18")
    ]
    for model in [*own, copy.deepcopy(own[0])]:
        assert memory_layout(model) == torch.channels_last
        assert model_inputs(model, images).is_contiguous(memory_format=torch.channels_last)
        assert model_inputs(model, images, pack=False) is images
    for model in (seeded(odd_models.viewing), nn.DataParallel(own[0]), nn.Linear(3, 2)):
        assert memory_layout(model) == torch.contiguous_format
        assert laid_out(model, images.permute(0, 2, 3, 1)).is_contiguous() and laid_out(model, images) is images


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_models_in_half_precision_get_inputs_of_their_type_and_give_floats(dtype: torch.dtype) -> None:
    single = seeded(odd_models.network)
    half = copy.deepcopy(single).to(dtype)
    samples = channels_last(40, 1)
    assert model_inputs(half, samples.images).dtype == dtype
    assert model_inputs(half, samples.labels).dtype == torch.int64
    mixed = nn.Sequential(copy.deepcopy(half), nn.Linear(10, 10))
    assert model_inputs(mixed, samples.images).dtype == model_inputs(single, samples.images).dtype == torch.float32
    logits = predict_logits(half, samples)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, predict_logits(single, samples), rtol=0, atol=0.02)
    point = samples.images.clone().requires_grad_()
    half(model_inputs(half, point)).sum().backward()
    assert point.grad is not None and point.grad.dtype == torch.float32
    for model in (single, half):
        train_locally(model, samples, TrainingSettings(local_epochs=20), torch.Generator().manual_seed(0))
    losses = [
        float(nn.functional.cross_entropy(predict_logits(model, samples), samples.labels)) for model in (single, half)
    ]
    assert losses[1] == pytest.approx(losses[0], abs=0.15) and losses[1] < 2


@pytest.mark.parametrize("name", ["boundary-shrink", "negative-gradient+", "selective-dampening", "boundary-expanding"])
@pytest.mark.parametrize("build", [odd_models.casting, odd_models.bfloat16, odd_models.float16])
def test_methods_unlearn_in_half_precision(name: str, build: Callable[[int, tuple[int, int, int]], nn.Module]) -> None:
    model, samples = seeded(build), channels_last(60, 1)
    train_locally(model, samples, TrainingSettings(local_epochs=60), torch.Generator().manual_seed(0))
    forget = samples.of_classes({3})

    def right(judged: nn.Module) -> float:
        return float((predict_logits(judged, forget).argmax(dim=1) == 3).float().mean())

    assert right(model) > 0.5
    strong = (
        {} if name == "selective-dampening" else {"learning_rate": 0.03, "max_steps": 200, "max_gradient_norm": 1.0}
    )
    outcome = create(name, **strong).unlearn(
        model, forget, samples.of_classes(set(range(10)) - {3}), excluded_classes={3}
    )
    types = {tensor.dtype for tensor in outcome.model.state_dict().values()}
    assert types == {tensor.dtype for tensor in model.state_dict().values()} and len(types) == 1
    assert right(outcome.model) == 0
