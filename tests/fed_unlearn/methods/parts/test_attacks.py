"""Our attacks beside foolbox's on the same model and images."""

from __future__ import annotations

import foolbox
import pytest
import torch
from torch import Tensor, nn

from fed_unlearn.methods.parts.attacks import fgsm, pgd
from fed_unlearn.pass_counter import PassCounter

CLASSES = 5


@pytest.fixture
def model() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Tanh(), nn.Flatten(), nn.Linear(8 * 36, CLASSES)
        )
    return network.double().eval()


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    images = torch.rand(12, 3, 6, 6, generator=generator, dtype=torch.float64)
    return images, torch.randint(0, CLASSES, (12,), generator=generator)


def criterion(labels: Tensor, targeted: bool) -> foolbox.criteria.Criterion:
    return (
        foolbox.criteria.TargetedMisclassification(labels) if targeted else foolbox.criteria.Misclassification(labels)
    )


def reference(
    attack: foolbox.Attack, model: nn.Module, batch: tuple[Tensor, Tensor], bound: float, targeted: bool
) -> Tensor:
    images, labels = batch
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    return attack.run(wrapped, images, criterion(labels, targeted), epsilon=bound)


def test_fgsm_equals_foolbox(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    expected = reference(foolbox.attacks.LinfFastGradientAttack(random_start=False), model, batch, 0.1, False)
    torch.testing.assert_close(fgsm(model, *batch, bound=0.1), expected)


@pytest.mark.parametrize("targeted", [False, True])
def test_pgd_equals_foolbox(model: nn.Module, batch: tuple[Tensor, Tensor], targeted: bool) -> None:
    attack = foolbox.attacks.LinfPGD(abs_stepsize=0.03, steps=7, random_start=False)
    expected = reference(attack, model, batch, 0.1, targeted)
    found = pgd(model, *batch, bound=0.1, step_size=0.03, steps=7, targeted=targeted)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("targeted", [False, True])
def test_l2_pgd_equals_foolbox(model: nn.Module, batch: tuple[Tensor, Tensor], targeted: bool) -> None:
    attack = foolbox.attacks.L2PGD(abs_stepsize=0.4, steps=7, random_start=False)
    expected = reference(attack, model, batch, 1.5, targeted)
    found = pgd(model, *batch, bound=1.5, step_size=0.4, steps=7, targeted=targeted, norm="l2")
    torch.testing.assert_close(found, expected)


def test_targeted_fgsm_is_one_targeted_pgd_step_of_foolbox(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    attack = foolbox.attacks.LinfPGD(abs_stepsize=0.05, steps=1, random_start=False)
    expected = reference(attack, model, batch, 0.05, True)
    torch.testing.assert_close(fgsm(model, *batch, bound=0.05, targeted=True), expected)


def test_an_attack_leaves_the_model_alone(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    pgd(model, *batch, bound=0.1, step_size=0.03, steps=2)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(module.training for module in model.modules())


def test_an_image_is_moved_alike_alone_and_in_a_batch(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    images, labels = batch
    together = pgd(model, images, labels, bound=1.0, step_size=0.3, steps=4, norm="l2")
    alone = pgd(model, images[3:4], labels[3:4], bound=1.0, step_size=0.3, steps=4, norm="l2")
    torch.testing.assert_close(together[3:4], alone)


def test_images_without_a_gradient_stay_where_they_are(batch: tuple[Tensor, Tensor]) -> None:
    constant = nn.Sequential(nn.Flatten(), nn.Linear(108, CLASSES)).double()
    for parameter in constant.parameters():
        nn.init.zeros_(parameter)
    torch.testing.assert_close(pgd(constant, *batch, bound=1.0, step_size=0.3, steps=3, norm="l2"), batch[0])


def test_passes_are_one_forward_and_one_backward_an_image_and_step(
    model: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    passes = PassCounter()
    fgsm(model, *batch, bound=0.1, passes=passes)
    assert (passes.forward, passes.backward) == (12, 12)
    pgd(model, *batch, bound=0.1, step_size=0.1, steps=5, passes=passes)
    assert (passes.forward, passes.backward) == (12 + 60, 12 + 60)


def test_the_bound_is_on_pixels_whatever_each_channel_is_normalised_with(model: nn.Module) -> None:
    # Normalisation inside the model, with another deviation for each channel: the trap is a bound that differs by them.
    mean, deviation = torch.tensor([0.5, 0.4, 0.3]).double(), torch.tensor([0.2, 1.0, 5.0]).double()
    normalised = nn.Sequential(Normalised(mean, deviation), model).eval()
    images = torch.full((4, 3, 6, 6), 0.5, dtype=torch.float64)
    labels = torch.arange(4)
    wrapped = foolbox.PyTorchModel(
        model, bounds=(0, 1), device="cpu", preprocessing={"mean": mean.tolist(), "std": deviation.tolist(), "axis": -3}
    )
    attack = foolbox.attacks.LinfFastGradientAttack(random_start=False)
    expected = attack.run(wrapped, images, criterion(labels, False), epsilon=0.1)
    found = fgsm(normalised, images, labels, bound=0.1)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    for channel in range(3):
        assert float((found - images)[:, channel].abs().max()) == pytest.approx(0.1)


class Normalised(nn.Module):
    def __init__(self, mean: Tensor, deviation: Tensor) -> None:
        super().__init__()
        self.mean, self.deviation = mean.view(-1, 1, 1), deviation.view(-1, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.deviation
