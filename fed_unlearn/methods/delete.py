"""DELETE (Zhou et al., "Decoupled Distillation to Erase", CVPR 2025).

The original model is distilled into the copy on the forget samples, with each sample's own class taken out of what it
says: what it knows about the other classes, and how they lie to each other, stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from fed_unlearn.logits import predict_logits
from fed_unlearn.methods.base import Applied, Scope, Workspace
from fed_unlearn.methods.descent import ForgetDescent
from fed_unlearn.methods.parts.batches import Batch
from fed_unlearn.methods.parts.labels import allowed_answers
from fed_unlearn.methods.registry import register


@register("delete")
@dataclass(frozen=True, kw_only=True)
class Delete(ForgetDescent):
    """Distil the original model without each forget sample's own class.

    Minimises ``KL(target || softmax(f(x)))`` over the forget samples. The target is the softmax of the frozen
    original's logits with those of the sample's own class and of the excluded classes at minus infinity: the others
    keep their proportions. It is computed once.

    Parameters
    ----------
    learning_rate : float, default 0.005
        Of SGD.
    max_gradient_norm : float, default 1.0
        Bound on the gradient, which lets one learning rate serve small and large models.
    trained_layers : int, default 2
        The last layers decide between classes; with only those trained, the others keep their accuracy.
    epochs, stop_per_sample, momentum, batch_size, max_steps, target_accuracy
        As in :class:`~fed_unlearn.methods.descent.ForgetDescent`.
    """

    paper: ClassVar[str] = "Zhou et al., Decoupled Distillation to Erase, CVPR 2025"
    scopes: ClassVar[tuple[Scope, ...]] = ("class",)
    needs: ClassVar[str] = "forget"

    epochs: int = 20
    learning_rate: float = 5e-3
    max_gradient_norm: float = 1.0
    trained_layers: int = 2

    def _apply(self, work: Workspace) -> Applied:
        logits = predict_logits(work.original, work.forget).to(work.forget.labels.device)
        work.passes.add(forward=len(work.forget))
        targets = allowed_answers(logits, work.forget.labels, work.excluded_classes)

        def loss_of(batch: Batch) -> Tensor:
            answers = functional.log_softmax(batch.forget_logits.float(), dim=1)
            losses = functional.kl_div(answers, targets[batch.positions], reduction="none").sum(dim=1)
            return self._mean_loss(work, batch, losses)

        converged, steps = self._descend(work, loss_of)
        return Applied(converged=converged, steps=steps, guard_labels=targets.argmax(dim=1).cpu())
