"""The contract of an unlearning method: hyper-parameters in, a changed copy of the model out."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import torch
from torch import nn

from fed_unlearn.data.domain import InputDomain
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import InvalidDataError, InvalidParameterError, UnlearningDivergedError, UnsuitableInputsError
from fed_unlearn.logits import device_of, evaluation_mode
from fed_unlearn.methods.parts.checks import (
    SampleSource,
    check_classes_left,
    check_excluded,
    check_samples,
    check_weights,
    class_count_of,
    given_samples,
    unused_parameters,
)
from fed_unlearn.methods.parts.validation import require_fields
from fed_unlearn.methods.parts.workspace import Applied, Outcome, Workspace
from fed_unlearn.methods.registry import METHODS
from fed_unlearn.model_copies import copied
from fed_unlearn.model_wrappers import unwrapped
from fed_unlearn.pass_counter import PassCounter

__all__ = ["Applied", "Method", "Outcome", "PassCounter", "SampleSource", "Scope", "Workspace"]

Scope = Literal["class", "sample", "client"]


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """An unlearning method: a frozen set of hyper-parameters with one public function, :meth:`unlearn`.

    A subclass implements :meth:`_apply` and :meth:`stronger`, and :func:`fed_unlearn.methods.register` gives it a name.
    Fields may declare bounds in their annotations, which :func:`~fed_unlearn.methods.parts.validation.require_fields`
    checks.

    Parameters
    ----------
    precision : {"float32", "bfloat16"}, default "float32"
        Precision of forward and backward passes. ``"bfloat16"`` uses autocast; weights and optimizer stay in float32.

    Attributes
    ----------
    name : str
        The registered name.
    paper : str
        The source, for listings.
    scopes : tuple of {"class", "sample", "client"}
        The kinds of forget request that the method serves.
    needs : str
        The data that the method reads, for listings.
    inputs : str
        The inputs that the method works on, for listings: ``"any"``, or ``"images"`` where it attacks them.
    requires_retain : bool
        Whether the method needs retained samples.
    reads_forget : bool
        Whether the method reads the inputs of the forget samples. One that does not needs their labels alone.
    is_control : bool
        Whether the method only looks as if it forgets.
    is_exact : bool
        Whether the result is that of training without the samples, so that nothing is set in its output layer.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    scopes: ClassVar[tuple[Scope, ...]]
    needs: ClassVar[str]
    inputs: ClassVar[str] = "any"
    requires_retain: ClassVar[bool] = False
    reads_forget: ClassVar[bool] = True
    is_control: ClassVar[bool] = False
    is_exact: ClassVar[bool] = False

    precision: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        require_fields(self.name, self)

    @property
    def attacks_inputs(self) -> bool:
        """Whether the method, with these hyper-parameters, changes inputs by their gradients: it then needs images."""
        return False

    @property
    def reads_unseen(self) -> bool:
        """Whether the method, with these hyper-parameters, needs samples that the model was never trained on."""
        return False

    @property
    def reads_reference(self) -> bool:
        """Whether the method, with these hyper-parameters, measures by a model that never saw the forget samples."""
        return False

    def works_on(self, domain: InputDomain) -> bool:
        """Whether the method, with these hyper-parameters, works on samples whose inputs are of a domain."""
        return domain.kind == "pixels" or not self.attacks_inputs

    def unlearn(
        self,
        model: nn.Module,
        forget: SampleSource,
        retain: SampleSource | None = None,
        excluded_classes: Collection[int] = (),
        generator: torch.Generator | None = None,
        unseen: SampleSource | None = None,
        reference: nn.Module | None = None,
    ) -> Outcome:
        """Make a copy of a model forget some of its training samples.

        Parameters
        ----------
        model : nn.Module
            The model. It maps inputs (batch, ...), as the samples give them, to logits (batch, classes). It is not
            changed. The copy of a compiled or data-parallel model runs without its wrapper.
        forget : SampleSet, Dataset of (image, label), or DataLoader
            The samples to forget, under the labels that they were trained with. A loader reads images when they are
            needed, with its own workers. The results equal those of the same samples in memory. Inputs that are no
            images in [0, 1] are given as a :class:`~fed_unlearn.data.sample_set.SampleSet`.
        retain : SampleSet, Dataset of (image, label), or DataLoader, optional
            Samples that must stay known. A method that needs none may ignore them.
        excluded_classes : collection of int
            Classes that no forget sample may be taught: classes forgotten earlier, and the classes of this forget set
            if whole classes are forgotten.
        generator : torch.Generator, optional
            Source of all randomness. A generator seeded with 0 if none is given.
        unseen : SampleSet, Dataset of (image, label), or DataLoader, optional
            Samples that the model was never trained on, for methods that imitate its outputs on such samples.
        reference : nn.Module, optional
            A model like the given one that was never trained on the forget samples, for methods that measure by one. It
            is not changed.

        Returns
        -------
        Outcome

        Raises
        ------
        EmptySetError
            If a given set has no sample.
        InvalidDataError
            If a label is not an output of the model, a pixel is outside [0, 1], or data that the method needs is
            missing.
        InvalidModelError
            If the model does not map such inputs to logits.
        InvalidParameterError
            If ``generator`` is not a torch.Generator.
        UnsuitableInputsError
            If the method attacks inputs, and they are no images. The message names the methods that work.
        UnlearningDivergedError
            If a loss, an output or a weight is not finite.
        """
        if generator is not None and not isinstance(generator, torch.Generator):
            raise InvalidParameterError(
                f"{self.name}: generator = {generator!r} was given; expected a torch.Generator, such as"
                " torch.Generator().manual_seed(0)"
            )
        forget_samples = given_samples(self.name, "forget", forget, reads=self.reads_forget)
        retain_samples = given_samples(self.name, "retain", retain) if retain is not None else None
        unseen_samples = given_samples(self.name, "unseen", unseen) if unseen is not None else None
        changed, model = copied(model), unwrapped(model)
        class_count = self._checked_class_count(model, forget_samples, retain_samples, unseen_samples, excluded_classes)
        started = time.perf_counter()
        device = device_of(model)
        work = Workspace(
            model=unwrapped(changed),
            original=model,
            forget=forget_samples.to(device),
            retain=retain_samples.to(device) if retain_samples is not None else None,
            unseen=unseen_samples.to(device) if unseen_samples is not None else None,
            excluded_classes=frozenset(excluded_classes),
            class_count=class_count,
            generator=generator if generator is not None else torch.Generator().manual_seed(0),
            reference=unwrapped(reference) if reference is not None else None,
        )
        # The optimizer changes the weights between passes, so autocast must not cache their casts.
        reduced = torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bfloat16", cache_enabled=False)
        with evaluation_mode(work.model), evaluation_mode(model), torch.enable_grad(), reduced:
            try:
                applied = self._apply(work)
            except UnlearningDivergedError as error:
                named = str(error).startswith(self.name)
                raise error if named else UnlearningDivergedError(f"{self.name}: {error}") from None
            except RuntimeError:
                read = work.forget if self.reads_forget else work.retained
                unused_parameters(self.name, work.model, read)  # says so where no gradient leads anywhere
                raise
        check_weights(self.name, work.model, applied.steps)
        work.model.zero_grad(set_to_none=True)
        return Outcome(
            model=changed,
            converged=applied.converged,
            steps=applied.steps,
            seconds=time.perf_counter() - started,
            forward_passes=work.passes.forward,
            backward_passes=work.passes.backward,
            guard_labels=applied.guard_labels,
            standing=applied.standing,
        )

    @abstractmethod
    def _apply(self, work: Workspace) -> Applied:
        """Change ``work.model`` in place."""

    @abstractmethod
    def stronger(self) -> Self:
        """The same method with a stronger setting, for a second attempt after a failed one."""

    def _checked_class_count(
        self,
        model: nn.Module,
        forget: SampleSet,
        retain: SampleSet | None,
        unseen: SampleSet | None,
        excluded_classes: Collection[int],
    ) -> int:
        """Check that the model, the samples and the excluded classes fit each other; return the class count."""
        if retain is None and self.requires_retain:
            raise InvalidDataError(f"{self.name}: no retain set was given; it needs samples that must stay known")
        if not self.works_on(forget.domain):
            raise self.unsuitable(forget.domain)
        class_count = class_count_of(self.name, model, forget if self.reads_forget or retain is None else retain)
        for kind, samples in (("forget", forget), ("retain", retain), ("unseen", unseen)):
            if samples is not None:
                check_samples(self.name, kind, samples, forget.input_shape, class_count)
        check_excluded(self.name, excluded_classes, class_count)
        check_classes_left(self.name, forget.labels, excluded_classes, class_count)
        return class_count

    def unsuitable(self, domain: InputDomain) -> UnsuitableInputsError:
        """Return the error for inputs that the method does not work on. It names the methods that do."""
        working = [
            name
            for name, method in METHODS.available().items()
            if method.inputs != "images" and not method.is_control and set(self.scopes) <= set(method.scopes)
        ]
        return UnsuitableInputsError(
            f"{self.name}: needs images to attack, not {domain.kind}; use {', '.join(working)}"
        )
