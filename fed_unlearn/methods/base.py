"""The contract of an unlearning method: hyper-parameters in, a changed copy of the model out."""

from __future__ import annotations

import copy
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from fed_unlearn.data.images import Samples, as_image_set, require_pixels
from fed_unlearn.data.streamed import StreamedSet
from fed_unlearn.errors import EmptySetError, InvalidDataError, InvalidParameterError, UnlearningDivergedError
from fed_unlearn.logits import device_of, evaluation_mode
from fed_unlearn.methods.parts.checks import check_classes_left, check_excluded, check_samples, class_count_of
from fed_unlearn.methods.parts.validation import require_choice

Scope = Literal["class", "sample", "client"]
SampleSource = Dataset[tuple[Tensor, int]] | DataLoader[tuple[Tensor, Tensor]]
"""Samples in memory, or a loader over samples that do not fit there."""


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
        Whether the method's own aim was met: on the forget set, and on retained samples where it trained on some.
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
        To be changed in place; in evaluation mode, so that BatchNorm statistics stay frozen. A method that trains on
        retained samples may let the statistics follow those.
    original : nn.Module
        The model as given; never changed.
    forget, retain, unseen : Samples
        Their batches are on the model's device. ``retain`` and ``unseen`` are None where none were given.
    excluded_classes : frozenset of int
        Classes that no forget sample may be taught to be.
    class_count : int
        Number of outputs of the model.
    generator : torch.Generator
        The only source of randomness, on the CPU.
    passes : PassCounter
        To be added to at every forward and backward pass.
    """

    model: nn.Module
    original: nn.Module
    forget: Samples
    retain: Samples | None
    unseen: Samples | None
    excluded_classes: frozenset[int]
    class_count: int
    generator: torch.Generator
    passes: PassCounter = field(default_factory=PassCounter)

    @property
    def retained(self) -> Samples:
        """``retain``, for methods that train on it.

        Raises
        ------
        InvalidDataError
            If none was given.
        """
        if self.retain is None:
            raise InvalidDataError("no retain set was given; samples that must stay known were expected")
        return self.retain


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

    Parameters
    ----------
    precision : {"float32", "bfloat16"}, default "float32"
        Of forward and backward passes; ``"bfloat16"`` by autocast, with weights and optimizer in float32.

    Attributes
    ----------
    paper, needs : str
        The source, and the data that the method reads, for listings.
    scopes : tuple of str
    requires_retain : bool
        Whether it cannot do without retained samples.
    is_control : bool
        Whether it only looks like forgetting.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    scopes: ClassVar[tuple[Scope, ...]]
    needs: ClassVar[str]
    requires_retain: ClassVar[bool] = False
    is_control: ClassVar[bool] = False

    precision: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        require_choice("precision", self.name, self.precision, ("float32", "bfloat16"))

    @property
    def reads_unseen(self) -> bool:
        """Whether samples that the model was never trained on must be given, with these hyper-parameters."""
        return False

    def unlearn(
        self,
        model: nn.Module,
        forget: SampleSource,
        retain: SampleSource | None = None,
        excluded_classes: Collection[int] = (),
        generator: torch.Generator | None = None,
        unseen: SampleSource | None = None,
    ) -> Outcome:
        """Make a copy of a model forget some of its training samples.

        Parameters
        ----------
        model : nn.Module
            Maps float images (batch, channels, height, width) in [0, 1] to logits (batch, classes). Never changed.
        forget : Dataset of (image, label), or DataLoader
            The samples to forget, under the labels that they were trained with. A loader's samples are read when they
            are needed, with its workers; the results are those of the same samples in memory.
        retain : Dataset of (image, label), or DataLoader, optional
            Samples that must stay known; methods that need none may ignore it.
        excluded_classes : collection of int
            Classes forgotten before, and those of this forget set where whole classes are forgotten together: no forget
            sample is taught to be one of them.
        generator : torch.Generator, optional
            Source of all randomness; one seeded with 0 where none is given.
        unseen : Dataset of (image, label), or DataLoader, optional
            Samples that the model was never trained on, for methods that imitate what it says of such.

        Returns
        -------
        Outcome

        Raises
        ------
        EmptySetError
            If the forget set is empty, or the retain set is: the forget set is then the whole data.
        InvalidDataError
            If a label is not an output of the model, images are not in [0, 1], or data that the method needs is
            missing.
        UnlearningDivergedError
            If a loss stops being finite.
        """
        if generator is not None and not isinstance(generator, torch.Generator):
            raise InvalidParameterError(
                f"{self.name}: generator = {generator!r} was given; expected a torch.Generator, such as"
                " torch.Generator().manual_seed(0)"
            )
        forget_samples = self._given("forget", forget)
        retain_samples = self._given("retain", retain) if retain is not None else None
        unseen_samples = self._given("unseen", unseen) if unseen is not None else None
        if retain_samples is None and self.requires_retain:
            raise InvalidDataError(f"{self.name}: no retain set was given; it needs samples that must stay known")
        class_count = class_count_of(self.name, model, forget_samples)
        for kind, samples in (("forget", forget_samples), ("retain", retain_samples), ("unseen", unseen_samples)):
            if samples is not None:
                check_samples(self.name, kind, samples, forget_samples.image_shape, class_count)
        check_excluded(self.name, excluded_classes, class_count)
        check_classes_left(self.name, forget_samples.labels, excluded_classes, class_count)
        started = time.perf_counter()
        copied = copy.deepcopy(model)
        device = device_of(model)
        workspace = Workspace(
            model=copied,
            original=model,
            forget=forget_samples.to(device),
            retain=retain_samples.to(device) if retain_samples is not None else None,
            unseen=unseen_samples.to(device) if unseen_samples is not None else None,
            excluded_classes=frozenset(excluded_classes),
            class_count=class_count,
            generator=generator if generator is not None else torch.Generator().manual_seed(0),
        )
        # Autocast's cache would keep the weights as they were cast first, whatever the optimizer makes of them since.
        reduced = torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bfloat16", cache_enabled=False)
        with evaluation_mode(copied), evaluation_mode(model), torch.enable_grad(), reduced:
            try:
                applied = self._apply(workspace)
            except UnlearningDivergedError as error:
                named = str(error).startswith(self.name)
                raise error if named else UnlearningDivergedError(f"{self.name}: {error}") from None
        self._check_weights(copied, applied.steps)
        copied.zero_grad(set_to_none=True)
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

    def _check_weights(self, model: nn.Module, steps: int) -> None:
        """Refuse a model that the last step, whose loss nobody saw, has broken."""
        finite = [torch.isfinite(tensor).all() for tensor in model.state_dict().values() if tensor.is_floating_point()]
        if finite and not bool(torch.stack(finite).all()):
            raise UnlearningDivergedError(
                f"{self.name}: the weights are not finite at step {steps}; the given model is unchanged: try a smaller"
                " learning rate"
            )

    def _check_losses(self, losses: Sequence[Tensor], last_step: int) -> None:
        """Refuse losses that are not finite, naming the step of the first; waits for the device once."""
        stacked = torch.stack(list(losses))
        finite = torch.isfinite(stacked)
        if not bool(finite.all()):
            first = int((~finite).nonzero()[0])
            raise UnlearningDivergedError(
                f"{self.name}: the loss is {float(stacked[first])} at step {last_step - len(losses) + first + 1}; the"
                " given model is unchanged: try a smaller learning rate"
            )

    def _given(self, kind: str, source: SampleSource) -> Samples:
        """A set of samples as it was given, its pixels checked."""
        if isinstance(source, DataLoader):
            try:
                return StreamedSet(source)
            except (EmptySetError, InvalidDataError) as error:
                raise type(error)(f"{self.name}: {kind} set: {error}") from None
        if hasattr(source, "__len__") and len(source) == 0:
            raise EmptySetError(
                f"{self.name}: the forget set has no sample; at least one was expected"
                if kind == "forget"
                else f"{self.name}: the {kind} set has no sample; give None where there is none. If the forget set is"
                " the whole data, nothing is left to keep: start from a new model"
            )
        try:
            samples = as_image_set(source)
            if samples is source:  # whatever was made of another data set was checked as it was read
                require_pixels(samples.images)
        except InvalidDataError as error:
            raise InvalidDataError(f"{self.name}: {kind} set: {error}") from None
        return samples
