"""Training that is undone where it costs what the model knows, and made again in smaller steps."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.logits import predict_logits
from fed_unlearn.pass_counter import PassCounter
from fed_unlearn.training import TrainingSettings

MOST_LOST = 0.02
"""How much lower the share of right answers may be after training, in [0, 1]."""

SMALLER = 0.2
"""Factor on the learning rate of each further try."""

MOST_TRIES = 4
"""Maximum number of tries."""


MOST_MEASURED = 1000
"""Maximum number of samples whose answers are compared."""


def train_gently(
    model: nn.Module,
    settings: TrainingSettings,
    train: Callable[[TrainingSettings], None],
    samples: SampleSet,
    *,
    generator: torch.Generator,
    passes: PassCounter,
) -> TrainingSettings:
    """Train a model in place. Where it then gives fewer right answers, undo that and train with smaller steps.

    The learning rate that suits a model depends on the scale of its inputs and weights. Only the model's user knows the
    one that it was trained with. A rate that is too high shows at once in the right answers on what is trained on.

    Parameters
    ----------
    model : nn.Module
        The model. It is as before if every try has cost more than ``MOST_LOST`` of the right answers.
    settings : TrainingSettings
        Settings of the first try.
    train : callable
        Trains the model in place with given settings.
    samples : SampleSet
        The samples that the model is to know. At most ``MOST_MEASURED`` of them, drawn at random, are read.
    generator : torch.Generator
        Draws the samples.
    passes : PassCounter
        The forward passes of measuring are added to it.

    Returns
    -------
    TrainingSettings
        Settings of the try that was kept; with a still smaller rate if none was.
    """
    drawn = torch.randperm(len(samples), generator=generator)[:MOST_MEASURED]
    measured = samples.subset(drawn.to(samples.labels.device))
    before, known = copy.deepcopy(model.state_dict()), _right_answers(model, measured, passes)
    for _ in range(MOST_TRIES):
        train(settings)
        if _right_answers(model, measured, passes) >= known - MOST_LOST * len(measured):
            break
        model.load_state_dict(before)
        settings = replace(settings, learning_rate=SMALLER * settings.learning_rate)
    return settings


def _right_answers(model: nn.Module, samples: SampleSet, passes: PassCounter) -> int:
    if not len(samples):
        return 0
    passes.add(forward=len(samples))
    return int((predict_logits(model, samples).argmax(dim=1) == samples.labels.cpu()).sum())
