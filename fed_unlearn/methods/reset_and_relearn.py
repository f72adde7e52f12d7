"""Last blocks drawn anew and trained on retained samples (after EU-k of Goel et al., 2022), with masked distillation.

Whatever the last blocks knew of the forgotten samples is gone with their weights, and nothing that comes after reads
these samples. What lies below stays as it is, so that its activations are computed once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import InvalidDataError, InvalidModelError
from fed_unlearn.logits import device_of, predict_logits
from fed_unlearn.methods.base import Applied, Method, Scope, Workspace
from fed_unlearn.methods.descent import MEASURED_RETAINED, accuracy_of
from fed_unlearn.methods.parts.blocks import Division, divide
from fed_unlearn.methods.parts.fresh_weights import draw_fresh
from fed_unlearn.methods.parts.heads import find_head
from fed_unlearn.methods.parts.mean_rows import take_mean_rows
from fed_unlearn.methods.parts.operations import upper_share
from fed_unlearn.methods.parts.upper_batches import upper_batches
from fed_unlearn.methods.parts.upper_training import UpperTraining, alone_trained, train_upper
from fed_unlearn.methods.parts.validation import BelowOne, PositiveShare, require
from fed_unlearn.methods.registry import register
from fed_unlearn.model_inputs import model_inputs
from fed_unlearn.settings import AboveZero, Fraction, FromOne, FromZero, NotNegative


@register("reset-and-relearn")
@dataclass(frozen=True, kw_only=True)
class ResetAndRelearn(Method):
    """Draw the last blocks and the head anew, and train them on retained samples alone.

    Minimises ``(1 - d) CE + d T^2 KL(f0 without the forgotten classes || f)`` over retained samples, where ``f0`` is
    the model as it was given. At the end the forgotten classes' rows of the output layer are the mean of the others'.
    Forgotten classes are the excluded ones and those of which forget samples are given and no retained ones. The
    inputs of forget samples are never read.

    Parameters
    ----------
    blocks : int, default 2
        Number of blocks that are drawn anew beside the head, counted from the output:
        :func:`~fed_unlearn.methods.parts.blocks.model_blocks` lists them. The first block always stays, and so does
        what the model itself has frozen.
    distillation : float, default 0.7
        d, the weight of the answers of the model before. It counts where whole classes are forgotten. Single samples
        and clients are forgotten by cross-entropy alone, because the model before has memorised them.
    temperature : float, default 2.0
        T, which divides the logits in the divergence.
    epochs : int, default 3
        Passes over the retained samples.
    retain_fraction : float, default 1.0
        Share of the retained samples that is used, drawn at random.
    learning_rate : float, default 0.1
        Learning rate of SGD at the first step. It falls to zero along a cosine.
    momentum, weight_decay : float, default 0.9 and 0.0005
        Momentum and weight decay of SGD.
    batch_size : int, default 100
        Samples of a step.
    max_gradient_norm : float, default 5.0
        Longer gradients are scaled down to this norm. 0 means no bound.
    retain_tolerance : float, default 0.05
        The aim: the share of right answers on retained samples falls by at most this much.
    cache_bytes : int, default 2**30
        Maximum size in memory of the activations below the division, in bytes. Larger ones are kept in a temporary file
        while the method runs, and computed anew where the disk is too full.
    head : str or None, default None
        Name of the linear layer or 1x1 convolution that outputs the logits. None means the one that does in a traced
        call.

    Notes
    -----
    Activations are of samples without random augmentation. They take one forward pass. Passes of the epochs go through
    the upper part alone, and count by its share of the operations
    (:func:`~fed_unlearn.methods.parts.operations.upper_share`). Dropout is on in the drawn blocks; that of models whose
    computation cannot be traced, and that of a function instead of a module, is off.
    """

    paper: ClassVar[str] = "after Goel et al., Towards Adversarial Evaluations for Inexact Machine Unlearning, 2022"
    scopes: ClassVar[tuple[Scope, ...]] = ("class", "sample", "client")
    needs: ClassVar[str] = "retain"
    requires_retain: ClassVar[bool] = True
    reads_forget: ClassVar[bool] = False

    blocks: FromZero = 2
    distillation: Fraction = 0.7
    temperature: AboveZero = 2.0
    epochs: FromOne = 3
    retain_fraction: PositiveShare = 1.0
    learning_rate: AboveZero = 0.1
    momentum: BelowOne = 0.9
    weight_decay: NotNegative = 5e-4
    batch_size: FromOne = 100
    max_gradient_norm: NotNegative = 5.0
    retain_tolerance: Fraction = 0.05
    cache_bytes: FromZero = 2**30
    head: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.head is not None:
            require("head", self.name, self.head, str)

    def stronger(self) -> Self:
        """One more block and twice the epochs."""
        return replace(self, blocks=self.blocks + 1, epochs=2 * self.epochs)

    def _apply(self, work: Workspace) -> Applied:
        forgotten = _forgotten(work)
        samples = self._drawn(work, forgotten)
        layer = find_head(self.name, work.model, samples, self.head).layer if forgotten else None
        first = _first_input(work, samples)
        division = divide(self.name, work.model, first, self.blocks)
        share = upper_share(work.model, division, first)
        is_class = bool(forgotten) and forgotten.issuperset(work.forget.labels.tolist())
        asks_model = is_class and self.distillation > 0
        training = self._training()
        with (
            upper_batches(work, division, samples, asks_model=asks_model, cache_bytes=self.cache_bytes) as batches,
            _drawn_anew(self.name, work, division) as parameters,
        ):
            steps = train_upper(
                self.name,
                batches,
                parameters,
                training,
                epochs=self.epochs,
                forgotten=sorted(forgotten),
                generator=work.generator,
            )
        read = self.epochs * len(samples)
        is_whole = batches.activations is None
        work.passes.add(forward=read if is_whole else math.ceil(share * read), backward=math.ceil(share * read))
        if layer is not None:
            take_mean_rows(self.name, layer, sorted(forgotten))
        return Applied(self._is_kept(work, samples, steps), steps)

    def _drawn(self, work: Workspace, forgotten: frozenset[int]) -> SampleSet:
        """The retained samples that are trained on, none of them of a forgotten class."""
        labels = work.retained.labels.cpu()
        staying = (~torch.isin(labels, torch.tensor(sorted(forgotten), dtype=torch.int64))).nonzero().flatten()
        if not len(staying):
            raise InvalidDataError(
                f"{self.name}: classes {sorted(forgotten)} are forgotten, and no retained sample is of another; give"
                " retained samples of the classes that stay"
            )
        if self.retain_fraction < 1:
            order = torch.randperm(len(staying), generator=work.generator)
            staying = staying[order[: max(1, round(len(staying) * self.retain_fraction))].sort().values]
        return work.retained if len(staying) == len(labels) else work.retained.subset(staying)

    def _training(self) -> UpperTraining:
        return UpperTraining(
            distillation=self.distillation,
            temperature=self.temperature,
            learning_rate=self.learning_rate,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            batch_size=self.batch_size,
            max_gradient_norm=self.max_gradient_norm,
        )

    def _is_kept(self, work: Workspace, samples: SampleSet, steps: int) -> bool:
        """Whether retained samples are answered as well as before, to within the tolerance."""
        order = torch.randperm(len(samples), generator=work.generator)[:MEASURED_RETAINED]
        measured = samples.subset(order.to(samples.labels.device))
        work.passes.add(forward=len(measured))
        right = predict_logits(work.original, measured).argmax(dim=1) == measured.labels.cpu()
        return accuracy_of(work, measured, steps) >= float(right.double().mean()) - self.retain_tolerance


def _forgotten(work: Workspace) -> frozenset[int]:
    """The excluded classes, and those of which nothing is retained."""
    asked, kept = (set(samples.labels.unique().tolist()) for samples in (work.forget, work.retained))
    return work.excluded_classes | (asked - kept)


def _first_input(work: Workspace, samples: SampleSet) -> Tensor:
    inputs, _ = samples.evaluated().batch(torch.tensor([0], device=samples.labels.device))
    return model_inputs(work.model, inputs.to(device_of(work.model)))


@contextmanager
def _drawn_anew(user: str, work: Workspace, division: Division) -> Iterator[list[nn.Parameter]]:
    """Draw the upper part anew, and let nothing else have gradients inside; yield its parameters."""
    parameters = draw_fresh(work.model, [name for block in division.reset for name in block.layers], work.generator)
    if not parameters:
        raise InvalidModelError(
            f"{user}: all of blocks {', '.join(block.name for block in division.reset)} is frozen; expected a"
            " parameter in them that may be trained"
        )
    with alone_trained(work.model, parameters):
        yield parameters
