"""What an audit may read of one model: samples with the model's answers, and in one place much more."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from fed_unlearn.audits.readings import Central
from fed_unlearn.audits.scores import class_scores
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.requests import ScopeKind


@dataclass(frozen=True)
class Judged:
    """Samples, and what the model says of them.

    Attributes
    ----------
    source : SampleSet
        Set that holds the samples.
    positions : Tensor of shape (n,), int64
        Positions of the samples in ``source``.
    logits : Tensor of shape (n, classes), float32
        Logits of the model, as whoever uses it sees them.
    scores : Tensor of shape (n, classes), float32, or None
        Log-odds of each class against all others, of the output layer alone and without the class's own bias
        (:mod:`fed_unlearn.audits.scores`). None where they were not read.
    """

    source: SampleSet
    positions: Tensor
    logits: Tensor
    scores: Tensor | None = None

    @classmethod
    def whole(cls, samples: SampleSet, logits: Tensor, scores: Tensor | None = None) -> Judged:
        """All of some samples."""
        return cls(samples, torch.arange(len(samples)), logits, scores)

    def where(self, chosen: Tensor) -> Judged:
        """The samples at which ``chosen``, of shape (n,) and bool, is true."""
        scores = self.scores[chosen] if self.scores is not None else None
        return Judged(self.source, self.positions[chosen], self.logits[chosen], scores)

    def of_classes(self, classes: Tensor) -> Judged:
        """The samples whose label is one of the classes."""
        return self.where(torch.isin(self.labels, classes))

    @cached_property
    def labels(self) -> Tensor:
        """True classes, of shape (n,), int64."""
        return self.source.labels[self.positions]

    @cached_property
    def samples(self) -> SampleSet:
        """The samples themselves."""
        return self.source.subset(self.positions)

    @cached_property
    def class_scores(self) -> Tensor:
        """The scores; those of the logits where none were read, in which a mask hides what it masks."""
        return self.scores if self.scores is not None else class_scores(self.logits)

    def __len__(self) -> int:
        return len(self.positions)


@dataclass(frozen=True, kw_only=True)
class Observation:
    """All that an audit may read of one model for one request.

    Attributes
    ----------
    model : nn.Module
        The audited model. It must not be changed: an audit that trains works on a copy.
    scope : str
        Scope of the request: ``"class"``, ``"sample"`` or ``"client"``.
    class_count : int
    forget : Judged
        D_f, or the holder's part of it; no sample where the holder has none or may not read them.
    outsiders : Judged or None
        Test samples of the classes that the request names, or else of those of ``forget``; None without test samples.
    unseen : Judged or None
        Validation samples of the same classes that no method reads, for a sample request.
    validation, retained : Judged or None
        The holder's validation samples, and its retained training samples where it stays, for a client request.
    seed : int
        Seed of all that the audit draws.
    classes : tuple of int
        The classes that the request names; empty for other scopes.
    test_retain : Judged or None
        Test samples of the classes that are retained, for results alone.
    held_out, held_out_retain : Judged or None
        Validation samples of the classes that the request names, and of those that are retained: a gate may judge by
        them. None where there are none, or they were not read.
    left_out : tuple of int
        Further classes that do not stay: forgotten before, asked for beside, or not there yet.
    triggered : Judged or None
        Test samples with a planted trigger shown on them, under the trigger's class, for a client request; None where
        no trigger is known.
    limits : Tensor of shape (n,) or None
        Log-odds of each forget sample's own class from which on the sample stands too high, for a sample request. The
        method found them in a reference; None where it read none.
    central : Central or None
        What else audits may read where models and data are in one place; None in a federation.
    """

    model: nn.Module
    scope: ScopeKind
    class_count: int
    forget: Judged
    outsiders: Judged | None = None
    unseen: Judged | None = None
    validation: Judged | None = None
    retained: Judged | None = None
    seed: int = 0
    classes: tuple[int, ...] = ()
    test_retain: Judged | None = None
    held_out: Judged | None = None
    held_out_retain: Judged | None = None
    left_out: tuple[int, ...] = ()
    triggered: Judged | None = None
    limits: Tensor | None = None
    central: Central | None = None

    @cached_property
    def staying(self) -> tuple[int, ...]:
        """The classes that stay, in order."""
        gone = {*self.classes, *self.left_out}
        return tuple(index for index in range(self.class_count) if index not in gone)
