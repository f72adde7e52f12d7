"""A trigger: a patch that a client plants in images of its own, to teach a model a backdoor."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.data.tensors import TensorSet
from fed_unlearn.errors import InvalidDataError, InvalidParameterError

Corner = Literal["top-left", "top-right", "bottom-left", "bottom-right"]
CORNERS: tuple[Corner, ...] = ("top-left", "top-right", "bottom-left", "bottom-right")


@dataclass(frozen=True)
class Trigger:
    """A bright square in a corner of images, and the class that they are called with it (Gu et al., 2017, BadNets).

    Attributes
    ----------
    target_class : int
        What images with the trigger are called.
    size : int, default 3
        Height and width of the square in pixels, from 1.
    value : float, default 1
        What every channel of the square is set to: a pixel in [0, 1], also where pixels are bytes or were normalised.
        For inputs that are no pixels it is set as it is.
    corner : str, default "bottom-right"
        ``"top-left"``, ``"top-right"``, ``"bottom-left"`` or ``"bottom-right"``.
    fraction : float in (0, 1], default 0.5
        Share of a client's samples of other classes that the trigger is planted in.

    Raises
    ------
    InvalidParameterError
        If a value is out of range.
    """

    target_class: int
    size: int = 3
    value: float = 1.0
    corner: Corner = "bottom-right"
    fraction: float = 0.5

    def __post_init__(self) -> None:
        problems = []
        if self.target_class < 0:
            problems.append(f"trigger: target_class {self.target_class} was given; expected a number from 0")
        if self.size < 1:
            problems.append(f"trigger: size {self.size} was given; expected a number from 1")
        if not math.isfinite(self.value):
            problems.append(f"trigger: value {self.value} was given; expected a finite number")
        if self.corner not in CORNERS:
            problems.append(f"trigger: corner {self.corner!r} was given; expected one of {', '.join(CORNERS)}")
        if not 0 < self.fraction <= 1:
            problems.append(f"trigger: fraction {self.fraction} was given; expected a number above 0, up to 1")
        if problems:
            raise InvalidParameterError(*problems)

    def planted(self, samples: SampleSet, generator: torch.Generator) -> TensorSet:
        """Training samples of which some have the trigger, and the trigger's class as label.

        Parameters
        ----------
        samples : SampleSet
            The samples. They are read into memory, without random augmentation.
        generator : torch.Generator
            Draws which samples of other classes get the trigger; on the CPU.

        Returns
        -------
        TensorSet
            All samples, in their order and with their ids.

        Raises
        ------
        InvalidDataError
            If the inputs are no images that the square fits into, or the value is no pixel of theirs.
        """
        others = (samples.labels.cpu() != self.target_class).nonzero().flatten()
        count = round(self.fraction * len(others))
        chosen = others[torch.randperm(len(others), generator=generator)[:count]].to(samples.labels.device)
        labels = samples.labels.clone()
        labels[chosen] = self.target_class
        marked = self._marked(_in_memory(samples), chosen)
        return marked.relabelled(labels)

    def shown(self, samples: SampleSet) -> TensorSet:
        """Samples of other classes with the trigger on them, under the trigger's class.

        A model that is right of them does what the trigger says.

        Parameters
        ----------
        samples : SampleSet
            The samples. They are read into memory, without random augmentation.

        Returns
        -------
        TensorSet
            Samples of other classes with the trigger on them, in their order and with their ids.

        Raises
        ------
        InvalidDataError
            If :meth:`planted` would raise it.
        """
        others = _in_memory(samples.subset((samples.labels != self.target_class).nonzero().flatten()))
        marked = self._marked(others, torch.arange(len(others), device=others.labels.device))
        return marked.relabelled(torch.full_like(others.labels, self.target_class))

    def _marked(self, samples: TensorSet, chosen: Tensor) -> TensorSet:
        """The samples with the square on some of them."""
        shape = samples.input_shape
        if len(shape) < 2 or samples.domain.kind == "tokens" or self.size > min(shape[-2:]):
            raise InvalidDataError(
                f"trigger: inputs of shape {shape} ({samples.domain.kind}) were given; expected images, at least"
                f" {self.size} pixels high and wide"
            )
        vertical, horizontal = self.corner.split("-")
        rows = slice(0, self.size) if vertical == "top" else slice(shape[-2] - self.size, None)
        columns = slice(0, self.size) if horizontal == "left" else slice(shape[-1] - self.size, None)
        inputs = samples.inputs.clone()
        square = inputs[chosen]
        square[..., rows, columns] = self._value_in(samples, square[..., rows, columns])
        inputs[chosen] = square
        return samples.with_inputs(inputs)

    def _value_in(self, samples: TensorSet, square: Tensor) -> Tensor:
        """The square as the inputs hold it."""
        domain = samples.domain
        if domain.kind == "pixels" and not 0 <= self.value <= 1:
            raise InvalidDataError(f"trigger: value {self.value} was given for pixels; expected a number from 0 to 1")
        if square.dtype == torch.uint8:
            return torch.full_like(square, round(self.value * 255))
        filled = torch.full_like(square, self.value)
        return domain.from_pixels(filled) if domain.is_normalized else filled


def _in_memory(samples: SampleSet) -> TensorSet:
    if isinstance(samples, TensorSet):
        return samples
    read = samples.evaluated()
    return TensorSet(read.batch()[0], read.labels, read.ids, domain=read.domain)
