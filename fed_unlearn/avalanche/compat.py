"""What of Avalanche 0.6 is worked around, and what is refused: the one place for it.

Worked around, from where a strategy that has it gets the plug-in that unlearns (:func:`mend_synaptic_intelligence`):

- Synaptic Intelligence on the CPU. Avalanche stores views of the weights where it means copies, so that every path
  integral, every importance and with them the whole penalty is zero; a GPU copies as it hands over. The two functions
  that read weights and gradients are replaced by ones that copy. A version that copies by itself is left alone.

Worked around where asked for: :func:`with_one_task`, for benchmarks without task labels.

Refused by :func:`check_supported`: what fails on today's PyTorch (BiC), what fails without task labels, and what keeps
something of forgotten samples that cannot be taken out of it. Not used at all: ``save_checkpoint``, which pickles a
whole strategy with its buffers. ``WandBLogger`` cannot be made with a wandb that has no ``wandb.util.generate_id``; the
text, interactive, TensorBoard and CSV loggers work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from typing import Any

import avalanche.evaluation.metrics as metrics
import avalanche.training.plugins as plugins
import avalanche.training.supervised as strategies
import torch
from avalanche.benchmarks import CLScenario, EagerCLStream, OnlineCLExperience
from avalanche.benchmarks.utils import AvalancheDataset, ConstantSequence, TaskLabels
from avalanche.benchmarks.utils.classification_dataset import TaskAwareSupervisedClassificationDataset
from avalanche.core import BasePlugin
from avalanche.evaluation.metrics.mean_scores import MeanScoresPluginMetricABC
from avalanche.models import MultiTaskModule
from avalanche.training.losses import ICaRLLossPlugin, MaskedCrossEntropy
from avalanche.training.plugins.clock import Clock
from avalanche.training.storage_policy import ClassBalancedBuffer, ParametricBuffer
from avalanche.training.templates import SupervisedTemplate
from avalanche.training.templates.base_sgd import PeriodicEval
from avalanche.training.utils import ParamData
from torch import nn

from fed_unlearn.errors import FedUnlearnError


class UnsupportedStrategyError(FedUnlearnError, TypeError):
    """A strategy, plug-in or metric that cannot forget, or that does not run."""


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
"""Avalanche's plug-ins that keep nothing of samples, or nothing that buffers.py and regularisers.py do not see to."""

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
"""Avalanche's plug-ins that cannot forget: why, and what to use instead."""

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
"""Avalanche's strategies that cannot forget, whatever their plug-ins."""

_TASK_METRICS: tuple[type, ...] = (
    metrics.class_accuracy.ClassAccuracyPluginMetric,
    metrics.amca.AMCAPluginMetric,
    metrics.topk_acc.TopkAccuracyPluginMetric,
    metrics.labels_repartition.LabelsRepartitionPlugin,
)


def check_supported(strategy: Any, experience: Any | None) -> None:
    """Refuse what cannot forget or does not run, before anything is trained.

    Parameters
    ----------
    strategy : SupervisedTemplate
        With its plug-ins and metrics. It is left as it is.
    experience : DatasetExperience or None
        The next one; without it, what fails for want of task labels is not looked for.

    Raises
    ------
    UnsupportedStrategyError
        Naming the strategy, plug-in or metric, why, and what to use instead.
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
        if isinstance(metric, metrics.images_samples.ImagesSamplePlugin):
            raise UnsupportedStrategyError(
                "ImagesSamplePlugin keeps images of training samples and hands them to the loggers; leave it out"
            )
        if isinstance(metric, metrics.WeightCheckpoint):
            raise UnsupportedStrategyError(
                "WeightCheckpoint hands weights of before a request to the loggers; use fed_unlearn.checkpoints instead"
            )
    if experience is not None:
        _check_experience(strategy, experience)


def with_one_task(benchmark: CLScenario) -> CLScenario:
    """The same benchmark with task label 0 for every sample, where there are no task labels.

    For benchmarks of ``class_incremental_benchmark``, ``new_instances_benchmark`` and ``benchmark_from_datasets``, with
    strategies and metrics that need task labels: LwF, buffers grouped by class, class accuracy, top-k.

    Parameters
    ----------
    benchmark : CLScenario
        It is left as it is, and given back where nothing is missing. The result goes into ``forget_benchmark``, not the
        other way round.

    Examples
    --------
    >>> scenario = forget_benchmark(with_one_task(benchmark), requests)  # doctest: +SKIP
    """
    if all(_has_task_labels(experience) for stream in benchmark.streams.values() for experience in stream):
        return benchmark
    streams = [EagerCLStream(name, list(map(_as_task, stream))) for name, stream in benchmark.streams.items()]
    scenario = CLScenario(streams)
    for stream in streams:
        stream.benchmark = scenario
    return scenario


def _as_task(experience: Any) -> Any:
    view = copy(experience)
    if _has_task_labels(experience):
        return view
    dataset = experience.dataset
    labelled: Any = TaskAwareSupervisedClassificationDataset(
        [dataset], data_attributes=[TaskLabels(ConstantSequence(0, len(dataset)))]
    )
    view._dataset = labelled.with_transforms(dataset._flat_data._transform_groups.current_group)
    view.task_label, view.task_labels = 0, [0]
    return view


def _refuse(given: Any, refused: Mapping[type, tuple[str, str]]) -> None:
    """Raise for one of these kinds, unless its owner has taught it to forget."""
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
    if _has_task_labels(experience):
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


def _has_task_labels(experience: Any) -> bool:
    dataset: Any = experience.dataset
    return isinstance(dataset, AvalancheDataset) and "targets_task_labels" in dataset._data_attributes


def _metrics(strategy: Any) -> list[Any]:
    return [metric for metric in getattr(strategy.evaluator, "metrics", ()) if metric is not None]


def _copy_weights(model: nn.Module, target: dict[str, ParamData], excluded_parameters: set[str]) -> None:
    for name, parameter in plugins.SynapticIntelligencePlugin.allowed_parameters(model, excluded_parameters):
        target[name].data = parameter.detach().cpu().flatten().clone()


def _copy_gradients(model: nn.Module, target: dict[str, ParamData], excluded_parameters: set[str]) -> None:
    for name, parameter in plugins.SynapticIntelligencePlugin.allowed_parameters(model, excluded_parameters):
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        target[name].data = gradient.detach().cpu().flatten().clone()


def _stores_views(extract: Callable[..., None]) -> bool:
    probe = nn.Linear(1, 1, bias=False, device="meta").to_empty(device="cpu")
    target = {"weight": ParamData("weight", (1,))}
    extract(probe, target, set())
    return bool(target["weight"].data.data_ptr() == probe.weight.data_ptr())


def mend_synaptic_intelligence() -> None:
    """Have Synaptic Intelligence copy weights and gradients where it stores views of them.

    For all strategies of the process from here on. Called where a strategy has both that plug-in and one that unlearns:
    without it all path integrals, importances and the penalty are zero on a CPU. Nothing happens where a version of
    Avalanche copies by itself, or a second time.
    """
    if _stores_views(plugins.SynapticIntelligencePlugin.extract_weights):
        plugins.SynapticIntelligencePlugin.extract_weights = staticmethod(torch.no_grad()(_copy_weights))
        plugins.SynapticIntelligencePlugin.extract_grad = staticmethod(torch.no_grad()(_copy_gradients))
