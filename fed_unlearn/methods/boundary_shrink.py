"""Boundary Shrink (Chen et al., "Boundary Unlearning", CVPR 2023), and its enhanced form.

Each forget sample is pushed across the nearest decision boundary of the original model by an attack, and the copy is
fine-tuned to call the sample what lies on the other side.
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
from fed_unlearn.methods.parts.batches import Batch
from fed_unlearn.methods.parts.curvature import curvature
from fed_unlearn.methods.parts.labels import nearest_allowed
from fed_unlearn.methods.parts.trained import trained_parameters
from fed_unlearn.methods.parts.validation import require, require_choice
from fed_unlearn.methods.registry import register


@register("boundary-shrink")
@dataclass(frozen=True, kw_only=True)
class BoundaryShrink(ForgetDescent):
    """Relabel each forget sample with its nearest other class, then fine-tune on it.

    The labels are searched once, on the frozen original: it does not change, so neither do they.

    Parameters
    ----------
    epochs, learning_rate, momentum, batch_size, max_steps, target_accuracy, stop_per_sample
        As in :class:`~fed_unlearn.methods.descent.ForgetDescent`.
    trained_layers : int, default 3
        So many of the last layers are trained. The paper trains all; the last three keep more of the other classes,
        and the forgetting is as deep: it stays where the old class's output row is put back.
    bound : float, default 0.1
        Largest change of a pixel in the search, pixels in [0, 1].
    search : {"fgsm", "pgd"}, default "fgsm"
        The attack that looks for the nearest class.
    step_size : float, default 8 / 255
        Change of a pixel in one step of ``"pgd"``.
    search_steps : int, default 5
        Steps of ``"pgd"``.
    regularizer : {"none", "curvature"}, default "none"
        ``"curvature"`` adds the change of the curvature around the forget samples, of the loss with the new labels,
        against the original: the norm over a batch of ``curvature(f) - curvature(f0)``.
    regularizer_weight : float, default 0.7
        Of that term; the paper's lambda.
    regularizer_step : float, default 0.9
        Finite difference that the curvature is measured with, an L2 norm; the paper's h.
    reweight : bool, default False
        Weight samples by ``3 * sigmoid(5 * (margin - 0.5))``, the margin being the original's probability of the new
        label less that of the most likely other class, on the attacked image: a clear neighbour counts more.
    """

    paper: ClassVar[str] = "Chen et al., Boundary Unlearning, CVPR 2023"
    scopes: ClassVar[tuple[Scope, ...]] = ("class", "sample")
    needs: ClassVar[str] = "forget"

    bound: float = 0.1
    search: Literal["fgsm", "pgd"] = "fgsm"
    step_size: float = 8 / 255
    search_steps: int = 5
    regularizer: Literal["none", "curvature"] = "none"
    regularizer_weight: float = 0.7
    regularizer_step: float = 0.9
    reweight: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require("bound", self.name, self.bound, float, above=0, maximum=1)
        require_choice("search", self.name, self.search, ("fgsm", "pgd"))
        require("step_size", self.name, self.step_size, float, above=0, maximum=1)
        require("search_steps", self.name, self.search_steps, int, minimum=1)
        require_choice("regularizer", self.name, self.regularizer, ("none", "curvature"))
        require("regularizer_weight", self.name, self.regularizer_weight, float, minimum=0)
        require("regularizer_step", self.name, self.regularizer_step, float, above=0)
        require("reweight", self.name, self.reweight, bool)

    def _apply(self, work: Workspace) -> Applied:
        with trained_parameters(self.name, work.model, self.trained_layers):  # refuses a frozen model before the search
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

        converged, steps = self._descend(work, loss_of)
        return Applied(converged=converged, steps=steps, guard_labels=targets.cpu())

    def _search(self, work: Workspace) -> tuple[Tensor, Tensor]:
        """The nearest allowed class of each forget sample, and its weight."""
        found, weights = [], []
        for images, labels in work.forget.batches(batch_slices(work.forget, work.forget.labels.device)):
            moved = self._attack(work, images, labels)
            with torch.no_grad():
                logits = work.original(moved).float()
            work.passes.add(forward=len(images))
            nearest = nearest_allowed(logits, labels, work.excluded_classes)
            found.append(nearest)
            weights.append(clarity(logits, nearest) if self.reweight else torch.ones_like(logits[:, 0]))
        return torch.cat(found), torch.cat(weights)

    def _attack(self, work: Workspace, images: Tensor, labels: Tensor) -> Tensor:
        if self.search == "fgsm":
            return fgsm(work.original, images, labels, bound=self.bound, passes=work.passes)
        return pgd(
            work.original,
            images,
            labels,
            bound=self.bound,
            step_size=self.step_size,
            steps=self.search_steps,
            passes=work.passes,
        )

    def _curvatures(self, work: Workspace, targets: Tensor) -> Tensor:
        """Of the original around every forget sample."""
        parts, start = [], 0
        for images, _ in work.forget.batches(batch_slices(work.forget, targets.device)):
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
            passes=work.passes,
        )


def clarity(logits: Tensor, labels: Tensor) -> Tensor:
    """Weight of each sample by how clearly it is its new label: ``3 * sigmoid(5 * (margin - 0.5))``.

    Parameters
    ----------
    logits : Tensor of shape (n, classes)
    labels : Tensor of shape (n,), int64

    Returns
    -------
    Tensor of shape (n,), in (0, 3)
    """
    probabilities = logits.softmax(dim=1)
    chosen = labels.unsqueeze(1)
    runner_up = probabilities.scatter(1, chosen, -torch.inf).amax(dim=1)
    margin = probabilities.gather(1, chosen).squeeze(1) - runner_up
    return 3 * torch.sigmoid(5 * (margin - 0.5))
