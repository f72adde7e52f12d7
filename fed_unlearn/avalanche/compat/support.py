"""Which strategies, plug-ins and metrics of Avalanche can unlearn, and which are refused.

A part is refused if it fails on today's PyTorch, needs task labels that the benchmark does not have, or keeps something
of forgotten samples that cannot be removed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import avalanche.evaluation.metrics as metrics
import avalanche.training.plugins as plugins
import avalanche.training.supervised as strategies
from avalanche.benchmarks import OnlineCLExperience
from avalanche.core import BasePlugin
from avalanche.evaluation.metrics.mean_scores import MeanScoresPluginMetricABC
from avalanche.models import MultiTaskModule
from avalanche.training.losses import ICaRLLossPlugin, MaskedCrossEntropy
from avalanche.training.plugins.clock import Clock
from avalanche.training.storage_policy import ClassBalancedBuffer, ParametricBuffer
from avalanche.training.templates import SupervisedTemplate
from avalanche.training.templates.base_sgd import PeriodicEval
from torch import nn

from fed_unlearn.avalanche.compat.task_labels import has_task_labels
from fed_unlearn.errors import FedUnlearnError


class UnsupportedStrategyError(FedUnlearnError, TypeError):
    """A strategy, plug-in or metric cannot forget, or does not run."""


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
_AHEAD = "fills its buffer before forgotten samples are taken out of an experience", "Replay or MIR"

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
    strategies.DER: ("replays outputs that the model of before the request gave", "Replay"),
    strategies.ER_ACE: _AHEAD,
    strategies.ER_AML: _AHEAD,
    strategies.ExpertGateStrategy: ("keeps an autoencoder and a model of every task", "Replay"),
    strategies.FeatureReplay: ("keeps features of samples that the model of before the request gave", "Replay"),
    strategies.ICaRL: _RAW,
    strategies.JointTraining: ("trains once, on all experiences together, so that no request can follow", "Cumulative"),
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

_TASK_METRICS: tuple[type, ...] = (
    metrics.class_accuracy.ClassAccuracyPluginMetric,
    metrics.amca.AMCAPluginMetric,
    metrics.topk_acc.TopkAccuracyPluginMetric,
    metrics.labels_repartition.LabelsRepartitionPlugin,
)


def check_supported(strategy: Any, experience: Any | None) -> None:
    """Raise if a strategy, one of its plug-ins or one of its metrics cannot forget or does not run.

    Parameters
    ----------
    strategy : SupervisedTemplate
        The strategy. It is not changed.
    experience : DatasetExperience or None
        The next experience. Without it, missing task labels are not noticed.

    Raises
    ------
    UnsupportedStrategyError
        The message names the strategy, plug-in or metric, the reason, and an alternative.
    """
    if not isinstance(strategy, SupervisedTemplate):
        raise UnsupportedStrategyError(
            f"a {type(strategy).__name__} was given; unlearning needs a SupervisedTemplate strategy, such as Naive or"
            " Replay"
        )
    _refuse(strategy, REFUSED_STRATEGIES)
    for plugin in strategy.plugins:
        _refuse(plugin, REFUSED_PLUGINS)
        if type(plugin).__module__.startswith("avalanche.") and not isinstance(plugin, HANDLED_PLUGINS):
            raise UnsupportedStrategyError(
                f"{type(plugin).__name__} may keep something of forgotten samples; leave it out, or derive a plug-in"
                " from it that has a method forget(strategy, sample_ids)"
            )
    _check_model(strategy.model)
    for metric in _metrics(strategy):
        for kind, why in _REFUSED_METRICS.items():
            if isinstance(metric, kind):
                raise UnsupportedStrategyError(f"{kind.__name__} {why}")
    if experience is not None:
        _check_experience(strategy, experience)


def _refuse(given: Any, refused: Mapping[type, tuple[str, str]]) -> None:
    """Raise if ``given`` is of a refused kind. Plug-ins with a method ``forget`` are accepted."""
    if isinstance(given, BasePlugin) and callable(getattr(given, "forget", None)):
        return
    for kind, (why, instead) in refused.items():
        if isinstance(given, kind):
            raise UnsupportedStrategyError(f"{kind.__name__} {why}; use {instead} instead")


def _check_model(model: nn.Module) -> None:
    if any(isinstance(module, MultiTaskModule) for module in model.modules()):
        raise UnsupportedStrategyError(
            f"{type(model).__name__} asks for task labels with its images; unlearning needs a model that takes images"
            " alone and gives logits, such as one with a single head"
        )


def _check_experience(strategy: Any, experience: Any) -> None:
    if isinstance(experience, OnlineCLExperience):
        raise UnsupportedStrategyError(
            "an online experience was given, a part of one that requests count by; train on whole experiences instead"
        )
    if not hasattr(experience, "classes_in_this_experience"):
        for metric in _metrics(strategy):
            if isinstance(metric, MeanScoresPluginMetricABC):
                raise _needs("classes_in_this_experience", metric, "take a class-incremental benchmark")
    if has_task_labels(experience):
        return
    remedy = (
        "build the benchmark with nc_benchmark or ni_benchmark, or give it one task with"
        " fed_unlearn.avalanche.compat.with_one_task before forget_benchmark"
    )
    for given in (*strategy.plugins, *_metrics(strategy)):
        if isinstance(given, _TASK_METRICS) or _plugin_needs_tasks(given):
            raise _needs("task labels", given, remedy)


def _plugin_needs_tasks(plugin: Any) -> bool:
    if isinstance(plugin, plugins.LwFPlugin | plugins.FeatureDistillationPlugin):
        return True
    if not isinstance(plugin, plugins.ReplayPlugin | plugins.RARPlugin):
        return False
    # A subset by class gets task labels of its own, and cannot be in a batch with samples that have none.
    policy = plugin.storage_policy
    by_class = isinstance(policy, ClassBalancedBuffer) or (
        isinstance(policy, ParametricBuffer) and policy.groupby in ("class", "task")
    )
    return by_class or getattr(plugin, "task_balanced_dataloader", False)


def _needs(what: str, given: Any, remedy: str) -> UnsupportedStrategyError:
    return UnsupportedStrategyError(
        f"{type(given).__name__} needs {what}, which the experiences of this benchmark do not have; {remedy}"
    )


def _metrics(strategy: Any) -> list[Any]:
    return [metric for metric in getattr(strategy.evaluator, "metrics", ()) if metric is not None]
