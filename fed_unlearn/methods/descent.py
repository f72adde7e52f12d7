"""Gradient descent that stops as soon as the forget set is no longer recognised.

Most methods share this loop over batches of forget samples, retained samples or both. Each method supplies the loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor, nn

from fed_unlearn.batch_plan import batch_count
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import UnlearningDivergedError
from fed_unlearn.logits import batch_slices
from fed_unlearn.methods.base import Method, Workspace
from fed_unlearn.methods.parts.batches import Batch, Batches, Window, cycle, trained_parameters
from fed_unlearn.methods.parts.checks import check_losses
from fed_unlearn.methods.parts.validation import BelowOne
from fed_unlearn.model_inputs import laid_out, model_inputs
from fed_unlearn.settings import AboveZero, Fraction, FromOne, FromZero, NotNegative

# Optimizer steps between two checks of the losses. Each check waits for the device. Small forget sets have shorter
# intervals.
CHECK_INTERVAL, SHORTEST_INTERVAL = 8, 2
MEASURED_RETAINED = 1000  # most retained samples on which the given and the changed model are compared

Loss = Callable[[Batch], Tensor]
"""Returns the loss of a batch, a scalar. It counts passes through other models itself."""


@dataclass(frozen=True, kw_only=True)
class Descent(Method):
    """Base of the methods that take gradient steps until their aim is met.

    BatchNorm statistics stay frozen, because batches of forget samples alone would shift them.

    Parameters
    ----------
    learning_rate, momentum : float
        Learning rate and momentum of SGD.
    batch_size : int
        Samples of each set in one step.
    max_steps : int
        Maximum number of steps.
    target_accuracy : float
        The aim: at most this share of the forget set is still predicted under its own label.
    retain_tolerance : float
        A second aim for methods that train on retained samples: the share of right answers on them falls by at most
        this much.
    max_gradient_norm : float
        Longer gradients are scaled down to this norm. 0 means no bound.
    trained_layers : int
        Number of convolutions and linear layers that are trained, counted from the output in the order in which the
        model registers them. What lies between and behind them is trained too. 0 means all layers.
    """

    learning_rate: AboveZero = 1e-3
    momentum: BelowOne = 0.9
    batch_size: FromOne = 64
    max_steps: FromOne = 2000
    target_accuracy: BelowOne = 0.01
    retain_tolerance: Fraction = 0.01
    max_gradient_norm: NotNegative = 0.0
    trained_layers: FromZero = 0

    def stronger(self) -> Self:
        """Twice the learning rate and twice the steps."""
        return replace(self, learning_rate=2 * self.learning_rate, max_steps=2 * self.max_steps)

    def _reads(self, step: int) -> tuple[bool, bool]:
        """Whether a step, counted from 1, reads forget samples, and whether it reads retained samples."""
        return True, True

    def _most_steps(self, work: Workspace) -> int:
        """Maximum number of steps for this forget set."""
        return self.max_steps

    def _optimizer(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=self.learning_rate, momentum=self.momentum)

    def _adjust_gradients(self, parameters: list[nn.Parameter]) -> None:
        """Change the gradients before the optimizer uses them."""
        if self.max_gradient_norm:
            nn.utils.clip_grad_norm_(parameters, self.max_gradient_norm)

    def _descend(
        self, work: Workspace, loss_of: Loss, retain: SampleSet | None = None, added: Sequence[nn.Parameter] = ()
    ) -> tuple[bool, int]:
        """Train ``work.model``; return whether the aim was met, and the number of steps.

        Parameters
        ----------
        work : Workspace
            The copy to train and its samples.
        loss_of : callable
            Returns the loss of a batch, a scalar. It counts passes through other models itself.
        retain : SampleSet, optional
            Retained samples to train on.
        added : sequence of nn.Parameter
            Parameters beside the model's own that are trained with them.
        """
        with trained_parameters(self.name, work.model, self.trained_layers, work.forget) as parameters:
            return self._take_steps(work, loss_of, retain, [*parameters, *added])

    def _take_steps(
        self, work: Workspace, loss_of: Loss, retain: SampleSet | None, parameters: list[nn.Parameter]
    ) -> tuple[bool, int]:
        optimizer = self._optimizer(parameters)
        kept = self._kept(work, retain) if retain is not None else None
        check_cost = len(work.forget) + (len(kept.samples) if kept is not None else 0)
        forget_batches = cycle(work.forget, self.batch_size, work.generator)
        retain_batches = cycle(retain, self.batch_size, work.generator) if retain is not None else None
        window = Window()
        seen, checked_at = 0, -check_cost
        interval = min(CHECK_INTERVAL, max(SHORTEST_INTERVAL, batch_count(len(work.forget), self.batch_size)))
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
            check_losses(self.name, window.losses, step)
            # The accuracy on the batches costs nothing. The whole sets are read only if it promises success, and only
            # after training on at least as many samples as that takes.
            if window.close() <= self.target_accuracy and seen - checked_at >= check_cost:
                checked_at = seen
                if self._aim_met(work, kept, step):
                    return True, step
        return checked_at != seen and self._aim_met(work, kept, step), step

    def _aim_met(self, work: Workspace, kept: _Kept | None, step: int) -> bool:
        work.passes.add(forward=len(work.forget))
        if _share_right(work.model, work.forget, work.class_count, step) > self.target_accuracy:
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
        images = laid_out(work.model, images)
        logits = work.model(model_inputs(work.model, images)).float()
        return Batch(step, positions, images, labels, logits)

    def _kept(self, work: Workspace, retain: SampleSet) -> _Kept:
        chosen = torch.randperm(len(retain), generator=work.generator)[:MEASURED_RETAINED]
        samples = retain.subset(chosen)
        work.passes.add(forward=len(samples))
        share = _share_right(work.original, samples, work.class_count)
        return _Kept(samples, share)


@dataclass(frozen=True)
class _Kept:
    """Retained samples on which both models are measured, and the share of them that the given model has right."""

    samples: SampleSet
    share: float


@dataclass(frozen=True, kw_only=True)
class EpochDescent(Descent):
    """Base of the methods whose steps are bounded by a number of passes over their samples.

    Parameters
    ----------
    epochs : int
        Maximum number of passes over the samples. Fewer are made if the aim is met earlier.
    learning_rate, momentum, batch_size, max_steps, target_accuracy, retain_tolerance, max_gradient_norm, trained_layers
        As in :class:`Descent`.
    """

    epochs: FromOne = 20

    def stronger(self) -> Self:
        """Twice the learning rate, twice the epochs and twice the steps."""
        return replace(super().stronger(), epochs=2 * self.epochs)

    def _epoch(self, work: Workspace) -> SampleSet:
        """The samples that one epoch passes over."""
        return work.forget

    def _most_steps(self, work: Workspace) -> int:
        return min(self.max_steps, self.epochs * batch_count(len(self._epoch(work)), self.batch_size))


@dataclass(frozen=True, kw_only=True)
class ForgetDescent(EpochDescent):
    """Base of the methods that train on forget samples only.

    Parameters
    ----------
    stop_per_sample : bool
        Whether the loss leaves out samples that another class already leads, so that they are pushed no further.
    epochs, learning_rate, momentum, batch_size, max_steps, target_accuracy, max_gradient_norm, trained_layers
        As in :class:`EpochDescent`.
    """

    stop_per_sample: bool = False
    learning_rate: float = 3e-4
    trained_layers: int = 3

    def _mean_loss(self, work: Workspace, batch: Batch, losses: Tensor) -> Tensor:
        """Mean of the losses of the batch's forget samples, of shape (f,). Samples left out count as zeros."""
        if self.stop_per_sample:
            on_top = batch.forget_logits.detach()[:, : work.class_count].argmax(dim=1)
            losses = losses * (on_top == batch.forget_labels)
        return losses.mean()


def accuracy_of(work: Workspace, samples: SampleSet, step: int) -> float:
    """Share of the samples that ``work.model`` predicts under their own label. Counted as forward passes.

    Parameters
    ----------
    work : Workspace
        The model, and the counter of passes.
    samples : SampleSet
        The samples to predict.
    step : int
        Number of steps taken, for the error message.

    Returns
    -------
    float
        The share, in [0, 1].

    Raises
    ------
    UnlearningDivergedError
        If an output is not finite, because the largest of such outputs means nothing.
    """
    work.passes.add(forward=len(samples))
    return _share_right(work.model, samples, work.class_count, step)


def _share_right(model: nn.Module, samples: SampleSet, class_count: int, step: int | None = None) -> float:
    """Share of the samples that a model has right. With a step, raise if an output is not finite."""
    counts, finite = [], []
    with torch.inference_mode():
        read = samples.evaluated()
        for images, labels in read.batches(batch_slices(read, samples.labels.device)):
            logits = model(model_inputs(model, images))
            counts.append((logits[:, :class_count].argmax(dim=1) == labels).sum())
            finite.append(torch.isfinite(logits).all())
    right, is_finite = torch.stack([torch.stack(counts).sum(), torch.stack(finite).all()]).tolist()
    if step is not None and not is_finite:
        raise UnlearningDivergedError(
            f"the outputs are not finite at step {step}; the given model is unchanged: try a smaller learning rate"
        )
    return float(right / len(samples))
