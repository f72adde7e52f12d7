"""A client's training by SGD, reproducible from a generator."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from fed_unlearn.batch_plan import split_into_batches
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import InvalidParameterError, UnlearningDivergedError
from fed_unlearn.guards import GuardedSet, guarded_cross_entropy
from fed_unlearn.logits import device_of
from fed_unlearn.model_inputs import model_inputs
from fed_unlearn.pass_counter import PassCounter
from fed_unlearn.training.sgd import GradientDescent
from fed_unlearn.training.single_sample import single_sample


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How a client trains in one round.

    Attributes
    ----------
    local_epochs : int
        Passes over the samples of the round, at least 1.
    learning_rate : float
        Learning rate of SGD, above 0.
    momentum, weight_decay : float
        Momentum of SGD, in [0, 1), and its weight decay, at least 0.
    batch_size : int
        Samples in one step, at least 1. A last batch of one sample is joined to the one before. The only sample
        of a client leaves the statistics of BatchNorm layers that get one value a channel as they are.
    fraction : float
        Share of the samples that are used, in (0, 1]. They are drawn anew in every round.
    batch_norm : {"train", "frozen"}
        Whether BatchNorm statistics follow the batches or stay as they were received.
    augment : bool
        Whether images are flipped horizontally and shifted by up to an eighth of their side, at random.
    proximal_mu : float
        Weight of FedProx's proximal term (Li et al., MLSys 2020, eq. 2).
    """

    local_epochs: int = 1
    learning_rate: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 0.0
    batch_size: int = 32
    fraction: float = 1.0
    batch_norm: Literal["train", "frozen"] = "train"
    augment: bool = False
    proximal_mu: float = 0.0

    def __post_init__(self) -> None:
        bounds = {
            "local_epochs": self.local_epochs >= 1,
            "learning_rate": self.learning_rate > 0,
            "momentum": 0 <= self.momentum < 1,
            "weight_decay": self.weight_decay >= 0,
            "batch_size": self.batch_size >= 1,
            "fraction": 0 < self.fraction <= 1,
            "proximal_mu": self.proximal_mu >= 0,
        }
        for name, holds in bounds.items():
            if not holds:
                raise InvalidParameterError(f"training: {name} = {getattr(self, name)!r} is out of range")


def train_locally(
    model: nn.Module, samples: SampleSet, settings: TrainingSettings, generator: torch.Generator
) -> PassCounter:
    """Train a model in place.

    Parameters
    ----------
    model : nn.Module
        The model, on the device to train on.
    samples : SampleSet
        The samples to train on. An empty set changes nothing. A :class:`~fed_unlearn.guards.GuardedSet` is trained on
        with its margin.
    settings : TrainingSettings
        How to train.
    generator : torch.Generator
        Source of the drawn share, the order of samples and the augmentation, on the CPU.

    Returns
    -------
    PassCounter
        Number of samples in forward and backward passes.

    Raises
    ------
    InvalidParameterError
        If samples that are no images are to be augmented.
    UnlearningDivergedError
        If the loss of the last batch is not finite.
    """
    passes = PassCounter()
    chosen = draw_share(len(samples), settings.fraction, generator)
    if len(chosen) == 0:
        return passes
    if settings.augment and not (samples.domain.kind == "pixels" and len(samples.input_shape) == 3):
        raise InvalidParameterError(
            f"training: augment = True was given for {samples.domain.kind} of shape {samples.input_shape}; only images"
            " (channels, height, width) can be flipped and shifted"
        )
    anchor = [parameter.detach().clone() for parameter in model.parameters()] if settings.proximal_mu else []
    descent = GradientDescent(
        model.parameters(),
        learning_rate=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
    )
    _set_mode(model, settings.batch_norm)
    for _ in range(settings.local_epochs):
        order = chosen[torch.randperm(len(chosen), generator=generator)]
        plan = split_into_batches(order, settings.batch_size)
        for indices, batch in zip(plan, samples.batches(plan), strict=True):
            loss = _loss_of(model, samples, indices, batch, settings, generator)
            if anchor:
                moved = zip(model.parameters(), anchor, strict=True)
                loss = loss + settings.proximal_mu / 2 * sum((new - old).square().sum() for new, old in moved)
            loss.backward()
            descent.step()
            passes.add(forward=len(indices), backward=len(indices))
    if not torch.isfinite(loss):
        raise UnlearningDivergedError(
            f"training: the loss is {float(loss)} at learning rate {settings.learning_rate}; try a smaller one"
        )
    return passes


def _loss_of(
    model: nn.Module,
    samples: SampleSet,
    indices: Tensor,
    batch: tuple[Tensor, Tensor],
    settings: TrainingSettings,
    generator: torch.Generator,
) -> Tensor:
    """Loss of the batch at some positions, without the proximal term."""
    device = device_of(model)
    inputs, labels = batch
    if settings.augment:
        inputs = flip_and_shift(inputs, generator)
    inputs, labels = model_inputs(model, inputs.to(device), pack=False), labels.to(device)
    is_only = settings.batch_size > 1  # no other sample: a last batch of one is joined to the one before
    with single_sample(model, is_only=is_only) if len(indices) == 1 else nullcontext():
        logits = model(inputs).float()
    if isinstance(samples, GuardedSet):
        return guarded_cross_entropy(logits, labels, samples.old_labels[indices].to(device), samples.margin)
    return functional.cross_entropy(logits, labels)


def draw_share(count: int, fraction: float, generator: torch.Generator) -> Tensor:
    """Draw a random share of ``count`` samples; return their positions, int64 and sorted. At least one is drawn."""
    if fraction >= 1:
        return torch.arange(count)
    share = max(1, round(count * fraction)) if count else 0
    return torch.randperm(count, generator=generator)[:share].sort().values


def flip_and_shift(images: Tensor, generator: torch.Generator) -> Tensor:
    """Flip half of the images left to right, and shift the batch by up to an eighth of its side.

    Parameters
    ----------
    images : Tensor of shape (batch, channels, height, width)
        The batch, on the CPU.
    generator : torch.Generator
        Source of the draws, on the CPU.
    """
    flipped = torch.rand(len(images), generator=generator) < 0.5
    images = torch.where(flipped.view(-1, 1, 1, 1), images.flip(-1), images)
    height, width = images.shape[-2:]
    vertical, horizontal = max(1, height // 8), max(1, width // 8)
    top = int(torch.randint(2 * vertical + 1, (), generator=generator))
    left = int(torch.randint(2 * horizontal + 1, (), generator=generator))
    padded = functional.pad(images, (horizontal, horizontal, vertical, vertical))
    return padded[..., top : top + height, left : left + width]


def _set_mode(model: nn.Module, batch_norm: Literal["train", "frozen"]) -> None:
    model.train()
    if batch_norm == "frozen":
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
