"""What audits read in one place: the data of a request, and what models say of it; each sample is read once a model."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from fed_unlearn.audits.layers import model_outputs, output_layer
from fed_unlearn.audits.samples.shadows import Shadows
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import EmptySetError
from fed_unlearn.methods.parts.heads import OutputLayer
from fed_unlearn.pass_counter import PassCounter

T = TypeVar("T")

PartName = Literal["forget", "retain", "test_forget", "test_retain", "triggered"]
"""D_f, (a part of) D_r, D_ft and D_rt, and test samples with a planted trigger shown on them."""


@dataclass(frozen=True)
class Answers:
    """What a model says of some samples, in their order, on the CPU.

    Attributes
    ----------
    served : Tensor of shape (n, classes), float32
        The model's outputs, as whoever uses it sees them.
    raw : Tensor of shape (n, classes), float32
        Outputs of the output layer, before a mask or a scale of the model changes them.
    features : Tensor of shape (n, features), float32
        Inputs of the output layer.
    labels : Tensor of shape (n,), int64
    """

    served: Tensor
    raw: Tensor
    features: Tensor
    labels: Tensor


@dataclass(frozen=True, kw_only=True)
class RequestData:
    """The samples that audits in one place read for one request.

    Attributes
    ----------
    parts : mapping of str to SampleSet
        ``"forget"`` (D_f), ``"retain"`` (a part of D_r), ``"test_forget"`` (D_ft, empty where no class is forgotten)
        and ``"test_retain"`` (D_rt). For a client D_f are the client's training samples, D_r those of the others, and
        D_rt are the unseen samples that they are compared with; ``"triggered"`` may be given too, from
        :meth:`fed_unlearn.data.trigger.Trigger.shown`.
    classes : frozenset of int
        The forgotten classes; empty where single samples or a client are forgotten.
    class_count : int
    head : str or None
        Name of the layer that gives the logits, where a model has several.
    left_out : frozenset of int
        Further classes that do not stay: forgotten before, or not there yet.
    """

    parts: Mapping[PartName, SampleSet]
    classes: frozenset[int]
    class_count: int
    head: str | None = None
    left_out: frozenset[int] = frozenset()

    @cached_property
    def staying(self) -> tuple[int, ...]:
        """Classes that are not forgotten."""
        gone = self.classes | self.left_out
        return tuple(index for index in range(self.class_count) if index not in gone)


@dataclass(eq=False)
class Readings:
    """One model and what it says of the data; a part is read when it is first asked for, and kept.

    Attributes
    ----------
    model : nn.Module
        The model. It is not changed.
    data : RequestData
    passes : PassCounter
        Samples read so far. Audits that train a copy of the model add theirs.
    """

    model: nn.Module
    data: RequestData
    passes: PassCounter = field(default_factory=PassCounter)
    _answers: dict[PartName, Answers] = field(default_factory=dict, init=False)
    _kept: dict[Hashable, Any] = field(default_factory=dict, init=False)

    @cached_property
    def layer(self) -> OutputLayer:
        """The layer that gives the raw logits.

        Raises
        ------
        InvalidModelError
            If there is none.
        """
        some = next((part for part in self.data.parts.values() if len(part)), None)
        if some is None:
            raise EmptySetError("audits: no part of the data has a sample; at least one was expected")
        return output_layer("audits", self.model, some, self.data.head)

    def answers(self, part: PartName) -> Answers:
        """What the model says of one part."""
        if part not in self._answers:
            samples = self.data.parts[part]
            self.passes.add(forward=len(samples))
            if len(samples):
                served, raw, features = model_outputs(self.model, samples, self.layer)
            else:
                served = raw = torch.empty(0, self.data.class_count)
                features = torch.empty(0, self.layer.weight.shape[1])
            self._answers[part] = Answers(served, raw, features, samples.labels.cpu())
        return self._answers[part]

    def kept(self, key: Hashable, compute: Callable[[], T]) -> T:
        """What an audit computes of this model alone, computed once: all comparisons read the original and the oracles.

        Parameters
        ----------
        key : hashable
            Names what is computed, the seed included where it draws.
        compute : callable
            Gives a small result, which must not be changed later.
        """
        if key not in self._kept:
            self._kept[key] = compute()
        found: T = self._kept[key]
        return found


@dataclass(frozen=True, kw_only=True)
class Central:
    """All that audits may read where models and data are in one place.

    Attributes
    ----------
    readings : Readings
        Readings of the model that is audited.
    original : Readings or None
        Readings of the model before the request.
    oracles : tuple of Readings
        Readings of models that were retrained without the forget set. The audited model is none of them.
    shadows : Shadows or None
        What shadow models say of the same samples.
    """

    readings: Readings
    original: Readings | None = None
    oracles: tuple[Readings, ...] = ()
    shadows: Shadows | None = None

    @property
    def data(self) -> RequestData:
        """The data, the same for all models."""
        return self.readings.data
