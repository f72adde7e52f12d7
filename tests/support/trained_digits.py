"""A small network with BatchNorm, trained on real handwritten digits, and what the tests of methods read off it."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits
from torch import nn

from fed_unlearn.data.images import ImageSet
from fed_unlearn.logits import predict_logits

FORGOTTEN = 3


def accuracy(model: nn.Module, samples: ImageSet) -> float:
    return float((predict_logits(model, samples).argmax(dim=1) == samples.labels).double().mean())


def state_bytes(model: nn.Module) -> dict[str, bytes]:
    return {name: tensor.cpu().numpy().tobytes() for name, tensor in model.state_dict().items()}


@dataclass(frozen=True)
class Digits:
    """A trained model and the parts of the data that unlearning class 3 speaks of."""

    trained: nn.Module
    forget: ImageSet
    retain: ImageSet
    test_forget: ImageSet
    test_retain: ImageSet

    @property
    def model(self) -> nn.Module:
        return copy.deepcopy(self.trained)


def untrained_network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(16 * 4 * 4, 48),
            nn.ReLU(),
            nn.Linear(48, 10),
        )


def fitted(network: nn.Module, samples: ImageSet, epochs: int) -> nn.Module:
    """The network itself, trained."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    generator = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        for indices in torch.randperm(len(samples), generator=generator).split(32):
            images, labels = samples.batch(indices)
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images), labels).backward()
            optimizer.step()
    return network.eval()


def train_digits() -> Digits:
    pixels, targets = load_digits(return_X_y=True)
    images = torch.tensor(pixels / 16, dtype=torch.float32).view(-1, 1, 8, 8)
    labels = torch.tensor(targets, dtype=torch.int64)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    samples = ImageSet(images, labels)
    train, test = samples.subset(order[:1400]), samples.subset(order[1400:])
    network = fitted(untrained_network(), train, epochs=8)
    others = [label for label in range(10) if label != FORGOTTEN]
    return Digits(
        trained=network,
        forget=train.of_classes([FORGOTTEN]),
        retain=train.of_classes(others),
        test_forget=test.of_classes([FORGOTTEN]),
        test_retain=test.of_classes(others),
    )
