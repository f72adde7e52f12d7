"""How many optimizer steps bring forgotten samples back; samples that were only hidden need none."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Interval
from torch import Tensor, nn
from torch.nn import functional

from fed_unlearn.audits.layers import output_layer, raw_logits
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import EmptySetError, InvalidParameterError, UnlearningDivergedError
from fed_unlearn.logits import batch_slices, device_of
from fed_unlearn.methods.parts.batches import cycle
from fed_unlearn.methods.parts.checks import check_samples
from fed_unlearn.methods.parts.heads import OutputLayer
from fed_unlearn.methods.parts.validation import require
from fed_unlearn.model_copies import copied
from fed_unlearn.settings import AboveZero, FromOne, Settings


@dataclass(frozen=True, kw_only=True)
class RelearnSettings(Settings, prefix="relearn: "):
    """How a copy is trained on the forget set, and how it is measured.

    Attributes
    ----------
    learning_rate, momentum : float
        Of SGD. Small steps tell models apart that large steps all bring back at once.
    batch_size : int
    max_steps : int
        Bound on the optimizer steps.
    max_measured : int
        The accuracy is that on at most so many random samples of the forget set. It is measured after every step, or
        every few steps where measuring reads far more samples than a step does.
    """

    learning_rate: AboveZero = 3e-3
    momentum: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    batch_size: FromOne = 64
    max_steps: FromOne = 500
    max_measured: FromOne = 1000


@dataclass(frozen=True)
class RelearnResult:
    """What relearning took.

    Attributes
    ----------
    steps : int
        Optimizer steps until the target accuracy was reached; ``max_steps`` if it was not.
    reached : bool
        Whether the target accuracy was reached.
    accuracy : float
        Share of the measured samples that were right at the end, in [0, 1].
    """

    steps: int
    reached: bool
    accuracy: float


def relearn(
    model: nn.Module,
    forget: SampleSet,
    *,
    target_accuracy: float,
    generator: torch.Generator,
    settings: RelearnSettings | None = None,
    classes: Collection[int] | None = None,
    head: str | None = None,
) -> RelearnResult:
    """Train a copy on nothing but the forget set until it is recognised again.

    Masks are lifted first: SGD climbs an output bias of -10,000 more slowly than it learns anything, so that a mask
    would look like deep forgetting. Outputs are read directly from the output layer, before a wrapper changes them.
    The biases of the forgotten classes are set to the median of the others, since a bias says how frequent a class is
    and nothing of its samples. The weights of the output layer stay. A row that was overwritten therefore looks as deep
    as boundary unlearning; the probe tells the two apart. Compare the figure with that of a retrain oracle.

    BatchNorm statistics are frozen and dropout is off. Every floating-point parameter is trained, also one that does
    not require a gradient in ``model``.

    Parameters
    ----------
    model : nn.Module
        Never changed.
    forget : SampleSet
        D_f.
    target_accuracy : float in (0, 1]
        Relearning ends here. A usual choice is 0.9 times the accuracy of the model before it forgot.
    generator : torch.Generator
        Draws the order of the batches and the measured samples; on the CPU.
    settings : RelearnSettings, optional
        The defaults of :class:`RelearnSettings` if None.
    classes : collection of int, optional
        Classes whose output biases are reset: the labels of the forget set if None, no class if empty. No bias is reset
        if these are all classes of the model.
    head : str, optional
        Name of the layer that gives the logits; the one that is found in a traced call if None.

    Returns
    -------
    RelearnResult
        With 0 steps if the copy recognises the samples once masks are lifted.

    Raises
    ------
    EmptySetError
        If the forget set is empty.
    InvalidDataError
        If a label is not an output of the model.
    InvalidModelError
        If the model has no such layer.
    InvalidParameterError
        If a setting is out of range, or a class is not an output of the model.
    UnlearningDivergedError
        If a loss or an output is not a finite number.
    """
    require("target_accuracy", "relearn", target_accuracy, float, above=0, maximum=1)
    settings = settings or RelearnSettings()
    if len(forget) == 0:
        raise EmptySetError("relearn: the forget set has no sample; at least one was expected")
    student = copied(model).eval()
    device = device_of(student)
    forget = forget.evaluated().to(device)
    layer = output_layer("relearn", student, forget, head)
    check_samples("relearn", "forget", forget, forget.input_shape, layer.weight.shape[0])
    _lift_masks(layer, forget.labels.unique().tolist() if classes is None else classes)
    parameters = [parameter.requires_grad_(True) for parameter in student.parameters() if parameter.is_floating_point()]
    optimizer = torch.optim.SGD(parameters, lr=settings.learning_rate, momentum=settings.momentum)
    measured = forget
    if len(forget) > settings.max_measured:
        measured = forget.subset(torch.randperm(len(forget), generator=generator)[: settings.max_measured].to(device))
    # Measuring costs about as much as the steps before it.
    interval = max(1, math.ceil(len(measured) / (4 * settings.batch_size)))
    batches = cycle(forget, settings.batch_size, generator)
    with raw_logits(student, layer) as logits_of:
        accuracy, step = _accuracy(logits_of, measured, 0), 0
        while accuracy < target_accuracy and step < settings.max_steps:
            step += 1
            _, images, labels = next(batches)
            loss = functional.cross_entropy(logits_of(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step % interval == 0 or step == settings.max_steps:
                accuracy = _accuracy(logits_of, measured, step)
    return RelearnResult(step, accuracy >= target_accuracy, accuracy)


def _lift_masks(layer: OutputLayer, classes: Collection[int]) -> None:
    every = range(layer.weight.shape[0])
    if unknown := sorted(set(classes).difference(every)):
        raise InvalidParameterError(f"relearn: classes {unknown} were given; the model has outputs 0 to {every[-1]}")
    hidden = sorted(set(classes))
    others = [index for index in every if index not in hidden]
    if layer.bias is not None and hidden and others:
        with torch.no_grad():
            layer.bias[hidden] = layer.bias[others].median()


def _accuracy(logits_of: Callable[[Tensor], Tensor], samples: SampleSet, step: int) -> float:
    right, finite = [], []
    with torch.inference_mode():
        for images, labels in samples.batches(batch_slices(samples, samples.labels.device)):
            logits = logits_of(images)
            right.append((logits.argmax(dim=1) == labels).sum())
            finite.append((logits < torch.inf).all())  # minus infinity is the mask of another class
    if not torch.stack(finite).all():
        raise UnlearningDivergedError(
            f"relearn: the outputs are not finite at step {step}; try a smaller learning rate"
        )
    return int(torch.stack(right).sum()) / len(samples)
