"""DELETE (Zhou et al., "Decoupled Distillation to Erase", CVPR 2025).

The original model is distilled into the copy on the forget samples, with each sample's own class removed from its
answers. The copy keeps what the original knows about the other classes and their relations.
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

    Minimises ``KL(target || softmax(f(x)))`` over the forget samples. The target is the softmax of the original's
    logits without the sample's own class and the excluded classes, so that the others keep their proportions. It is
    computed once.

    Parameters
    ----------
    learning_rate : float, default 0.005
        Learning rate of SGD.
    max_gradient_norm : float, default 1.0
        Longer gradients are scaled down to this norm, so that one learning rate serves small and large models.
    trained_layers : int, default 2
        Number of last layers that are trained. Training only the last ones keeps the accuracy on other classes.
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

        return Applied(*self._descend(work, loss_of), targets.argmax(dim=1).cpu())
