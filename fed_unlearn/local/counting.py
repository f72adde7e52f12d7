"""Counts of what a model shows of a request's samples on one machine; figures and evidence are made of them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn

from fed_unlearn.audits.accuracy import ClassCounts
from fed_unlearn.audits.base import Judged
from fed_unlearn.audits.counts import RequestCounts
from fed_unlearn.audits.scores import scored_logits
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.holder import observe
from fed_unlearn.local.samples import LocalSamples
from fed_unlearn.logits import predict_logits
from fed_unlearn.pass_counter import PassCounter
from fed_unlearn.requests import ClassScope, ForgetRequest
from fed_unlearn.seeding import derive_seed


@dataclass(kw_only=True)
class Counting:
    """Counts what models show of a request's samples; every sample that a model reads is a forward pass.

    Attributes
    ----------
    request, samples, client, seed, left_out
        What is counted, as :class:`fed_unlearn.local.attempt.LocalAttempt` has it.
    original : nn.Module
        The model before the request. All models that are counted have as many outputs.
    passes : PassCounter
        The forward passes of all counts are added to it.
    """

    request: ForgetRequest
    samples: LocalSamples
    original: nn.Module
    left_out: frozenset[int]
    client: str
    seed: int
    passes: PassCounter = field(default_factory=PassCounter)

    @property
    def classes(self) -> tuple[int, ...]:
        """The classes that the request names."""
        return self.request.scope.classes if isinstance(self.request.scope, ClassScope) else ()

    @property
    def judged_by(self) -> SampleSet:
        """The retained samples that the gate looks at: those for validation, where there are some."""
        return self.samples.validation if len(self.samples.validation) else self.samples.retained

    def class_counts(self, model: nn.Module, samples: SampleSet) -> ClassCounts:
        """How many samples of each class a model gets right.

        Parameters
        ----------
        model : nn.Module
            The model that reads the samples. It is not changed.
        samples : SampleSet
            The samples that are counted, with their labels.
        """
        return ClassCounts.of(self._logits(model, samples), samples.labels, self._class_count)

    def request_counts(
        self, model: nn.Module, audits: Collection[str] = (), limits: Tensor | None = None
    ) -> RequestCounts:
        """What a model shows of the request's samples.

        Parameters
        ----------
        model : nn.Module
            The model that reads the samples. It is not changed.
        audits : collection of str
            Names of further audits. Accuracy and the membership attack are counted without them.
        limits : Tensor of shape (n,), optional
            Log-odds from which on each forget sample stands too high. A method that has read a reference gives them.
        """
        validation, test, scored = self.samples.validation, self.samples.test, bool(audits)
        seen = observe(
            model,
            self.request.scope.kind,
            self.classes,
            self._judged(model, self.samples.forget, scored),
            self._class_count,
            test=None if test is None else self._judged(model, test, scored),
            validation=self._judged(model, validation, scored) if len(validation) else None,
            left_out=self.left_out.difference(self.classes),
            limits=limits,
            seed=derive_seed(self.seed, "audit", self.request.id, self.client),
        )
        return RequestCounts.of(seen, audits)

    def _judged(self, model: nn.Module, samples: SampleSet, scored: bool) -> Judged:
        if not scored:
            return Judged.whole(samples, self._logits(model, samples))
        self.passes.add(forward=len(samples))
        return Judged.whole(samples, *scored_logits(model, samples))

    def _logits(self, model: nn.Module, samples: SampleSet) -> Tensor:
        self.passes.add(forward=len(samples))
        return predict_logits(model, samples)

    @cached_property
    def _class_count(self) -> int:
        return predict_logits(self.original, self.samples.forget.subset(torch.tensor([0]))).shape[1]
