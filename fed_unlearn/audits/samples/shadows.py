"""What shadow models say of the samples of one request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import InvalidDataError
from fed_unlearn.logits import confidence, predict_logits

LEAST_SHADOWS = 4
"""Minimum number of models of a kind. With fewer, too few are left for a spread when one is held out."""


@dataclass(frozen=True, kw_only=True)
class Shadows:
    """Confidences of shadow models in the samples of a request: log-odds of each sample's own class.

    Attributes
    ----------
    retrained : Tensor of shape (models, n), float64
        Confidences of models that were trained without the forget set, in its samples, in the order of D_f.
    retrained_test : Tensor of shape (models, m), float64
        Confidences of the same models in the test samples D_rt, in their order.
    unlearned : Tensor of shape (others, n), float64, or None
        Confidences, in the forget set, of models that were trained with it and then made to forget as the audited model
        was. None where there are none.
    memorised : Tensor of shape (n,), bool, or None
        Whether a sample of the forget set was chosen because models memorise it; None where none was.

    Raises
    ------
    InvalidDataError
        If shapes do not fit, there are fewer than four models of a kind, or a value is not finite.
    """

    retrained: Tensor
    retrained_test: Tensor
    unlearned: Tensor | None = None
    memorised: Tensor | None = None

    def __post_init__(self) -> None:
        count, samples = self.retrained.shape
        kinds = [self.retrained, *([] if self.unlearned is None else [self.unlearned])]
        if any(len(kind) < LEAST_SHADOWS or kind.shape[1] != samples for kind in kinds):
            shapes = ", ".join(str(tuple(kind.shape)) for kind in kinds)
            raise InvalidDataError(
                f"shadows: confidences of shape {shapes} were given; expected at least {LEAST_SHADOWS} models of each"
                " kind and the same samples"
            )
        if len(self.retrained_test) != count:
            raise InvalidDataError(
                f"shadows: {len(self.retrained_test)} models were read on test samples and {count} on the forget set;"
                " expected the same models"
            )
        if self.memorised is not None and self.memorised.shape != (samples,):
            raise InvalidDataError(
                f"shadows: memorised has shape {tuple(self.memorised.shape)}; expected ({samples},), one value a sample"
            )
        if not all(bool(torch.isfinite(kind).all()) for kind in (*kinds, self.retrained_test)):
            raise InvalidDataError("shadows: a confidence is not a finite number; leave out models that diverged")

    def groups(self) -> dict[str, Tensor]:
        """Positions of the samples, by what the names of their figures end with.

        ``"_random"`` and ``"_memorised"`` where some were chosen since models memorise them, else ``""``.
        """
        if self.memorised is None:
            return {"": torch.arange(self.retrained.shape[1])}
        sides = {"_random": ~self.memorised, "_memorised": self.memorised}
        return {name: side.nonzero().flatten() for name, side in sides.items() if bool(side.any())}


def sample_confidence(logits: Tensor, labels: Tensor) -> Tensor:
    """Log-odds of each sample's own class (Carlini et al., 2022, section IV.C), in float64.

    Parameters
    ----------
    logits : Tensor of shape (n, classes)
    labels : Tensor of shape (n,), int64

    Returns
    -------
    Tensor of shape (n,), float64
        log(p / (1 - p)) of the softmax probability p, without a loss of digits where p is close to 1.
    """
    return confidence(logits.double(), labels)


def confidences(models: Sequence[nn.Module], samples: SampleSet) -> Tensor:
    """Confidences of several models in the same samples, of shape (models, n), float64, on the CPU."""
    labels = samples.labels.cpu()
    rows = [sample_confidence(predict_logits(model, samples), labels) for model in models]
    return torch.stack(rows) if len(samples) else torch.empty(len(rows), 0, dtype=torch.float64)
