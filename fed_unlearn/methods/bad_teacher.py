"""Bad teaching (Chundawat et al., "Can Bad Teaching Induce Forgetting?", AAAI 2023).

The copy is a student of two teachers: a randomly initialised network teaches it on forget samples, and the original
model on retained ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from fed_unlearn.logits import device_of, predict_logits
from fed_unlearn.methods.base import Applied, Scope, Workspace
from fed_unlearn.methods.descent import Descent
from fed_unlearn.methods.parts.batches import Batch
from fed_unlearn.methods.parts.labels import allowed_answers
from fed_unlearn.methods.parts.validation import PositiveShare
from fed_unlearn.methods.registry import register
from fed_unlearn.model_copies import copied
from fed_unlearn.model_inputs import model_inputs
from fed_unlearn.seeding import isolated_random
from fed_unlearn.settings import AboveZero


@register("bad-teacher")
@dataclass(frozen=True, kw_only=True)
class BadTeacher(Descent):
    """Distil a random network on forget samples and the original model on retained ones.

    Minimises ``KL(bad || f) + retain_weight * KL(f0 || f)`` (eq. 2 of the paper). The first term is a mean over the
    forget samples of the batch, the second over its retained samples. A random network may favour the class to be
    forgotten for all images, so that class is removed from its answers.

    Parameters
    ----------
    temperature : float, default 1.0
        Temperature that divides the logits of the teachers and of the student.
    retain_share : float, default 0.3
        Share of the retained samples that are drawn for training, in (0, 1].
    retain_weight : float, default 3.0
        Weight of the loss on retained samples. The paper mixes both sets by their sizes, which gives the larger set
        more weight.
    learning_rate, momentum : float
        Learning rate of Adam, and decay rate of its first moment.
    batch_size, max_steps, target_accuracy, retain_tolerance, max_gradient_norm, trained_layers
        As in :class:`~fed_unlearn.methods.descent.Descent`.
    """

    paper: ClassVar[str] = "Chundawat et al., Can Bad Teaching Induce Forgetting?, AAAI 2023"
    scopes: ClassVar[tuple[Scope, ...]] = ("class", "sample", "client")
    needs: ClassVar[str] = "forget, retain"
    requires_retain: ClassVar[bool] = True

    temperature: AboveZero = 1.0
    retain_share: PositiveShare = 0.3
    retain_weight: AboveZero = 3.0
    learning_rate: float = 1e-4
    max_steps: int = 500
    target_accuracy: float = 0.03
    retain_tolerance: float = 0.005

    def _optimizer(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=self.learning_rate, betas=(self.momentum, 0.999))

    def _apply(self, work: Workspace) -> Applied:
        chosen = torch.randperm(len(work.retained), generator=work.generator)
        retain = work.retained.subset(chosen[: math.ceil(self.retain_share * len(chosen))])
        targets = self._forget_targets(work)

        def loss_of(batch: Batch) -> Tensor:
            with torch.no_grad():
                kept = work.original(model_inputs(work.original, batch.retain_images, pack=False))
            work.passes.add(forward=len(kept))
            wanted = torch.cat([targets[batch.positions], functional.softmax(kept / self.temperature, dim=1)])
            found = functional.log_softmax(batch.logits / self.temperature, dim=1)
            divergence = functional.kl_div(found, wanted, reduction="none").sum(dim=1)
            count = len(batch.positions)
            return divergence[:count].mean() + self.retain_weight * divergence[count:].mean()

        return Applied(*self._descend(work, loss_of, retain))

    def _forget_targets(self, work: Workspace) -> Tensor:
        """Target probabilities of each forget sample, of shape (n, classes).

        A sample's own class and the excluded ones have probability 0, for two reasons. A random network may favour
        one of them for all images. And its answers are so nearly uniform that its student would still give one sample
        in ``class_count`` its own class by chance.
        """
        seed = int(torch.randint(2**62, (1,), generator=work.generator))
        logits = predict_logits(randomly_initialised(work.original, seed), work.forget).to(work.forget.labels.device)
        work.passes.add(forward=len(work.forget))
        return allowed_answers(logits / self.temperature, work.forget.labels, work.excluded_classes)


def randomly_initialised(model: nn.Module, seed: int) -> nn.Module:
    """A copy of a model with random weights.

    Parameters
    ----------
    model : nn.Module
        The model to copy.
    seed : int
        Seed of all draws. They happen on the CPU, so that all devices give the same weights.

    Returns
    -------
    nn.Module
        The copy, on the device of ``model``. Each module is reset by its own ``reset_parameters``. The tensors of
        modules without one, such as class tokens and position embeddings, are shuffled.
    """
    teacher = copied(model).cpu()
    with isolated_random(seed), torch.no_grad():
        for module in teacher.modules():
            reset = getattr(module, "reset_parameters", getattr(module, "_reset_parameters", None))
            if callable(reset):
                reset()
                continue
            for parameter in module.parameters(recurse=False):
                parameter.copy_(parameter.flatten()[torch.randperm(parameter.numel())].view_as(parameter))
    return teacher.to(device_of(model))
