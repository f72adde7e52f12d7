"""NegGrad+ (Kurmanji et al., "Towards Unbounded Machine Unlearning", NeurIPS 2023), bounded per sample.

The method descends the loss of retained samples and ascends that of forget samples. The ascended loss has no bound and
would destroy the model, so a forget sample no longer counts once it is misclassified by a margin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Interval
from torch import Tensor
from torch.nn import functional

from fed_unlearn.logits import log_odds, logit_gaps
from fed_unlearn.methods.base import Applied, Scope, Workspace
from fed_unlearn.methods.descent import Descent
from fed_unlearn.methods.parts.batches import Batch
from fed_unlearn.methods.parts.labels import forbidden_classes
from fed_unlearn.methods.registry import register
from fed_unlearn.settings import NotNegative


@register("negative-gradient+")
@dataclass(frozen=True, kw_only=True)
class NegativeGradientPlus(Descent):
    """Descend on retained samples and ascend on each forget sample until it is misclassified by a margin.

    Minimises ``alpha * CE(retain) - (1 - alpha) * odds(forget)`` (eq. 2 of the paper). Each term is a mean over its
    samples of the batch; forget samples beyond the margin count as zeros. The odds are ``-log(p / (1 - p))``, where
    ``p`` is the probability of a sample's own class and the excluded ones. The paper uses ``-log p``. Both tend to the
    same value as ``p`` falls, but ``-log p`` has almost no gradient where the model is sure of a sample, so that
    retained samples outweigh it on easy data.

    Parameters
    ----------
    alpha : float, default 0.9
        Weight of the retained samples, in (0, 1).
    margin : float, default 1.0
        A forget sample no longer counts once the largest logit of an allowed class exceeds those of its own and the
        excluded classes by this much.
    max_gradient_norm : float, default 1.0
        Longer gradients are scaled down to this norm, so that one learning rate serves small and large models.
    learning_rate, momentum, batch_size, max_steps, target_accuracy, retain_tolerance, trained_layers
        As in :class:`~fed_unlearn.methods.descent.Descent`.
    """

    paper: ClassVar[str] = "Kurmanji et al., Towards Unbounded Machine Unlearning, NeurIPS 2023"
    scopes: ClassVar[tuple[Scope, ...]] = ("class", "sample", "client")
    needs: ClassVar[str] = "forget, retain"
    requires_retain: ClassVar[bool] = True

    alpha: Annotated[float, Interval(gt=0, lt=1)] = 0.9
    margin: NotNegative = 1.0
    learning_rate: float = 1e-2
    max_gradient_norm: float = 1.0
    max_steps: int = 300

    def _apply(self, work: Workspace) -> Applied:
        forbidden = forbidden_classes(work.forget.labels, work.excluded_classes, work.class_count)

        def loss_of(batch: Batch) -> Tensor:
            kept = functional.cross_entropy(batch.retain_logits, batch.retain_labels)
            own = forbidden[batch.positions]
            odds = log_odds(batch.forget_logits, ~own)
            recognised = logit_gaps(batch.forget_logits.detach(), ~own) < self.margin
            return self.alpha * kept - (1 - self.alpha) * (odds * recognised).mean()

        return Applied(*self._descend(work, loss_of, work.retained))
