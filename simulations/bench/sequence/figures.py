"""The figures of one model for one earlier request: outputs, features and relearning, or membership."""

from __future__ import annotations

from statistics import fmean

import torch
from torch import nn

from fed_unlearn.audits.battery import central_observation, run_audits
from fed_unlearn.audits.membership import exact_membership_auc, sample_losses
from fed_unlearn.audits.readings import Readings, RequestData
from fed_unlearn.audits.relearning_cells import SHARES, Cell, GridSettings, outcomes
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.logits import predict_logits
from fed_unlearn.requests import ScopeKind

RELEARNING = Cell("forget", 10, draws=2)
"""Ten samples of the class, from a fresh output row."""

RELEARN_SETTINGS = GridSettings(learning_rate=2e-3, every_step=40)
"""Settings with a lower learning rate than the default. At the default a class of digits is back after five steps, and
whole steps tell little apart."""

STEPS = "relearn_10_steps_90"

_OF_CLASSES = {
    "logit_ranking": ("logit_auc", "recall_at_5"),
    "nearest_mean": ("nearest_mean_10",),
    "probe_accuracy": ("probe_accuracy",),
}

FIGURES = {
    **{name: "class" for names in _OF_CLASSES.values() for name in names},
    STEPS: "class",
    "membership_auc": "samples",
    "forget_accuracy": "samples",
}
"""All figures, and whether they are of class requests or of requests for samples and clients."""


def figures_of(
    model: nn.Module, data: RequestData, scope: ScopeKind, *, original: nn.Module, seed: int
) -> dict[str, float]:
    """Measure one model for one request.

    Parameters
    ----------
    model : nn.Module
    data : RequestData
        Samples of the request, with the parts ``forget``, ``retain``, ``test_forget`` and ``test_retain``. For requests
        of samples and clients the last is of all test samples.
    scope : str
        Scope of the request.
    original : nn.Module
        The model before the first request. Its recall is what relearning aims at.
    seed : int
        Seed of the draws, the same for all models that are compared.

    Returns
    -------
    dict of str to float
        Figures by name: those of :data:`FIGURES` that there are samples for.
    """
    if scope != "class":
        return _of_samples(model, data)
    readings = Readings(model, data)
    runs = run_audits(central_observation(readings, "class", seed=seed), list(_OF_CLASSES))
    found = {
        name: value
        for audit, names in _OF_CLASSES.items()
        for name in names
        if name in runs[audit].figures and (value := runs[audit].figures[name].value) is not None
    }
    drawn = outcomes(readings, Readings(original, data), RELEARNING, seed=seed, settings=RELEARN_SETTINGS)
    if drawn:
        found[STEPS] = fmean(outcome.steps[SHARES.index(0.9)] for outcome in drawn)
    return found


def accuracy_of(model: nn.Module, samples: SampleSet) -> float:
    """Top-1 accuracy.

    Parameters
    ----------
    model : nn.Module
    samples : SampleSet
        Samples to predict, at least one.

    Returns
    -------
    float
        The accuracy, in [0, 1].
    """
    return float((predict_logits(model, samples).argmax(1) == samples.labels).double().mean())


def _of_samples(model: nn.Module, data: RequestData) -> dict[str, float]:
    """The loss attack that tells the samples from test samples of the same classes, and how many are right."""
    forget, test = data.parts["forget"], data.parts["test_retain"]
    outside = torch.isin(test.labels, forget.labels.unique())
    logits, others = predict_logits(model, forget), predict_logits(model, test)[outside]
    found = {"forget_accuracy": float((logits.argmax(1) == forget.labels).double().mean())}
    if outside.any():
        losses = sample_losses(logits, forget.labels), sample_losses(others, test.labels[outside])
        found["membership_auc"] = exact_membership_auc(*losses)
    return found
