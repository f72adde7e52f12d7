from dataclasses import dataclass

from torch.nn import functional

from fed_unlearn.methods.base import Applied
from fed_unlearn.methods.descent import Descent


@dataclass(frozen=True, kw_only=True)
class MyMethod(Descent):
    """Ascend on what is to be forgotten, descend on the rest."""

    paper, scopes, needs, requires_retain = "ours, 2026", ("class",), "forget, retain", True

    weight: float = 0.1

    def _apply(self, work):
        def loss_of(batch):
            forgotten = functional.cross_entropy(batch.forget_logits, batch.forget_labels)
            return functional.cross_entropy(batch.retain_logits, batch.retain_labels) - self.weight * forgotten

        converged, steps = self._descend(work, loss_of, work.retain)
        return Applied(converged=converged, steps=steps, guard_labels=None)
