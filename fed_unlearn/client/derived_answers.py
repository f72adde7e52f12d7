"""What a model answers whose output rows alone were set, from what the model before answered: few samples are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fed_unlearn.audits.scores import class_scores
from fed_unlearn.client.known_answers import ModelAnswers
from fed_unlearn.methods.parts.heads import OutputLayer

CHECKED = 16
"""Number of samples that are read to check that the model answers as derived."""

TOLERANCE = 1e-4
"""Largest difference of logits and scores from derived ones, absolute or as a share."""


@dataclass(frozen=True)
class RowsSet:
    """Output rows that were set since the last audit, as the server says.

    Attributes
    ----------
    classes : tuple of int
        Classes whose output rows were set.
    others : tuple of int
        Classes whose mean they have become.
    """

    classes: tuple[int, ...]
    others: tuple[int, ...]

    def answers(self, logits: Tensor, layer: OutputLayer) -> tuple[Tensor, Tensor]:
        """Logits and scores of the model with these rows.

        Parameters
        ----------
        logits : Tensor of shape (n, classes)
            Logits of the model before.
        layer : nn.Linear or nn.Conv2d
            The output layer of the model with these rows.
        """
        changed = logits.clone()
        mean = logits[:, list(self.others)].double().mean(dim=1, keepdim=True)
        changed[:, list(self.classes)] = mean.to(logits.dtype).expand(-1, len(self.classes))
        if layer.bias is None:
            return changed, class_scores(changed)
        return changed, class_scores(changed, changed.double() - layer.bias.detach().cpu().double())

    def fits(self, classes: int) -> bool:
        """Whether these can be rows of a model of so many classes."""
        named = (*self.classes, *self.others)
        return bool(self.classes and self.others) and all(0 <= index < classes for index in named)

    def source(
        self, known: Sequence[ModelAnswers], keys: Sequence[str], found: tuple[Tensor, Tensor], layer: OutputLayer
    ) -> ModelAnswers | None:
        """The model before, among those whose answers are known; None where none leads to what was read.

        Parameters
        ----------
        known : sequence of ModelAnswers
        keys : sequence of str
            Keys of the samples that were read.
        found : tuple of two Tensor
            Logits and scores that the model with these rows has answered.
        layer : nn.Linear or nn.Conv2d
        """
        for answers in known:
            if answers.missing(keys) or not self.fits(answers.logits.shape[1]):
                continue
            derived = self.answers(answers.of(keys)[0], layer)
            if all(torch.allclose(a, b.cpu(), TOLERANCE, TOLERANCE) for a, b in zip(derived, found, strict=True)):
                return answers
        return None
