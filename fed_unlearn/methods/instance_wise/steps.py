"""The training loop of instance-wise unlearning: settle every forget sample, then consolidate what is kept."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fed_unlearn.errors import UnlearningDivergedError
from fed_unlearn.logits import predict_logits
from fed_unlearn.methods.instance_wise.keeping import HeldParameters, Keeping
from fed_unlearn.methods.instance_wise.objectives import Objective
from fed_unlearn.methods.parts.batches import cycle
from fed_unlearn.methods.parts.checks import check_losses
from fed_unlearn.methods.parts.workspace import Workspace

CHECK_INTERVAL = 2  # steps between two checks of the samples; each check waits for the device
SLOWEST = 0.1  # share of the learning rate that is left at the end of consolidation, for samples that move back


@dataclass(frozen=True, kw_only=True)
class StepSettings:
    """How the steps are taken.

    Attributes
    ----------
    learning_rate, momentum : float
        Learning rate and momentum of SGD.
    max_gradient_norm : float
        Longer gradients are scaled down to this norm.
    batch_size : int
        Maximum number of forget samples in one step.
    max_steps : int
        Maximum number of steps.
    consolidation_steps : int
        Number of steps after all samples are settled. The learning rate falls over them.
    """

    learning_rate: float
    momentum: float
    max_gradient_norm: float
    batch_size: int
    max_steps: int
    consolidation_steps: int


@dataclass(frozen=True, kw_only=True)
class InstanceSteps:
    """One run of the loop.

    Attributes
    ----------
    method : str
        Name of the method, for error messages.
    work : Workspace
        The copy to train and its samples.
    objective : Objective
        The aim for the forget samples.
    keeping : Keeping
        What keeps the outputs on other images.
    held : HeldParameters or None
        Parameters that are held at their values.
    settings : StepSettings
        How the steps are taken.
    """

    method: str
    work: Workspace
    objective: Objective
    keeping: Keeping
    held: HeldParameters | None
    settings: StepSettings

    def take(self, parameters: list[nn.Parameter], before: Tensor) -> int:
        """Train until the objective is met and consolidated; return the number of steps.

        Parameters
        ----------
        parameters : list of nn.Parameter
            The parameters to train.
        before : Tensor of shape (n, classes)
            Logits of the forget set before the first step.
        """
        settings, work = self.settings, self.work
        optimizer = torch.optim.SGD(parameters, lr=settings.learning_rate, momentum=settings.momentum)
        latest, settled_steps, losses = before.clone(), 0, list[Tensor]()
        trained, looked_at = 0, -len(work.forget)
        forget_batches = cycle(work.forget, settings.batch_size, work.generator)
        for step in range(1, settings.max_steps + 1):
            positions, images, _ = next(forget_batches)
            loss, logits = self._loss(positions, images)
            latest[positions] = logits.detach().float()
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(parameters, settings.max_gradient_norm)
            optimizer.step()
            losses.append(loss.detach())
            trained += len(positions)
            if step % CHECK_INTERVAL and step < settings.max_steps:
                continue
            check_losses(self.method, losses, step)
            losses.clear()
            if self.objective.settled(latest):
                settled_steps += CHECK_INTERVAL
                self._slow_down(optimizer, settled_steps)
                # The last step may have moved a sample back. The whole set is read to see that, but only after
                # training on at least as many samples since it was last read.
                if settled_steps > settings.consolidation_steps and trained - looked_at >= len(work.forget):
                    looked_at = trained
                    if self.objective.met(forget_logits(work, step)):
                        return step
        return settings.max_steps

    def _loss(self, positions: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        """Loss of a step, and the logits of its forget samples."""
        logits, kept = self.keeping.forward(self.work, images)
        loss = self.keeping.weighed(self.objective.losses(logits, positions)) + kept
        return (loss if self.held is None else loss + self.held.penalty()), logits

    def _slow_down(self, optimizer: torch.optim.Optimizer, settled_steps: int) -> None:
        share = 1 - settled_steps / (self.settings.consolidation_steps + CHECK_INTERVAL)
        for group in optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * max(SLOWEST, share)


def forget_logits(work: Workspace, step: int) -> Tensor:
    """Logits of the forget set after a step, on the device of its labels.

    Raises
    ------
    UnlearningDivergedError
        If an output is not finite.
    """
    work.passes.add(forward=len(work.forget))
    logits = predict_logits(work.model, work.forget)
    if not bool(torch.isfinite(logits).all()):
        raise UnlearningDivergedError(
            f"the outputs are not finite at step {step}; the given model is unchanged: try a smaller learning rate"
        )
    return logits.to(work.forget.labels.device)
