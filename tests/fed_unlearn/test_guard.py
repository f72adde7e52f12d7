"""The guard's loss against arithmetic done by hand, and its mix of samples."""

import math

import pytest
import torch

from fed_unlearn.data.images import ImageSet
from fed_unlearn.holder import UNGUARDED, Guard, GuardedSet, guard_retained, guarded_cross_entropy
from fed_unlearn.training import TrainingSettings, train_locally

RETAINED = ImageSet(torch.zeros(2, 1, 2, 2), torch.tensor([0, 1]), ["a", "b"])
FORGOTTEN = ImageSet(torch.ones(1, 1, 2, 2), torch.tensor([2]), ["c"])


def test_loss_by_hand() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 3.0]])
    labels = torch.tensor([1, 0])
    old = torch.tensor([UNGUARDED, 2])
    first = math.log(3)
    second = math.log(math.e + 1 + math.e**3) - 1
    others = math.log(math.e + 1)
    expected = (first + second + max(0.0, 4.0 - (others - 3.0))) / 2
    assert guarded_cross_entropy(logits, labels, old, margin=4.0).item() == pytest.approx(expected, rel=1e-6)


def test_hinge_ends_at_the_margin() -> None:
    logits = torch.tensor([[9.0, 0.0, 0.0]], requires_grad=True)
    labels, old = torch.tensor([0]), torch.tensor([2])
    with_margin = guarded_cross_entropy(logits, labels, old, margin=8.0)
    assert with_margin.item() == pytest.approx(torch.nn.functional.cross_entropy(logits, labels).item())


def test_mix() -> None:
    mixed = guard_retained(RETAINED, [Guard(FORGOTTEN, torch.tensor([1]))], weight=2, margin=3.0)
    assert isinstance(mixed, GuardedSet)
    assert mixed.labels.tolist() == [0, 1, 1, 1]
    assert mixed.old_labels.tolist() == [UNGUARDED, UNGUARDED, 2, 2]
    assert guard_retained(RETAINED, [], weight=2, margin=3.0) is RETAINED


def test_training_pushes_the_old_class_down() -> None:
    def old_class_gap(margin: float) -> float:
        torch_model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))
        with torch.no_grad():
            for parameter in torch_model.parameters():
                parameter.zero_()
        mixed = guard_retained(RETAINED, [Guard(FORGOTTEN, torch.tensor([1]))], weight=1, margin=margin)
        settings = TrainingSettings(local_epochs=60, learning_rate=0.1, momentum=0.0, batch_size=3)
        train_locally(torch_model, mixed, settings, torch.Generator().manual_seed(0))
        logits = torch_model(FORGOTTEN.batch()[0])[0]
        return (torch.logsumexp(logits[:2], 0) - logits[2]).item()

    assert old_class_gap(8.0) > old_class_gap(0.0) + 2
    assert old_class_gap(8.0) == pytest.approx(8.0, abs=2.0)
