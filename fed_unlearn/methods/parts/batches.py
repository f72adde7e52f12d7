"""The batches of a method, and the parameters that it trains."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from fed_unlearn.batch_plan import split_into_batches
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import InvalidModelError
from fed_unlearn.logits import sent
from fed_unlearn.methods.parts.checks import unused_parameters

_PARAMETRIZED = ".parametrizations."


@dataclass(frozen=True)
class Batch:
    """The samples of one step and the model's logits for them. Forget samples stand before retained ones.

    Attributes
    ----------
    step : int
        Number of the step, counted from 1.
    positions : Tensor of shape (f,), int64
        Positions of the batch's forget samples in the forget set.
    images, labels, logits : Tensor of shape (f + r, ...)
        All samples of the step. ``logits`` carry gradients.
    """

    step: int
    positions: Tensor
    images: Tensor
    labels: Tensor
    logits: Tensor

    @property
    def forget_images(self) -> Tensor:
        """Images of the forget samples, of shape (f, channels, height, width)."""
        return self.images[: len(self.positions)]

    @property
    def forget_labels(self) -> Tensor:
        """Labels that the forget samples were trained with, of shape (f,)."""
        return self.labels[: len(self.positions)]

    @property
    def forget_logits(self) -> Tensor:
        """Logits of the forget samples, of shape (f, classes)."""
        return self.logits[: len(self.positions)]

    @property
    def retain_images(self) -> Tensor:
        """Images of the retained samples, of shape (r, channels, height, width)."""
        return self.images[len(self.positions) :]

    @property
    def retain_labels(self) -> Tensor:
        """Labels of the retained samples, of shape (r,)."""
        return self.labels[len(self.positions) :]

    @property
    def retain_logits(self) -> Tensor:
        """Logits of the retained samples, of shape (r, classes)."""
        return self.logits[len(self.positions) :]


Batches = Iterator[tuple[Tensor, Tensor, Tensor]]


def cycle(samples: SampleSet, batch_size: int, generator: torch.Generator) -> Batches:
    """Yield batches without end, as positions, images and labels. Every pass has a new order."""
    while True:
        order = sent(torch.randperm(len(samples), generator=generator), samples.labels.device)
        plan = split_into_batches(order, batch_size)
        for positions, (images, labels) in zip(plan, samples.batches(plan), strict=True):
            yield positions, images, labels


@dataclass
class Window:
    """The losses and right answers of the steps since the last check.

    They stay on the device, so that adding a step does not wait for it.

    Attributes
    ----------
    losses : list of Tensor
        Scalar loss of each step.
    right : list of Tensor
        Number of forget samples of each step that were predicted under their own label.
    count : int
        Number of forget samples of all steps.
    """

    losses: list[Tensor] = field(default_factory=list)
    right: list[Tensor] = field(default_factory=list)
    count: int = 0

    def add(self, loss: Tensor, batch: Batch, class_count: int) -> None:
        """Add one step: its detached loss, and how many of its forget samples were right before it."""
        self.losses.append(loss)
        self.right.append((batch.forget_logits.detach()[:, :class_count].argmax(dim=1) == batch.forget_labels).sum())
        self.count += len(batch.positions)

    def close(self) -> float:
        """Empty the window; return the share of its forget samples that were right, 0 if it has none."""
        share = int(torch.stack(self.right).sum()) / self.count if self.count else 0.0
        self.losses.clear()
        self.right.clear()
        self.count = 0
        return share


@contextmanager
def trained_parameters(
    method: str, model: nn.Module, last_layers: int, samples: SampleSet | None = None
) -> Iterator[list[nn.Parameter]]:
    """Freeze all but the last layers. At the end every parameter gets its own ``requires_grad`` back.

    Parameters
    ----------
    method : str
        Name of the method, for the message.
    model : nn.Module
        The model. Its parameters must be registered in the order from input to output.
    last_layers : int
        Number of layers that stay trainable, counted from the output. Layers are modules whose weight has two or more
        dimensions, such as convolutions and linear layers. Their biases and the normalisation after them stay
        trainable too. 0, or more than there are, means all layers.
    samples : SampleSet, optional
        Samples of which the first is passed through the model: layers on which its logits do not depend, such as a
        projector that only training uses, are not counted. Without samples all layers are.

    Yields
    ------
    list of nn.Parameter
        The parameters to train, without those that the model itself has frozen.

    Raises
    ------
    InvalidModelError
        If there is no such parameter, or no gradient leads to any.
    """
    every = list(model.parameters())
    unused = unused_parameters(method, model, samples) if samples is not None and last_layers else frozenset[str]()
    first = _first_trained(model, last_layers, unused)
    trained = [parameter for parameter in every[first:] if parameter.requires_grad]
    if not trained:
        part = f" in its last {last_layers} layers" if last_layers else ""
        raise InvalidModelError(f"{method}: the model has no parameter{part} that may be trained")
    frozen = [parameter for parameter in every[:first] if parameter.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        yield trained
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)


def _first_trained(model: nn.Module, last_layers: int, unused: Collection[str]) -> int:
    """Position, among all parameters, of the first one of the last layers, of which unused ones do not count."""
    if last_layers == 0:
        return 0
    starts: dict[str, int] = {}
    layers: list[str] = []
    for index, (name, parameter) in enumerate(model.named_parameters()):
        # A parametrised weight is made of several parameters, which stand in a module of their own.
        owner = name.partition(_PARAMETRIZED)[0] if _PARAMETRIZED in name else name.rpartition(".")[0]
        starts.setdefault(owner, index)
        if parameter.ndim >= 2 and name not in unused and owner not in layers:
            layers.append(owner)
    return starts[layers[-last_layers]] if last_layers <= len(layers) else 0
