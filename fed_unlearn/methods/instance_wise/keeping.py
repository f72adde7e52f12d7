"""Ways to keep a model's outputs on all other images while its answers on a few samples change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from fed_unlearn.methods.instance_wise.anchors import AnchorPool
from fed_unlearn.methods.parts.batches import Batches
from fed_unlearn.methods.parts.workspace import Workspace
from fed_unlearn.model_inputs import model_inputs


class Keeping(Protocol):
    """The part of a step's loss that keeps the model's outputs on other images."""

    def forward(self, work: Workspace, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits of forget images (n, channels, height, width), and the loss on other images, a scalar."""
        ...

    def weighed(self, losses: Tensor) -> Tensor:
        """Reduce the losses of the forget samples, of shape (n,), to the scalar that is added to that loss."""
        ...


@dataclass(frozen=True)
class Unkept:
    """Keep nothing: the step's loss is that of the forget samples."""

    def forward(self, work: Workspace, images: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`Keeping`."""
        work.passes.add(forward=len(images), backward=len(images))
        logits: Tensor = work.model(model_inputs(work.model, images))
        return logits.float(), torch.zeros((), device=images.device)

    def weighed(self, losses: Tensor) -> Tensor:
        """Sum of the losses."""
        return losses.sum()


@dataclass(frozen=True)
class Anchored(Unkept):
    """Keep the original's logits on anchors: the loss is ``weight * mean |f(x) - f0(x)|^2``.

    Attributes
    ----------
    pool : AnchorPool
        The anchors and the original's logits.
    weight : float
        Weight of the loss.
    batch_size : int
        Number of anchors in one step.
    """

    pool: AnchorPool
    weight: float
    batch_size: int

    def forward(self, work: Workspace, images: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`Keeping`."""
        anchor_images, before = self.pool.draw(self.batch_size, work.generator)
        logits, anchored = _together(work, images, anchor_images)
        return logits, self._weighted(anchored, before)

    def change(self, work: Workspace) -> Tensor:
        """The same loss, computed without forget samples."""
        anchor_images, before = self.pool.draw(self.batch_size, work.generator)
        work.passes.add(forward=len(anchor_images), backward=len(anchor_images))
        return self._weighted(work.model(model_inputs(work.model, anchor_images, pack=False)).float(), before)

    def _weighted(self, anchored: Tensor, before: Tensor) -> Tensor:
        return self.weight * (anchored - before).square().sum(dim=1).mean()


@dataclass(frozen=True)
class Joint:
    """Train on other retained samples in every step, under their own labels.

    BatchNorm normalises by the whole batch, and its statistics follow. Frozen statistics would not match the changing
    weights and would cost accuracy (two points on All-CNN and CIFAR-10). The model would be destroyed if forget samples
    were normalised in another way than retained ones.

    Attributes
    ----------
    batches : iterator
        Batches of retained samples.
    forget_weight : float
        Weight of the mean loss of those forget samples whose loss is not 0.
    anchored : Anchored or None
        Anchors that are kept in addition.
    """

    batches: Batches
    forget_weight: float
    anchored: Anchored | None

    def forward(self, work: Workspace, images: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`Keeping`."""
        _, retained, labels = next(self.batches)
        with following_statistics(work.model):
            logits, answers = _together(work, images, retained)
        kept = functional.cross_entropy(answers, labels)
        return logits, kept if self.anchored is None else kept + self.anchored.change(work)

    def weighed(self, losses: Tensor) -> Tensor:
        """Weighted mean over the samples whose loss is not 0, so that the last samples are pushed as hard as all."""
        return self.forget_weight * losses.sum() / (losses != 0).sum().clamp(min=1)


def _together(work: Workspace, images: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of both sets of images, from one pass."""
    work.passes.add(forward=len(images) + len(others), backward=len(images) + len(others))
    together = model_inputs(work.model, torch.cat([images, others]))
    logits, of_others = work.model(together).float().split([len(images), len(others)])
    return logits, of_others


@contextmanager
def following_statistics(model: nn.Module) -> Iterator[None]:
    """Put BatchNorm layers, and nothing else, in training mode; give every layer its own mode back at the end."""
    layers = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    modes = [layer.training for layer in layers]
    for layer in layers:
        layer.train()
    try:
        yield
    finally:
        for layer, mode in zip(layers, modes, strict=True):
            layer.training = mode


@dataclass(frozen=True)
class HeldParameters:
    """Parameters that are held at their initial values, the unimportant ones more strongly.

    Attributes
    ----------
    parameters, values : list of Tensor
        The parameters, and their initial values.
    holds : list of Tensor
        How strongly each value is held: one minus its importance for the forget samples, which is scaled to [0, 1]
        tensor by tensor (Cha et al., 2024, eq. 7).
    weight : float
        Weight of the penalty, the paper's lambda.
    """

    parameters: list[nn.Parameter]
    values: list[Tensor]
    holds: list[Tensor]
    weight: float

    @classmethod
    def by(
        cls, importance: Mapping[str, Tensor], model: nn.Module, parameters: Sequence[nn.Parameter], weight: float
    ) -> Self:
        """Hold some parameters of a model, whose importance is given by name."""
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        holds = []
        for parameter in parameters:
            values = importance[names[id(parameter)]]
            low, high = values.min(), values.max()
            holds.append(1 - (values - low) / (high - low).clamp(min=torch.finfo(values.dtype).tiny))
        return cls(list(parameters), [parameter.detach().clone() for parameter in parameters], holds, weight)

    def penalty(self) -> Tensor:
        """Return ``weight / 2 * sum of hold * (parameter - value)^2``, a scalar with gradients."""
        terms = zip(self.parameters, self.values, self.holds, strict=True)
        return (
            self.weight / 2 * torch.stack([(hold * (now - value).square()).sum() for now, value, hold in terms]).sum()
        )
