"""How many optimizer steps bring forgotten samples back; samples that were only hidden need few."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Interval
from torch import nn

from fed_unlearn.audits.relearner import climb, relearner
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import EmptySetError
from fed_unlearn.logits import device_of
from fed_unlearn.methods.parts.batches import cycle
from fed_unlearn.methods.parts.validation import require
from fed_unlearn.settings import AboveZero, FromOne, Settings


@dataclass(frozen=True, kw_only=True)
class RelearnSettings(Settings, prefix="relearn: "):
    """How a copy is trained on the forget set, and how it is measured.

    Attributes
    ----------
    learning_rate, momentum : float
        Learning rate and momentum of SGD. Small steps tell models apart that large steps all bring back at once.
    batch_size : int
    max_steps : int
        Bound on the optimizer steps.
    max_measured : int
        Maximum number of samples that the accuracy is measured on, drawn at random. It is measured after every step, or
        every few steps where measuring reads far more samples than a step does.
    fresh_row : bool
        Whether the output rows of the classes start as the mean of the others. If not, the models' own rows decide:
        one that was overwritten looks like deep forgetting, and a large row is trained in few steps.
    """

    learning_rate: AboveZero = 3e-3
    momentum: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    batch_size: FromOne = 64
    max_steps: FromOne = 500
    max_measured: FromOne = 1000
    fresh_row: bool = True


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
    measured: SampleSet | None = None,
) -> RelearnResult:
    """Train a copy on nothing but the forget set until it is recognised again.

    Every model starts alike. The output rows and biases of the forgotten classes are set to the mean of the others, so
    that neither a mask nor a row that was overwritten has an effect: a bias says how frequent a class is, and a row can
    be replaced without a change of any feature. Outputs are read directly from the output layer, before a wrapper
    changes them. Compare the figure with that of a retrain oracle.

    BatchNorm statistics are frozen and dropout is off. Every floating-point parameter is trained, also one that does
    not require a gradient in ``model``.

    Parameters
    ----------
    model : nn.Module
        The model. It is not changed.
    forget : SampleSet
        Samples to forget, D_f.
    target_accuracy : float in (0, 1]
        Relearning ends here. A usual choice is 0.9 times the accuracy of the model before it forgot.
    generator : torch.Generator
        Draws the order of the batches and the measured samples; on the CPU.
    settings : RelearnSettings, optional
        The defaults of :class:`RelearnSettings` if None.
    classes : collection of int, optional
        Classes whose output rows and biases are reset: the labels of the forget set if None, no class if empty. None is
        reset if these are all classes of the model.
    head : str, optional
        Name of the layer that gives the logits; the one that is found in a traced call if None.
    measured : SampleSet, optional
        Samples on which the accuracy is measured, for instance D_ft; the forget set if None.

    Returns
    -------
    RelearnResult
        Result of relearning. It has 0 steps if the copy recognises the samples at once, which only happens with the
        model's own row.

    Raises
    ------
    EmptySetError
        If the forget set is empty, or the measured samples are.
    InvalidDataError
        If a label is not an output of the model.
    InvalidModelError
        If the model has no such layer, or its weight cannot be set.
    InvalidParameterError
        If a setting is out of range, or a class is not an output of the model.
    UnlearningDivergedError
        If a loss or an output is not a finite number.
    """
    require("target_accuracy", "relearn", target_accuracy, float, above=0, maximum=1)
    settings = settings or RelearnSettings()
    forget = _read("forget set", forget, device_of(model))
    judged = forget if measured is None else _read("set of measured samples", measured, device_of(model))
    judged = _some_of(judged, settings.max_measured, generator)
    interval = _steps_between(len(judged), settings)
    batches = cycle(forget, settings.batch_size, generator)
    with relearner(
        "relearn",
        model,
        forget,
        classes=forget.labels.unique().tolist() if classes is None else classes,
        fresh_row=settings.fresh_row,
        learning_rate=settings.learning_rate,
        momentum=settings.momentum,
        head=head,
    ) as copy:
        found = climb(
            lambda: copy.train(*next(batches)[1:]),
            lambda step: copy.recall(judged, step),
            [target_accuracy],
            max_steps=settings.max_steps,
            is_measured=lambda step: step % interval == 0,
        )
    return RelearnResult(found.steps[0], found.reached[0], found.recall)


def _read(name: str, samples: SampleSet, device: torch.device) -> SampleSet:
    """The samples without random augmentation, on a device; raise if there is none."""
    if len(samples) == 0:
        raise EmptySetError(f"relearn: the {name} has no sample; at least one was expected")
    return samples.evaluated().to(device)


def _some_of(samples: SampleSet, most: int, generator: torch.Generator) -> SampleSet:
    """All samples, or as many random ones where there are more."""
    if len(samples) <= most:
        return samples
    return samples.subset(torch.randperm(len(samples), generator=generator)[:most].to(samples.labels.device))


def _steps_between(measured: int, settings: RelearnSettings) -> int:
    """Steps from one measurement to the next: measuring so many samples costs about as much as these."""
    return max(1, math.ceil(measured / (4 * settings.batch_size)))
