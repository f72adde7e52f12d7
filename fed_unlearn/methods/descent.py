"""Gradient descent that stops as soon as the forget set is no longer recognised.

The loop that most methods share: batches of forget samples, of retained samples or of both; the loss is the method's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor, nn

from fed_unlearn.data.images import Samples
from fed_unlearn.errors import UnlearningDivergedError
from fed_unlearn.logits import batch_slices
from fed_unlearn.methods.base import Method, Workspace
from fed_unlearn.methods.parts.batches import Batch, Batches, Window, cycle
from fed_unlearn.methods.parts.trained import trained_parameters
from fed_unlearn.methods.parts.validation import require

# Optimizer steps between two looks at the losses, each of which waits for the device; fewer for small forget sets.
CHECK_INTERVAL, SHORTEST_INTERVAL = 8, 2
MEASURED_RETAINED = 1000  # retained samples that the given and the changed model are compared on, at most

Loss = Callable[[Batch], Tensor]


@dataclass(frozen=True, kw_only=True)
class Descent(Method):
    """Base of the methods that take gradient steps until their aim is met.

    Normalisation statistics stay frozen: batches of forget samples alone would drag them away.

    Parameters
    ----------
    learning_rate, momentum : float
        Of SGD.
    batch_size : int
        Samples of each set in one step.
    max_steps : int
        Bound on the steps.
    target_accuracy : float
        The aim: at most this share of the forget set is still predicted under its own label.
    retain_tolerance : float
        Where a step trains on retained samples, the aim is also that at most this share fewer of them are right than
        the given model had right.
    max_gradient_norm : float
        Longer gradients are scaled down to it; 0 for no bound.
    trained_layers : int
        So many of the last convolutions and linear layers are trained, with what lies between and behind them; the
        rest stays as it is. The order is the one in which the model registers them. 0 for all layers.
    """

    learning_rate: float = 1e-3
    momentum: float = 0.9
    batch_size: int = 64
    max_steps: int = 2000
    target_accuracy: float = 0.01
    retain_tolerance: float = 0.01
    max_gradient_norm: float = 0.0
    trained_layers: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require("learning_rate", self.name, self.learning_rate, float, above=0)
        require("momentum", self.name, self.momentum, float, minimum=0, below=1)
        require("batch_size", self.name, self.batch_size, int, minimum=1)
        require("max_steps", self.name, self.max_steps, int, minimum=1)
        require("target_accuracy", self.name, self.target_accuracy, float, minimum=0, below=1)
        require("retain_tolerance", self.name, self.retain_tolerance, float, minimum=0, maximum=1)
        require("max_gradient_norm", self.name, self.max_gradient_norm, float, minimum=0)
        require("trained_layers", self.name, self.trained_layers, int, minimum=0)

    def stronger(self) -> Self:
        """Twice the learning rate and twice the steps."""
        return replace(self, learning_rate=2 * self.learning_rate, max_steps=2 * self.max_steps)

    def _reads(self, step: int) -> tuple[bool, bool]:
        """Whether a step, counted from 1, reads forget samples and retained samples; both where there are any."""
        return True, True

    def _most_steps(self, work: Workspace) -> int:
        """Bound on the steps for this forget set."""
        return self.max_steps

    def _optimizer(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=self.learning_rate, momentum=self.momentum)

    def _adjust_gradients(self, parameters: list[nn.Parameter]) -> None:
        """Change the gradients before a step is taken with them."""
        if self.max_gradient_norm:
            nn.utils.clip_grad_norm_(parameters, self.max_gradient_norm)

    def _descend(self, work: Workspace, loss_of: Loss, retain: Samples | None = None) -> tuple[bool, int]:
        """Train ``work.model``; whether the aim was met, and the steps taken.

        Parameters
        ----------
        work : Workspace
        loss_of : callable
            A batch's loss, a scalar. Passes through other models are its own to count.
        retain : Samples, optional
            Retained samples to train on.
        """
        with trained_parameters(self.name, work.model, self.trained_layers) as parameters:
            return self._take_steps(work, loss_of, retain, parameters)

    def _take_steps(
        self, work: Workspace, loss_of: Loss, retain: Samples | None, parameters: list[nn.Parameter]
    ) -> tuple[bool, int]:
        optimizer = self._optimizer(parameters)
        kept = self._kept(work, retain) if retain is not None else None
        check_cost = len(work.forget) + (len(kept.samples) if kept is not None else 0)
        forget_batches = cycle(work.forget, self.batch_size, work.generator)
        retain_batches = cycle(retain, self.batch_size, work.generator) if retain is not None else None
        window = Window()
        seen, checked_at = 0, -check_cost
        interval = min(CHECK_INTERVAL, max(SHORTEST_INTERVAL, math.ceil(len(work.forget) / self.batch_size)))
        max_steps = self._most_steps(work)
        for step in range(1, max_steps + 1):
            batch = self._next_batch(work, step, forget_batches, retain_batches)
            loss = loss_of(batch)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            self._adjust_gradients(parameters)
            optimizer.step()
            seen += len(batch.labels)
            work.passes.add(forward=len(batch.labels), backward=len(batch.labels))
            window.add(loss.detach(), batch, work.class_count)
            if step % interval and step < max_steps:
                continue
            self._check_losses(window.losses, step)
            # The batches' own share costs nothing. Whole sets are read only where that promises success, and at most
            # once for every time that as many samples were trained on.
            if window.close() <= self.target_accuracy and seen - checked_at >= check_cost:
                checked_at = seen
                if self._aim_met(work, kept, step):
                    return True, step
        return checked_at != seen and self._aim_met(work, kept, step), step

    def _aim_met(self, work: Workspace, kept: _Kept | None, step: int) -> bool:
        if accuracy_of(work, work.forget, step) > self.target_accuracy:
            return False
        return kept is None or accuracy_of(work, kept.samples, step) >= kept.share - self.retain_tolerance

    def _next_batch(self, work: Workspace, step: int, forget_batches: Batches, retain_batches: Batches | None) -> Batch:
        reads_forget, reads_retain = self._reads(step)
        positions = torch.empty(0, dtype=torch.int64, device=work.forget.labels.device)
        parts = list[tuple[Tensor, Tensor]]()
        if reads_forget:
            positions, images, labels = next(forget_batches)
            parts.append((images, labels))
        if reads_retain and retain_batches is not None:
            _, images, labels = next(retain_batches)
            parts.append((images, labels))
        images, labels = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        images = images.contiguous(memory_format=torch.channels_last)
        return Batch(step, positions, images, labels, work.model(images).float())

    def _kept(self, work: Workspace, retain: Samples) -> _Kept:
        chosen = torch.randperm(len(retain), generator=work.generator)[:MEASURED_RETAINED]
        samples = retain.subset(chosen)
        work.passes.add(forward=len(samples))
        share, _ = _share_right(work.original, samples, work.class_count)
        return _Kept(samples, share)


@dataclass(frozen=True)
class _Kept:
    """Retained samples that both models are measured on, and the share of them that the given one has right."""

    samples: Samples
    share: float


@dataclass(frozen=True, kw_only=True)
class ForgetDescent(Descent):
    """Base of the methods that train on nothing but forget samples.

    Parameters
    ----------
    epochs : int
        Most passes over the forget set; fewer are made once the aim is met.
    stop_per_sample : bool
        Leave samples out of the loss while another class is on top: what is forgotten already is pushed no further.
    learning_rate, momentum, batch_size, max_steps, target_accuracy, max_gradient_norm, trained_layers
        As in :class:`Descent`.
    """

    epochs: int = 20
    stop_per_sample: bool = False
    learning_rate: float = 3e-4
    trained_layers: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        require("epochs", self.name, self.epochs, int, minimum=1)
        require("stop_per_sample", self.name, self.stop_per_sample, bool)

    def stronger(self) -> Self:
        """Twice the learning rate and twice the epochs and steps."""
        return replace(self, learning_rate=2 * self.learning_rate, epochs=2 * self.epochs, max_steps=2 * self.max_steps)

    def _mean_loss(self, work: Workspace, batch: Batch, losses: Tensor) -> Tensor:
        """Mean over the batch's forget samples of their losses, of shape (f,), those left out as zeros."""
        if self.stop_per_sample:
            on_top = batch.forget_logits.detach()[:, : work.class_count].argmax(dim=1)
            losses = losses * (on_top == batch.forget_labels)
        return losses.mean()

    def _most_steps(self, work: Workspace) -> int:
        return min(self.max_steps, self.epochs * math.ceil(len(work.forget) / self.batch_size))


def accuracy_of(work: Workspace, samples: Samples, step: int) -> float:
    """Share of the samples that the model's own outputs still put first; counted as forward passes.

    Parameters
    ----------
    work : Workspace
    samples : Samples
    step : int
        How many were taken, for the message.

    Raises
    ------
    UnlearningDivergedError
        If an output is not finite: the largest of such outputs means nothing.
    """
    work.passes.add(forward=len(samples))
    share, finite = _share_right(work.model, samples, work.class_count)
    if not finite:
        raise UnlearningDivergedError(
            f"the outputs are not finite at step {step}; the given model is unchanged: try a smaller learning rate"
        )
    return share


def _share_right(model: nn.Module, samples: Samples, class_count: int) -> tuple[float, bool]:
    """Share of the samples that a model has right, and whether all its outputs are finite."""
    counts, finite = [], []
    with torch.inference_mode():
        for images, labels in samples.batches(batch_slices(samples, samples.labels.device)):
            logits = model(images.contiguous(memory_format=torch.channels_last))
            counts.append((logits[:, :class_count].argmax(dim=1) == labels).sum())
            finite.append(torch.isfinite(logits).all())
    right, is_finite = torch.stack([torch.stack(counts).sum(), torch.stack(finite).all()]).tolist()
    return right / len(samples), bool(is_finite)
