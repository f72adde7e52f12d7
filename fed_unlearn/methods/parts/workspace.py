"""What a method works on, what it counts, and what it returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import InvalidDataError
from fed_unlearn.pass_counter import PassCounter


@dataclass(frozen=True)
class SampleStanding:
    """Where single forget samples stand beside what a model would say that never saw them.

    Attributes
    ----------
    by : {"reference", "ranks"}
        What the targets are known by: a reference, or the samples' own order beside unseen samples.
    limits : Tensor of shape (n,)
        Log-odds of each sample's own class from which on the sample stands too high; infinite where none is known.
    before, after : Tensor of shape (n,)
        Log-odds of the samples' own classes in the given model and in the unlearned one.
    """

    by: Literal["reference", "ranks"]
    limits: Tensor
    before: Tensor
    after: Tensor

    @property
    def above(self) -> int:
        """Number of samples that stand above their limits in the unlearned model."""
        return int((self.after > self.limits).sum())

    @property
    def above_before(self) -> int:
        """Number of samples that stood above their limits in the given model."""
        return int((self.before > self.limits).sum())


@dataclass(frozen=True)
class Outcome:
    """The result of :meth:`fed_unlearn.methods.Method.unlearn`.

    Attributes
    ----------
    model : nn.Module
        The unlearned copy. It is on the device and in the mode of the given model.
    converged : bool
        Whether the method met its own aim on the forget set, and on retained samples where it trained on some.
    steps : int
        Number of optimizer steps.
    seconds : float
        Wall time in seconds.
    forward_passes, backward_passes : int
        Samples pushed through the model, including searches and checks.
    guard_labels : Tensor of shape (n,), int64, or None
        The label that each forget sample was taught, for guarded repair. None if the method teaches no label.
    standing : SampleStanding or None
        What a method that aims at a level for each sample found and left. None from all others.
    """

    model: nn.Module
    converged: bool
    steps: int
    seconds: float
    forward_passes: int
    backward_passes: int
    guard_labels: Tensor | None
    standing: SampleStanding | None = None


@dataclass(frozen=True)
class Workspace:
    """The copy that a method changes, and everything that it may read.

    Attributes
    ----------
    model : nn.Module
        The copy, changed in place. It is in evaluation mode, so that BatchNorm statistics stay frozen. A method that
        trains on retained samples may let the statistics follow them.
    original : nn.Module
        The given model. It is never changed.
    forget : SampleSet
        The samples to forget. Batches are on the model's device, here and below.
    retain, unseen : SampleSet or None
        Samples that must stay known, and samples that the model was never trained on. None if none were given.
    excluded_classes : frozenset of int
        Classes that no forget sample may be taught.
    class_count : int
        Number of outputs of the model.
    generator : torch.Generator
        The only source of randomness. It is on the CPU.
    reference : nn.Module or None
        A model like the original that never saw the forget samples. None if none was given.
    passes : PassCounter
        Every forward and backward pass must be added to it.
    """

    model: nn.Module
    original: nn.Module
    forget: SampleSet
    retain: SampleSet | None
    unseen: SampleSet | None
    excluded_classes: frozenset[int]
    class_count: int
    generator: torch.Generator
    reference: nn.Module | None = None
    passes: PassCounter = field(default_factory=PassCounter)

    @property
    def retained(self) -> SampleSet:
        """The retain set, for methods that need one.

        Raises
        ------
        InvalidDataError
            If no retain set was given.
        """
        if self.retain is None:
            raise InvalidDataError("no retain set was given; samples that must stay known were expected")
        return self.retain


@dataclass(frozen=True)
class Applied:
    """What a method reports after it has changed ``Workspace.model`` in place.

    Attributes
    ----------
    converged, steps, guard_labels, standing
        What the method did, as in :class:`Outcome`.
    """

    converged: bool
    steps: int
    guard_labels: Tensor | None = None
    standing: SampleStanding | None = None
