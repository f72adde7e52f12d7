"""Boundary Shrink (Chen et al., "Boundary Unlearning", CVPR 2023).

Each forget sample is pushed across the nearest decision boundary of the original model by an attack, and the copy is
fine-tuned to call the sample what lies on the other side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from fed_unlearn.attacks import fgsm, pgd
from fed_unlearn.inference import batch_slices
from fed_unlearn.methods import register
from fed_unlearn.methods.base import Applied, Scope, Workspace
from fed_unlearn.methods.descent import Batch, ForgetDescent
from fed_unlearn.methods.labels import nearest_allowed, require_allowed_labels
from fed_unlearn.methods.validation import require, require_choice


@register("boundary-shrink")
@dataclass(frozen=True, kw_only=True)
class BoundaryShrink(ForgetDescent):
    """Relabel each forget sample with its nearest other class, then fine-tune on it.

    The labels are searched once, on the frozen original: it does not change, so neither do they.

    Parameters
    ----------
    epochs, learning_rate, momentum, batch_size, target_accuracy
        As in :class:`~fed_unlearn.methods.descent.ForgetDescent`.
    bound : float, default 0.1
        Largest change of a pixel in the search, pixels in [0, 1].
    search : {"fgsm", "pgd"}, default "fgsm"
        The attack that looks for the nearest class.
    step_size : float, default 8 / 255
        Change of a pixel in one step of ``"pgd"``.
    search_steps : int, default 5
        Steps of ``"pgd"``.
    """

    paper: ClassVar[str] = "Chen et al., Boundary Unlearning, CVPR 2023"
    scopes: ClassVar[tuple[Scope, ...]] = ("class", "sample")
    needs: ClassVar[str] = "forget"

    bound: float = 0.1
    search: Literal["fgsm", "pgd"] = "fgsm"
    step_size: float = 8 / 255
    search_steps: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        require("bound", self.name, self.bound, float, above=0, maximum=1)
        require_choice("search", self.name, self.search, ("fgsm", "pgd"))
        require("step_size", self.name, self.step_size, float, above=0, maximum=1)
        require("search_steps", self.name, self.search_steps, int, minimum=1)

    def _apply(self, work: Workspace) -> Applied:
        require_allowed_labels(self.name, work.forget.labels, work.excluded_classes, work.class_count)
        targets = self._nearest_labels(work)

        def loss_of(batch: Batch) -> Tensor:
            losses = functional.cross_entropy(batch.forget_logits, targets[batch.positions], reduction="none")
            return self._mean_loss(work, batch, losses)

        converged, steps = self._descend(work, loss_of)
        return Applied(converged=converged, steps=steps, guard_labels=targets.cpu())

    def _nearest_labels(self, work: Workspace) -> Tensor:
        found = []
        for images, labels in work.forget.batches(batch_slices(work.forget, work.forget.labels.device)):
            if self.search == "fgsm":
                moved = fgsm(work.original, images, labels, bound=self.bound, passes=work.passes)
            else:
                moved = pgd(
                    work.original,
                    images,
                    labels,
                    bound=self.bound,
                    step_size=self.step_size,
                    steps=self.search_steps,
                    passes=work.passes,
                )
            with torch.no_grad():
                logits = work.original(moved)
            work.passes.add(forward=len(images))
            found.append(nearest_allowed(logits, labels, work.excluded_classes))
        return torch.cat(found)
