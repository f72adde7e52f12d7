"""What the upper part of a divided model reads of retained samples, with the answers of the model before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.logits import device_of
from fed_unlearn.methods.parts.activation_cache import kept_activations
from fed_unlearn.methods.parts.blocks import Division
from fed_unlearn.methods.parts.workspace import Workspace
from fed_unlearn.model_inputs import laid_out, model_inputs
from fed_unlearn.pass_counter import PassCounter

_TEACHER_BATCH = 512


@dataclass(frozen=True)
class UpperBatch:
    """Some samples as the upper part reads them.

    Attributes
    ----------
    inputs : Tensor of shape (b, ...)
        Activations at the division, or the samples' own inputs where the upper part reads these.
    labels : Tensor of shape (b,), int64
    answers : Tensor of shape (b, classes) or None
        Logits of the model before. None if they are not asked for.
    """

    inputs: Tensor
    labels: Tensor
    answers: Tensor | None


@dataclass(frozen=True)
class UpperBatches:
    """Batches at any positions, from activations that are kept, or computed anew.

    Attributes
    ----------
    model : nn.Module
        The model that is trained.
    division : Division
        The division of the model.
    samples : SampleSet
    activations : Tensor of shape (n, ...) or None
        What the lower part puts out for all samples. None to run it anew for each batch.
    answers : Tensor of shape (n, classes) or None
        Logits of the model before, beside the activations.
    original : nn.Module or None
        The model before, where batches without kept activations are to hold its answers.
    passes : PassCounter
        Passes below the division, and of the model before, are counted there.
    """

    model: nn.Module
    division: Division
    samples: SampleSet
    activations: Tensor | None
    answers: Tensor | None
    original: nn.Module | None = None
    passes: PassCounter = field(default_factory=PassCounter)

    def at(self, plan: list[Tensor]) -> Iterator[UpperBatch]:
        """The batches at some positions, one after another. Passes below the division are counted."""
        device = device_of(self.model)
        if self.activations is not None:
            for positions in plan:
                inputs = self.activations[positions.to(self.activations.device)].to(device)
                labels = self.samples.labels[positions.to(self.samples.labels.device)].to(device)
                answers = None if self.answers is None else self.answers[positions].to(device)
                yield UpperBatch(self._laid_out(inputs), labels, answers)
            return
        for inputs, labels in self.samples.batches(plan):
            inputs = model_inputs(self.model, inputs.to(device))
            yield UpperBatch(self._below(inputs), labels.to(device), self._asked(inputs))

    def _below(self, inputs: Tensor) -> Tensor:
        if self.division.lower is None:
            return inputs
        with torch.no_grad():
            activations: Tensor = self.division.lower(inputs)
        return activations

    def _asked(self, inputs: Tensor) -> Tensor | None:
        if self.original is None:
            return None
        self.passes.add(forward=len(inputs))
        with torch.no_grad():
            answers: Tensor = self.original(inputs).float()
        return answers

    def _laid_out(self, inputs: Tensor) -> Tensor:
        return laid_out(self.model, inputs) if inputs.ndim == 4 else inputs


@contextmanager
def upper_batches(
    work: Workspace, division: Division, samples: SampleSet, *, asks_model: bool, cache_bytes: int
) -> Iterator[UpperBatches]:
    """Run the lower part over all samples once and keep what it puts out, before the upper part is changed.

    Where nothing lies below the division, or the computation of the model cannot be traced, or the disk is too full,
    nothing is kept. Batches are then read and computed anew each time, with random augmentation if the samples have
    some.

    Parameters
    ----------
    work : Workspace
        The model, in evaluation mode and as it was given. The passes are counted.
    division : Division
        The division of ``work.model``.
    samples : SampleSet
    asks_model : bool
        Whether batches hold the answers of the model as it was given.
    cache_bytes : int
        Maximum size in memory, in bytes. Larger activations are kept in a temporary file, which is gone at the end.
    """
    device = device_of(work.model)
    original = work.original if asks_model else None
    if division.lower is None:
        yield UpperBatches(work.model, division, samples, None, None, original, work.passes)
        return
    division.lower.eval()
    with kept_activations(work.model, division.lower, samples, device, cache_bytes) as activations:
        answers = None
        if activations is not None:
            work.passes.add(forward=len(samples))
            answers = answers_above(division.upper.eval(), activations, device) if asks_model else None
        yield UpperBatches(work.model, division, samples, activations, answers, original, work.passes)


@torch.no_grad()
def answers_above(upper: nn.Module, activations: Tensor, device: torch.device) -> Tensor:
    """Logits of all samples, on the CPU.

    Parameters
    ----------
    upper : nn.Module
        The part above the activations, in evaluation mode.
    activations : Tensor of shape (n, ...)
    device : torch.device
        Device of the model.
    """
    parts = [upper(part.to(device)).float().cpu() for part in activations.split(_TEACHER_BATCH)]
    return torch.cat(parts)
