"""How a reference is trained where none was given: as a model is, on retained samples alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import nn

from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import InvalidModelError, UnlearningDivergedError
from fed_unlearn.methods.parts.fresh_weights import draw_fresh
from fed_unlearn.methods.parts.workspace import Workspace
from fed_unlearn.methods.reset_and_relearn import ResetAndRelearn
from fed_unlearn.model_copies import copied
from fed_unlearn.seeding import isolated_random
from fed_unlearn.training import TrainingSettings, train_locally

_TRAINING = TrainingSettings()


@dataclass(frozen=True, kw_only=True)
class ReferenceTraining:
    """Training of a reference.

    Attributes
    ----------
    blocks : int or None
        Number of last blocks beside the head that are drawn anew, above the others as they are. None means that the
        whole model is drawn anew, but for what it has frozen.
    epochs : int
        Passes over the retained samples. A model that is drawn anew is trained with the defaults of
        :class:`~fed_unlearn.training.TrainingSettings`, and a learning rate that falls along a cosine from epoch to
        epoch: what single samples get from the last steps at a constant rate is mostly chance. Blocks are trained as
        ``reset-and-relearn`` trains them.
    precision : {"float32", "bfloat16"}
        What blocks are trained in, as in ``reset-and-relearn``.
    """

    blocks: int | None
    epochs: int
    precision: Literal["float32", "bfloat16"] = "float32"

    def trained(self, work: Workspace) -> nn.Module | None:
        """Train a reference; None where there are no retained samples. Its passes are counted.

        Raises
        ------
        InvalidModelError
            If all of the model is frozen.
        UnlearningDivergedError
            If its loss is not finite.
        """
        if work.retain is None:
            return None
        return self._whole(work, work.retain) if self.blocks is None else self._above(work, work.retain, self.blocks)

    def _whole(self, work: Workspace, retain: SampleSet) -> nn.Module:
        model = copied(work.original)
        if not draw_fresh(model, [""], work.generator):
            raise InvalidModelError(
                f"all of {type(model).__name__} is frozen, so that no reference can be trained; expected a parameter"
                " that may be trained: give a reference, or use targets = 'ranks'"
            )
        with isolated_random(int(torch.randint(2**62, (), generator=work.generator))):  # dropout draws from global ones
            for epoch in range(self.epochs):
                rate = _TRAINING.learning_rate * (1 + math.cos(math.pi * epoch / self.epochs)) / 2
                try:
                    passes = train_locally(model, retain, replace(_TRAINING, learning_rate=rate), work.generator)
                except UnlearningDivergedError as error:
                    raise UnlearningDivergedError(
                        f"the reference cannot be trained from fresh weights ({error}); give a reference, or a number"
                        " of reference_blocks"
                    ) from error
                work.passes.add(forward=passes.forward, backward=passes.backward)
        return model.eval()

    def _above(self, work: Workspace, retain: SampleSet, blocks: int) -> nn.Module:
        method = ResetAndRelearn(blocks=blocks, epochs=self.epochs, precision=self.precision)
        outcome = method.unlearn(
            work.original, work.forget, retain, excluded_classes=work.excluded_classes, generator=work.generator
        )
        work.passes.add(forward=outcome.forward_passes, backward=outcome.backward_passes)
        return outcome.model
