"""What audits read where a client uses another model than the one of all: the worse of both for what is forgotten."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from fed_unlearn.audits.base import Judged
from fed_unlearn.audits.scores import scored_logits
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.logits import predict_logits


@dataclass
class JudgedModels:
    """The models that an audit of a client judges.

    What is retained is judged by the model that the client uses. What is to be forgotten counts as recognised if either
    model recognises it, and so do the samples that it is compared with: of each sample the answer of the model counts
    that recognises it, or else that is surer of its class.

    Attributes
    ----------
    used : nn.Module
        What the client uses.
    shared : nn.Module or None
        The model of all; None where it is the same, or none by itself.
    passes : int
        Samples read so far, by each model.
    """

    used: nn.Module
    shared: nn.Module | None
    passes: int = field(default=0, init=False)

    def read(self, samples: SampleSet, *, scored: bool = False) -> tuple[Tensor, Judged]:
        """What the client's model says of samples, and for each the answer that counts against forgetting.

        Parameters
        ----------
        samples : SampleSet
        scored : bool
            Whether the scores of classes are read in the same pass; of each sample from the model that counts.

        Returns
        -------
        tuple of Tensor of shape (n, classes) and Judged
        """
        used, own_scores = self._read(self.used, samples, scored)
        if self.shared is None or not len(samples):
            return used, Judged.whole(samples, used, own_scores)
        shared, scores = self._read(self.shared, samples, scored)
        labels = samples.labels.to(used.device)
        is_surer = (_surety(shared, labels) > _surety(used, labels))[:, None]
        if scores is not None and own_scores is not None:
            scores = torch.where(is_surer, scores, own_scores)
        return used, Judged.whole(samples, torch.where(is_surer, shared, used), scores)

    def _read(self, model: nn.Module, samples: SampleSet, scored: bool) -> tuple[Tensor, Tensor | None]:
        self.passes += len(samples)
        return scored_logits(model, samples) if scored else (predict_logits(model, samples), None)


def for_classes(classes: Collection[int], labels: Tensor, theirs: Tensor, others: Tensor) -> Tensor:
    """Some logits for the samples of some classes, and others for the rest.

    Parameters
    ----------
    classes : collection of int
    labels : Tensor of shape (n,)
    theirs, others : Tensor of shape (n, classes)
    """
    if theirs is others or not classes:
        return others
    named = torch.isin(labels.to(others.device), torch.tensor(sorted(classes), device=others.device))
    return torch.where(named[:, None], theirs, others)


def _surety(logits: Tensor, labels: Tensor) -> Tensor:
    """The probability of each sample's own class, and 1 more where the sample is recognised."""
    own = logits.softmax(1).gather(1, labels[:, None])[:, 0]
    return own + (logits.argmax(1) == labels)
