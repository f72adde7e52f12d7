"""Training of the upper part of a divided model, on what lies below it and on the answers of the model before."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from fed_unlearn.batch_plan import batch_count, split_into_batches
from fed_unlearn.methods.parts.blocks import Division, module_or_none
from fed_unlearn.methods.parts.checks import check_losses
from fed_unlearn.methods.parts.upper_batches import UpperBatch, UpperBatches
from fed_unlearn.seeding import isolated_random

_CHECK_INTERVAL = 50  # steps between two checks of the losses, each of which waits for the device


@dataclass(frozen=True, kw_only=True)
class UpperTraining:
    """How the upper part of a divided model is trained.

    Minimises ``(1 - d) CE + d T^2 KL(f0 without the forgotten classes || f)``, where ``f0`` is the model before; CE
    alone where batches do not hold its answers.

    Attributes
    ----------
    distillation : float
        d, in [0, 1].
    temperature : float
        T, which divides the logits in the divergence.
    learning_rate, momentum, weight_decay : float
        Learning rate, momentum and weight decay of SGD. The learning rate falls to zero along a cosine.
    batch_size : int
    max_gradient_norm : float
        Longer gradients are scaled down to this norm. 0 means no bound.
    """

    distillation: float
    temperature: float
    learning_rate: float
    momentum: float
    weight_decay: float
    batch_size: int
    max_gradient_norm: float

    def steps_of(self, count: int, epochs: int) -> int:
        """Number of steps of some passes over the samples.

        Parameters
        ----------
        count : int
            Number of samples.
        epochs : int
            Passes over all of them.

        Returns
        -------
        int
        """
        return epochs * batch_count(count, self.batch_size)

    def rate_at(self, step: int, steps: int) -> float:
        """Learning rate of a step: it falls from the first one along a cosine.

        Parameters
        ----------
        step : int
            Number of the step, counted from 1.
        steps : int
            Number of all steps.

        Returns
        -------
        float
            The learning rate, above 0 also at the last step.
        """
        return self.learning_rate * (1 + math.cos(math.pi * (step - 1) / steps)) / 2

    def loss(self, logits: Tensor, batch: UpperBatch, forgotten: Sequence[int]) -> Tensor:
        """The loss of one batch, in nats.

        Parameters
        ----------
        logits : Tensor of shape (b, classes)
        batch : UpperBatch
        forgotten : sequence of int
            Classes whose logits the model before is not asked for.
        """
        loss = functional.cross_entropy(logits, batch.labels)
        if batch.answers is None:
            return loss
        wanted = batch.answers.index_fill(
            1, torch.tensor(list(forgotten), dtype=torch.int64, device=logits.device), -torch.inf
        )
        divergence = functional.kl_div(
            functional.log_softmax(logits / self.temperature, dim=1),
            functional.softmax(wanted / self.temperature, dim=1),
            reduction="batchmean",
        )
        return (1 - self.distillation) * loss + self.distillation * self.temperature**2 * divergence


def train_upper(
    user: str,
    batches: UpperBatches,
    parameters: Sequence[nn.Parameter],
    training: UpperTraining,
    *,
    epochs: int,
    forgotten: Sequence[int],
    generator: torch.Generator,
    rounds: tuple[int, int] = (0, 1),
) -> int:
    """Train the upper part in place.

    Parameters
    ----------
    user : str
        Name of the method, for error messages.
    batches : UpperBatches
        Batches of the samples that are trained on. Passes through the upper part are not counted here.
    parameters : sequence of nn.Parameter
        Parameters that are trained.
    training : UpperTraining
    epochs : int
        Passes over the samples.
    forgotten : sequence of int
        Forgotten classes.
    generator : torch.Generator
        Gives the order of samples, and the seed of dropout.
    rounds : tuple of int and int
        Number of this round, counted from 0, and of all rounds, over which the learning rate falls.

    Returns
    -------
    int
        Number of steps.
    """
    model, count = batches.model, len(batches.samples)
    steps = training.steps_of(count, epochs)
    before, total = rounds[0] * steps, rounds[1] * steps
    optimizer = torch.optim.SGD(
        parameters, lr=training.learning_rate, momentum=training.momentum, weight_decay=training.weight_decay
    )
    losses: list[Tensor] = []
    with isolated_random(int(torch.randint(2**62, (), generator=generator))):  # dropout draws from global ones
        for step, batch in enumerate(_cycled(batches, count, training.batch_size, steps, generator), start=1):
            optimizer.param_groups[0]["lr"] = training.rate_at(before + step, total)
            _set_modes(model, batches.division, is_single=len(batch.labels) == 1)
            loss = training.loss(batches.division.upper(batch.inputs).float(), batch, forgotten)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            if training.max_gradient_norm:
                nn.utils.clip_grad_norm_(parameters, training.max_gradient_norm)
            optimizer.step()
            losses.append(loss.detach())
            if step % _CHECK_INTERVAL == 0 or step == steps:
                check_losses(user, losses, step)
                losses.clear()
    model.eval()
    return steps


@contextmanager
def alone_trained(model: nn.Module, parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Let nothing but some parameters of a model have gradients, for the time of a ``with`` block.

    Parameters
    ----------
    model : nn.Module
        The model. Its other parameters require gradients again at the end.
    parameters : sequence of nn.Parameter
        Parameters that go on requiring gradients.
    """
    trained = set(parameters)
    still = [each for each in model.parameters() if each.requires_grad and each not in trained]
    for parameter in still:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in still:
            parameter.requires_grad_(True)


def _set_modes(model: nn.Module, division: Division, *, is_single: bool) -> None:
    """Training mode for what is above the division, but for BatchNorm that is frozen or gets one sample alone."""
    model.eval()
    if division.lower is not None or not division.kept:
        division.upper.train()
    else:
        for module in (module_or_none(model, name) for block in division.reset for name in block.layers):
            if module is not None:
                module.train()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
            frozen = module.affine and not any(part.requires_grad for part in module.parameters())
            module.train(not (frozen or is_single))


def _cycled(
    batches: UpperBatches, count: int, batch_size: int, steps: int, generator: torch.Generator
) -> Iterator[UpperBatch]:
    """As many batches as there are steps. Every pass has a new order."""
    left = steps
    while left > 0:
        plan = split_into_batches(torch.randperm(count, generator=generator), batch_size)[:left]
        left -= len(plan)
        yield from batches.at(plan)
