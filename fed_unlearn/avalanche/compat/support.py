"""Which strategies, plug-ins and metrics of Avalanche can unlearn, and which are refused.

A part is refused if it keeps something of forgotten samples that cannot be removed. It is refused when a request is to
be served, and not before: a strategy that serves no request trains as it would without an UnlearningPlugin.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import avalanche.evaluation.metrics as metrics
import avalanche.training.plugins as plugins
import avalanche.training.supervised as strategies
from avalanche.core import BasePlugin
from avalanche.training.losses import ICaRLLossPlugin, MaskedCrossEntropy
from avalanche.training.plugins.clock import Clock
from avalanche.training.templates import SupervisedTemplate
from avalanche.training.templates.base_sgd import PeriodicEval

from fed_unlearn.errors import FedUnlearnError


class UnsupportedStrategyError(FedUnlearnError, TypeError):
    """A strategy, plug-in or metric cannot forget."""


HANDLED_PLUGINS: tuple[type, ...] = (
    plugins.AGEMPlugin,
    plugins.EarlyStoppingPlugin,
    plugins.EvaluationPlugin,
    plugins.EWCPlugin,
    plugins.FeatureDistillationPlugin,
    plugins.FromScratchTrainingPlugin,
    plugins.GDumbPlugin,
    plugins.LFLPlugin,
    plugins.LRSchedulerPlugin,
    plugins.LwFPlugin,
    plugins.MASPlugin,
    plugins.MIRPlugin,
    plugins.RARPlugin,
    plugins.ReplayPlugin,
    plugins.SynapticIntelligencePlugin,
    MaskedCrossEntropy,
    Clock,
    PeriodicEval,
)
"""Avalanche's plug-ins that can forget: they keep nothing of samples, or the unlearning plug-in updates it."""

_RAW = "keeps samples as tensors without their ids", "ReplayPlugin or AGEMPlugin"
_MEANS = "keeps class means of forgotten samples in the model", "ReplayPlugin with the model's own classifier"
_GENERATOR = "has a generator that has learned forgotten samples and would bring them back", "ReplayPlugin"

REFUSED_PLUGINS: Mapping[type, tuple[str, str]] = {
    plugins.BiCPlugin: ("fails on this PyTorch, whose MultiStepLR has no verbose", "ReplayPlugin"),
    plugins.CoPEPlugin: ("keeps prototypes of forgotten samples", "ReplayPlugin with a ClassBalancedBuffer"),
    plugins.CWRStarPlugin: ("puts the weights of before the request back after every experience", "EWCPlugin"),
    plugins.GEMPlugin: _RAW,
    plugins.GSS_greedyPlugin: _RAW,
    plugins.GenerativeReplayPlugin: _GENERATOR,
    plugins.TrainGeneratorAfterExpPlugin: _GENERATOR,
    plugins.RWalkPlugin: (
        "keeps scores along its path that cannot be taken apart by sample",
        "SynapticIntelligencePlugin or EWCPlugin",
    ),
    plugins.CurrentDataNCMUpdate: _MEANS,
    plugins.MemoryNCMUpdate: _MEANS,
    plugins.NCMOracle: _MEANS,
    plugins.CurrentDataFeCAMUpdate: _MEANS,
    plugins.MemoryFeCAMUpdate: _MEANS,
    plugins.FeCAMOracle: _MEANS,
    ICaRLLossPlugin: ("keeps the model of before the request as a teacher", "LwFPlugin"),
}
"""Avalanche's plug-ins that cannot forget, each with the reason and the alternative."""

REFUSED_STRATEGIES: Mapping[type, tuple[str, str]] = {
    strategies.AR1: ("keeps activations of samples without their ids", "Replay"),
    strategies.ExpertGateStrategy: ("keeps an autoencoder and a model of every task", "Replay"),
    strategies.FeatureReplay: ("keeps features of samples that the model of before the request gave", "Replay"),
    strategies.ICaRL: _RAW,
    strategies.LearningToPrompt: ("keeps prompts apart from the classifier", "Replay"),
    strategies.SCR: _MEANS,
    strategies.StreamingLDA: ("keeps running means and covariances over samples", "Replay"),
    strategies.AETraining: ("trains no classifier", "Naive"),
    strategies.VAETraining: ("trains no classifier", "Naive"),
}
"""Avalanche's strategies that cannot forget with any plug-ins, each with the reason and the alternative."""

_REFUSED_METRICS: Mapping[type, str] = {
    metrics.images_samples.ImagesSamplePlugin: "keeps images of training samples for the loggers; leave it out",
    metrics.WeightCheckpoint: "gives earlier weights to the loggers; use fed_unlearn.checkpoints instead",
}


def check_supported(strategy: Any, experience: Any | None = None) -> None:
    """Raise if a strategy, one of its plug-ins or one of its metrics cannot forget.

    Call this before a request is served. Nothing is changed.

    Parameters
    ----------
    strategy : SupervisedTemplate
        The strategy.
    experience : ForgetExperience, optional
        The experience of the request. The message names its request.

    Raises
    ------
    UnsupportedStrategyError
        The message names the request, the strategy, plug-in or metric, the reason, and an alternative.
    """
    why = next(_reasons(strategy), None)
    if why is not None:
        request = getattr(experience, "request", None)
        raise UnsupportedStrategyError(why if request is None else f"request {request.id}: {why}")


def _reasons(strategy: Any) -> Iterator[str]:
    """Yield every reason why a strategy cannot forget."""
    if not isinstance(strategy, SupervisedTemplate):
        yield (
            f"a {type(strategy).__name__} was given; unlearning needs a SupervisedTemplate strategy, such as Naive or"
            " Replay"
        )
        return
    yield from _refusals(strategy, REFUSED_STRATEGIES)
    for plugin in strategy.plugins:
        yield from _refusals(plugin, REFUSED_PLUGINS)
        if type(plugin).__module__.startswith("avalanche.") and not isinstance(plugin, HANDLED_PLUGINS):
            yield (
                f"{type(plugin).__name__} may keep something of forgotten samples; leave it out, or derive a plug-in"
                " from it that has a method forget(strategy, sample_ids)"
            )
    for metric in getattr(strategy.evaluator, "metrics", ()):
        yield from (f"{kind.__name__} {why}" for kind, why in _REFUSED_METRICS.items() if isinstance(metric, kind))


def _refusals(given: Any, refused: Mapping[type, tuple[str, str]]) -> Iterator[str]:
    """Yield why ``given`` is of a refused kind. Plug-ins with a method ``forget`` are accepted."""
    if isinstance(given, BasePlugin) and callable(getattr(given, "forget", None)):
        return
    for kind, (why, instead) in refused.items():
        if isinstance(given, kind):
            yield f"{kind.__name__} {why}; use {instead} instead"
