"""Samples whose inputs are one tensor in memory: floats of any shape, or tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from fed_unlearn.data.domain import TOKENS, VALUES, InputDomain
from fed_unlearn.data.sample_set import Indices, SampleSet, checked_ids
from fed_unlearn.errors import InvalidDataError


class TensorSet(SampleSet):
    """Inputs in memory with labels and stable sample ids: rows of a table, series, spectrograms, tokens of texts.

    Parameters
    ----------
    inputs : Tensor of shape (n, ...), float32 or int64
        The inputs, as the model reads them.
    labels : Tensor of shape (n,), int64
        Label of each input.
    ids : sequence of str, optional
        Stable id of each sample. If none are given, its index.
    domain : InputDomain, optional
        What the inputs are. By default whole numbers are tokens, and floats are values of any range. Normalised images
        have ``InputDomain.normalized(mean, std)``.

    Raises
    ------
    InvalidDataError
        If shapes, dtypes or the number of ids do not fit, an id occurs twice, or a value is outside the domain.
    """

    def __init__(
        self, inputs: Tensor, labels: Tensor, ids: Sequence[str] | None = None, *, domain: InputDomain | None = None
    ) -> None:
        if inputs.ndim < 1 or inputs.dtype not in (torch.float32, torch.int64):
            raise InvalidDataError(
                f"inputs: a tensor of shape {tuple(inputs.shape)} and {inputs.dtype} was given; expected (n, ...) of"
                " float32, or of int64 for tokens"
            )
        if domain is None:
            domain = VALUES if inputs.is_floating_point() else TOKENS
        domain.read(inputs[:0])
        domain.check(inputs)
        self._hold(inputs, labels, checked_ids(len(inputs), labels, ids), domain)

    def _hold(self, inputs: Tensor, labels: Tensor, ids: tuple[str, ...], domain: InputDomain) -> None:
        self.inputs = inputs
        self.labels = labels
        self.ids = ids
        self.domain = domain

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return tuple(self.inputs.shape[1:])

    def batch(self, indices: Indices = slice(None)) -> tuple[Tensor, Tensor]:
        """Inputs (n, ...) and labels (n,) at some positions."""
        return self.inputs[indices], self.labels[indices]

    def to(self, device: torch.device) -> Self:
        """The same samples with their tensors on a device. The set itself if they are there already."""
        if self.inputs.device == device and self.labels.device == device:
            return self
        return self._like(self.inputs.to(device), self.labels.to(device), self.ids)

    def subset(self, indices: Tensor) -> Self:
        """The samples at ``indices`` (int64), in that order, with their ids."""
        ids = tuple(self.ids[index] for index in indices.tolist())
        return self._like(self.inputs[indices], self.labels[indices], ids)

    def relabelled(self, labels: Tensor) -> Self:
        """The same inputs and ids under other labels."""
        return self._like(self.inputs, labels, self.ids)

    def with_inputs(self, inputs: Tensor) -> Self:
        """Other inputs of the same shape and type, under the same labels and ids.

        Raises
        ------
        InvalidDataError
            If the shape or the type is another, or a value is outside the domain.
        """
        if inputs.shape != self.inputs.shape or inputs.dtype != self.inputs.dtype:
            raise InvalidDataError(
                f"inputs: a tensor of shape {tuple(inputs.shape)} and {inputs.dtype} was given; expected"
                f" {tuple(self.inputs.shape)} of {self.inputs.dtype}"
            )
        self.domain.check(inputs)
        return self._like(inputs, self.labels, self.ids)

    def merged_with(self, others: Sequence[SampleSet], ids: Sequence[str] | None) -> SampleSet | None:
        """One set in memory, if all are; see :meth:`SampleSet.merged_with`."""
        parts = [self, *(other for other in others if isinstance(other, TensorSet))]
        if len(parts) <= len(others) or len({(type(part), part.input_shape, part.domain) for part in parts}) > 1:
            return None
        one_kind = len({part.inputs.dtype for part in parts}) == 1
        inputs = torch.cat([part.inputs if one_kind else part.batch()[0] for part in parts])
        labels = torch.cat([part.labels for part in parts])
        return self._like(inputs, labels, checked_ids(len(inputs), labels, ids))

    def _like(self, inputs: Tensor, labels: Tensor, ids: tuple[str, ...]) -> Self:
        """A set of this kind; its inputs were checked when this one was made."""
        made = type(self).__new__(type(self))
        made._hold(inputs, labels, checked_ids(len(inputs), labels, ids), self.domain)
        return made
