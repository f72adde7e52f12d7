"""Boundary Shrink (Chen et al., "Boundary Unlearning", CVPR 2023), and its enhanced form.

An attack pushes each forget sample across the nearest decision boundary of the original model. The copy is then trained
to give the sample the class on the other side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from fed_unlearn.logits import batch_slices
from fed_unlearn.methods.base import Applied, Scope, Workspace
from fed_unlearn.methods.descent import ForgetDescent
from fed_unlearn.methods.parts.attacks import fgsm, pgd
from fed_unlearn.methods.parts.batches import Batch, trained_parameters
from fed_unlearn.methods.parts.curvature import curvature
from fed_unlearn.methods.parts.labels import nearest_allowed
from fed_unlearn.methods.parts.validation import PositiveShare
from fed_unlearn.methods.registry import register
from fed_unlearn.model_inputs import model_inputs
from fed_unlearn.settings import AboveZero, FromOne, NotNegative


@register("boundary-shrink")
@dataclass(frozen=True, kw_only=True)
class BoundaryShrink(ForgetDescent):
    """Relabel each forget sample with its nearest other class, then fine-tune on it.

    The labels are searched once, on the original model, which does not change.

    Parameters
    ----------
    epochs, learning_rate, momentum, batch_size, max_steps, target_accuracy, stop_per_sample
        As in :class:`~fed_unlearn.methods.descent.ForgetDescent`.
    trained_layers : int, default 3
        Number of last layers that are trained. The paper trains all. Training only three keeps more of the other
        classes, and the forgetting is as deep: it remains when the old class's row of output weights is restored.
    bound : float, default 0.1
        Largest change of a pixel in the search. Pixels are in [0, 1].
    search : {"fgsm", "pgd"}, default "fgsm"
        The attack that searches for the nearest class.
    step_size : float, default 8 / 255
        Change of a pixel in one step of ``"pgd"``.
    search_steps : int, default 5
        Number of steps of ``"pgd"``.
    regularizer : {"none", "curvature"}, default "none"
        ``"curvature"`` adds the norm over a batch of ``curvature(f) - curvature(f0)``: the change, against the
        original model, of the curvature of the loss around the forget samples. That loss uses the new labels.
    regularizer_weight : float, default 0.7
        Weight of that term, the paper's lambda.
    regularizer_step : float, default 0.9
        Step of the finite difference that measures the curvature, an L2 norm. The paper's h.
    reweight : bool, default False
        Whether samples are weighted by :func:`clarity`, so that a sample with a clear nearest class counts more.
    """

    paper: ClassVar[str] = "Chen et al., Boundary Unlearning, CVPR 2023"
    scopes: ClassVar[tuple[Scope, ...]] = ("class", "sample")
    needs: ClassVar[str] = "forget"
    inputs: ClassVar[str] = "images"

    bound: PositiveShare = 0.1
    search: Literal["fgsm", "pgd"] = "fgsm"
    step_size: PositiveShare = 8 / 255
    search_steps: FromOne = 5
    regularizer: Literal["none", "curvature"] = "none"
    regularizer_weight: NotNegative = 0.7
    regularizer_step: AboveZero = 0.9
    reweight: bool = False

    @property
    def attacks_inputs(self) -> bool:
        """True: the nearest class is searched by an attack."""
        return True

    def _apply(self, work: Workspace) -> Applied:
        # Raises before the search if all are frozen.
        with trained_parameters(self.name, work.model, self.trained_layers, work.forget):
            targets, weights = self._search(work)
        before = self._curvatures(work, targets) if self.regularizer == "curvature" else None

        def loss_of(batch: Batch) -> Tensor:
            wanted = targets[batch.positions]
            losses = functional.cross_entropy(batch.forget_logits, wanted, reduction="none")
            loss = self._mean_loss(work, batch, losses * weights[batch.positions])
            if before is None:
                return loss
            now = self._curvature(work, batch.forget_images, wanted, create_graph=True)
            change: Tensor = torch.linalg.vector_norm(now - before[batch.positions])
            return loss + self.regularizer_weight * change

        return Applied(*self._descend(work, loss_of), targets.cpu())

    def _search(self, work: Workspace) -> tuple[Tensor, Tensor]:
        """The nearest allowed class of each forget sample, and its weight."""
        found, weights = [], []
        forget = work.forget.evaluated()
        for images, labels in forget.batches(batch_slices(forget, forget.labels.device)):
            moved = self._attack(work, images, labels)
            with torch.no_grad():
                logits = work.original(model_inputs(work.original, moved, pack=False)).float()
            work.passes.add(forward=len(images))
            nearest = nearest_allowed(logits, labels, work.excluded_classes)
            found.append(nearest)
            weights.append(clarity(logits, nearest) if self.reweight else torch.ones_like(logits[:, 0]))
        return torch.cat(found), torch.cat(weights)

    def _attack(self, work: Workspace, images: Tensor, labels: Tensor) -> Tensor:
        if self.search == "fgsm":
            domain = work.forget.domain
            return fgsm(work.original, images, labels, bound=self.bound, domain=domain, passes=work.passes)
        return pgd(
            work.original,
            images,
            labels,
            bound=self.bound,
            step_size=self.step_size,
            steps=self.search_steps,
            domain=work.forget.domain,
            passes=work.passes,
        )

    def _curvatures(self, work: Workspace, targets: Tensor) -> Tensor:
        """Curvature of the original model's loss around each forget sample."""
        parts, start = [], 0
        forget = work.forget.evaluated()
        for images, _ in forget.batches(batch_slices(forget, targets.device)):
            wanted = targets[start : start + len(images)]
            parts.append(self._curvature(work, images, wanted, create_graph=False))
            start += len(images)
        return torch.cat(parts)

    def _curvature(self, work: Workspace, images: Tensor, labels: Tensor, *, create_graph: bool) -> Tensor:
        return curvature(
            work.model if create_graph else work.original,
            images,
            labels,
            step=self.regularizer_step,
            create_graph=create_graph,
            domain=work.forget.domain,
            passes=work.passes,
        )


def clarity(logits: Tensor, labels: Tensor) -> Tensor:
    """Weight of each sample by how clearly it belongs to its new class: ``3 * sigmoid(5 * (margin - 0.5))``.

    The margin is the probability of the new label minus that of the most likely other class.

    Parameters
    ----------
    logits : Tensor of shape (n, classes)
        The original model's logits of the attacked images.
    labels : Tensor of shape (n,), int64
        The new labels.

    Returns
    -------
    Tensor of shape (n,), in (0, 3)
    """
    probabilities = logits.softmax(dim=1)
    chosen = labels.unsqueeze(1)
    runner_up = probabilities.scatter(1, chosen, -torch.inf).amax(dim=1)
    margin = probabilities.gather(1, chosen).squeeze(1) - runner_up
    return 3 * torch.sigmoid(5 * (margin - 0.5))
