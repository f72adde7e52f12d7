"""The contract of an unlearning method: hyper-parameters in, a changed copy of the model out."""

from __future__ import annotations

import copy
import time
from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from fed_unlearn.data.images import ImageSet, as_image_set
from fed_unlearn.errors import EmptySetError, InvalidDataError, UnlearningDivergedError
from fed_unlearn.inference import evaluation_mode, predict_logits

Scope = Literal["class", "sample", "client"]


@dataclass
class PassCounter:
    """Samples pushed through a model: cost without a clock."""

    forward: int = 0
    backward: int = 0

    def add(self, forward: int = 0, backward: int = 0) -> None:
        """Count more of them."""
        self.forward += forward
        self.backward += backward


@dataclass(frozen=True)
class Outcome:
    """What a method hands over.

    Attributes
    ----------
    model : nn.Module
        The unlearned copy, on the device and in the mode of the given model.
    converged : bool
        Whether the method's own aim was met on the forget set.
    steps : int
        Optimizer steps taken.
    seconds : float
        Wall time.
    forward_passes, backward_passes : int
        Samples pushed through, search and checks included.
    guard_labels : Tensor of shape (n,), int64, or None
        What each forget sample was taught to be, for guarded repair; None where the method has none.
    """

    model: nn.Module
    converged: bool
    steps: int
    seconds: float
    forward_passes: int
    backward_passes: int
    guard_labels: Tensor | None


@dataclass(frozen=True)
class Workspace:
    """What :meth:`Method._apply` works on: a copy that it may change, and all that it may read.

    Attributes
    ----------
    model : nn.Module
        To be changed in place; in evaluation mode, so that BatchNorm statistics stay frozen.
    original : nn.Module
        The model as given; never changed.
    forget, retain : ImageSet
        ``retain`` is None where none was given.
    excluded_classes : frozenset of int
        Classes that no forget sample may be taught to be: those forgotten before.
    class_count : int
        Number of outputs of the model.
    generator : torch.Generator
        The only source of randomness, on the CPU.
    passes : PassCounter
        To be added to at every forward and backward pass.
    """

    model: nn.Module
    original: nn.Module
    forget: ImageSet
    retain: ImageSet | None
    excluded_classes: frozenset[int]
    class_count: int
    generator: torch.Generator
    passes: PassCounter = field(default_factory=PassCounter)


@dataclass(frozen=True)
class Applied:
    """What :meth:`Method._apply` reports: the model itself was changed in place."""

    converged: bool
    steps: int
    guard_labels: Tensor | None


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """An unlearning method: a frozen set of hyper-parameters with one public function.

    Subclasses are registered by :func:`fed_unlearn.methods.register` and implement :meth:`_apply`.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    scopes: ClassVar[tuple[Scope, ...]]
    needs: ClassVar[str]
    is_control: ClassVar[bool] = False

    def unlearn(
        self,
        model: nn.Module,
        forget: Dataset[tuple[Tensor, int]],
        retain: Dataset[tuple[Tensor, int]] | None = None,
        excluded_classes: Collection[int] = (),
        generator: torch.Generator | None = None,
    ) -> Outcome:
        """Make a copy of a model forget some of its training samples.

        Parameters
        ----------
        model : nn.Module
            Maps float images (batch, channels, height, width) in [0, 1] to logits (batch, classes). Never changed.
        forget : Dataset of (image, label)
            The samples to forget, under the labels that they were trained with.
        retain : Dataset of (image, label), optional
            Samples that must stay known; methods that need none ignore it.
        excluded_classes : collection of int
            Classes forgotten before: no forget sample is taught to be one of them.
        generator : torch.Generator, optional
            Source of all randomness; one seeded with 0 where none is given.

        Returns
        -------
        Outcome

        Raises
        ------
        EmptySetError
            If the forget set is empty.
        InvalidDataError
            If a label is not an output of the model.
        UnlearningDivergedError
            If a loss stops being finite.
        """
        forget_set = as_image_set(forget)
        retain_set = as_image_set(retain) if retain is not None and len(retain) else None  # type: ignore[arg-type]
        if len(forget_set) == 0:
            raise EmptySetError(f"{self.name}: the forget set has no sample; at least one was expected")
        class_count = predict_logits(model, forget_set.subset(torch.tensor([0]))).shape[1]
        outside = sorted({int(label) for label in forget_set.labels.unique() if not 0 <= label < class_count})
        if outside:
            raise InvalidDataError(
                f"{self.name}: forget labels {outside} were given; the model has outputs 0 to {class_count - 1}"
            )
        started = time.perf_counter()
        copied = copy.deepcopy(model)
        workspace = Workspace(
            model=copied,
            original=model,
            forget=forget_set,
            retain=retain_set,
            excluded_classes=frozenset(excluded_classes),
            class_count=class_count,
            generator=generator if generator is not None else torch.Generator().manual_seed(0),
        )
        with evaluation_mode(copied), evaluation_mode(model):
            applied = self._apply(workspace)
        return Outcome(
            model=copied,
            converged=applied.converged,
            steps=applied.steps,
            seconds=time.perf_counter() - started,
            forward_passes=workspace.passes.forward,
            backward_passes=workspace.passes.backward,
            guard_labels=applied.guard_labels,
        )

    @abstractmethod
    def _apply(self, work: Workspace) -> Applied:
        """Change ``work.model`` in place."""

    @abstractmethod
    def stronger(self) -> Self:
        """The same method with a stronger setting, for a second attempt after a failed one."""

    def _check_finite(self, loss: Tensor, step: int) -> None:
        if not torch.isfinite(loss):
            raise UnlearningDivergedError(
                f"{self.name}: the loss is {float(loss)} at step {step}; the given model is unchanged:"
                " try a smaller learning rate"
            )
