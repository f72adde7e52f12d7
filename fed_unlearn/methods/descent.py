"""Gradient descent on the forget set towards given labels, until the set is no longer recognised."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from fed_unlearn.data.images import ImageSet
from fed_unlearn.errors import InvalidModelError
from fed_unlearn.inference import batch_slices, device_of
from fed_unlearn.methods.base import Method, Workspace
from fed_unlearn.methods.validation import require

CHECK_INTERVAL = 8  # optimizer steps between two looks at the losses, each of which waits for the device


@dataclass(frozen=True, kw_only=True)
class LabelDescent(Method):
    """Base of the methods that minimise the cross-entropy of the forget set towards other labels.

    Parameters
    ----------
    epochs : int
        Most passes over the forget set; fewer are made once the aim is met.
    learning_rate, momentum : float
        Of SGD.
    batch_size : int
        Forget samples in one optimizer step.
    target_accuracy : float
        The aim: at most this share of the forget set is still predicted under its own label.
    """

    epochs: int = 10
    learning_rate: float = 1e-4
    momentum: float = 0.9
    batch_size: int = 64
    target_accuracy: float = 0.01

    def __post_init__(self) -> None:
        require("epochs", self.name, self.epochs, int, minimum=1)
        require("learning_rate", self.name, self.learning_rate, float, above=0)
        require("momentum", self.name, self.momentum, float, minimum=0, below=1)
        require("batch_size", self.name, self.batch_size, int, minimum=1)
        require("target_accuracy", self.name, self.target_accuracy, float, minimum=0, below=1)

    def stronger(self) -> Self:
        """Twice the learning rate and twice the epochs."""
        return replace(self, learning_rate=2 * self.learning_rate, epochs=2 * self.epochs)

    def _descend(self, work: Workspace, samples: ImageSet, targets: Tensor) -> tuple[bool, int]:
        """Train ``work.model`` on ``samples`` under ``targets``; whether the aim was met, and the steps taken."""
        parameters = [parameter for parameter in work.model.parameters() if parameter.requires_grad]
        if not parameters:
            raise InvalidModelError(f"{self.name}: the model has no parameter that may be trained")
        optimizer = torch.optim.SGD(parameters, lr=self.learning_rate, momentum=self.momentum)
        steps, seen, checked_at = 0, 0, -len(samples)
        window = _Window()
        for _ in range(self.epochs):
            order = torch.randperm(len(samples), generator=work.generator).to(samples.labels.device)
            batches = torch.split(order, self.batch_size)
            for number, indices in enumerate(batches, start=1):
                images, labels = samples.batch(indices)
                logits = work.model(images)
                loss = functional.cross_entropy(logits, targets[indices])
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                optimizer.step()
                steps, seen = steps + 1, seen + len(indices)
                work.passes.add(forward=len(indices), backward=len(indices))
                window.add(loss.detach(), _recognised(logits.detach(), labels, work.class_count), len(indices))
                if number % CHECK_INTERVAL and number < len(batches):
                    continue
                share = self._close(window, steps)
                # The batches' own share costs nothing. The whole set is read only where that promises success,
                # and at most once for every time that it was trained on.
                if share <= self.target_accuracy and seen - checked_at >= len(samples):
                    checked_at = seen
                    if self._aim_met(work, samples):
                        return True, steps
        return checked_at != seen and self._aim_met(work, samples), steps

    def _close(self, window: _Window, steps: int) -> float:
        """The share of the window's samples that were recognised; its losses are checked and it is emptied."""
        losses = torch.stack(window.losses)
        finite = torch.isfinite(losses)
        if not bool(finite.all()):
            first = int((~finite).nonzero()[0])
            self._check_finite(losses[first], steps - len(losses) + first + 1)
        share = int(torch.stack(window.recognised).sum()) / window.samples
        window.clear()
        return share

    def _aim_met(self, work: Workspace, samples: ImageSet) -> bool:
        return forget_accuracy(work, samples) <= self.target_accuracy


@dataclass
class _Window:
    """What happened since the last look; kept on the device, so that adding to it waits for nothing."""

    losses: list[Tensor] = field(default_factory=list)
    recognised: list[Tensor] = field(default_factory=list)
    samples: int = 0

    def add(self, loss: Tensor, recognised: Tensor, samples: int) -> None:
        self.losses.append(loss)
        self.recognised.append(recognised)
        self.samples += samples

    def clear(self) -> None:
        self.losses.clear()
        self.recognised.clear()
        self.samples = 0


def forget_accuracy(work: Workspace, samples: ImageSet) -> float:
    """Share of the samples that the model's own outputs still put first; counted as forward passes."""
    counts = []
    with torch.inference_mode():
        for batch in batch_slices(samples, samples.images.device):
            images, labels = samples.batch(batch)
            counts.append(_recognised(work.model(images), labels, work.class_count))
    work.passes.add(forward=len(samples))
    return int(torch.stack(counts).sum()) / len(samples)


def on_device(work: Workspace) -> ImageSet:
    """The forget set on the model's device, so that its batches are indexed there."""
    device = device_of(work.model)
    return ImageSet(work.forget.images.to(device), work.forget.labels.to(device), work.forget.ids)


def _recognised(logits: Tensor, labels: Tensor, class_count: int) -> Tensor:
    return (logits[:, :class_count].argmax(dim=1) == labels).sum()
