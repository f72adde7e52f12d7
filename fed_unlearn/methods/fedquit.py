"""The leaving client's part of FedQUIT (Mora et al., "FedQUIT: On-Device Federated Unlearning via a Quasi-Competent
Virtual Teacher", 2024, arXiv 2408.07587). It distils the model into itself, without what it knows of the true classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from fed_unlearn.logits import predict_logits
from fed_unlearn.methods.base import Applied, Scope, Workspace
from fed_unlearn.methods.descent import EpochDescent
from fed_unlearn.methods.parts.batches import Batch
from fed_unlearn.methods.registry import register


@register("fedquit")
@dataclass(frozen=True, kw_only=True)
class FedQuit(EpochDescent):
    """Learn the given model's own answers, in which the logit of the true class is as low as the lowest.

    Minimises ``KL(softmax(t) || softmax(f(x)))`` over the forget samples. The teacher ``t`` is the given model's
    logits, with that of the sample's own class set to the smallest of them (the paper's variant on logits). It is
    computed once.

    Parameters
    ----------
    epochs : int, default 1
        Maximum number of passes over the forget set. Fewer are made if the aim is met earlier.
    learning_rate, momentum : float, default 0.01 and 0.0
        Learning rate and momentum of SGD.
    target_accuracy : float, default 0.1
        The aim: at most this share of the forget set is still predicted under its own label.
    max_gradient_norm : float, default 1.0
        Longer gradients are scaled down to this norm, so that one learning rate serves small and large models.
    batch_size, max_steps, retain_tolerance, trained_layers
        As in :class:`~fed_unlearn.methods.descent.EpochDescent`.
    """

    paper: ClassVar[str] = "Mora et al., FedQUIT, 2024"
    scopes: ClassVar[tuple[Scope, ...]] = ("client",)
    needs: ClassVar[str] = "forget"

    epochs: int = 1
    learning_rate: float = 1e-2
    momentum: float = 0.0
    target_accuracy: float = 0.1
    max_gradient_norm: float = 1.0

    def _apply(self, work: Workspace) -> Applied:
        logits = predict_logits(work.original, work.forget).to(work.forget.labels.device)
        work.passes.add(forward=len(work.forget))
        taught = teacher_logits(logits, work.forget.labels).softmax(dim=1)

        def loss_of(batch: Batch) -> Tensor:
            answers = functional.log_softmax(batch.forget_logits.float(), dim=1)
            return functional.kl_div(answers, taught[batch.positions], reduction="batchmean")

        return Applied(*self._descend(work, loss_of))


def teacher_logits(logits: Tensor, labels: Tensor) -> Tensor:
    """Logits in which that of each sample's own class is the smallest of the sample's.

    Parameters
    ----------
    logits : Tensor of shape (n, classes)
        Logits of the model.
    labels : Tensor of shape (n,), int64
        Each sample's own class, as an index.
    """
    return logits.scatter(1, labels[:, None], logits.amin(dim=1, keepdim=True))
