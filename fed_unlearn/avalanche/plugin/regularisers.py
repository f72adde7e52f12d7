"""What regularisers remember, brought in line with a model that has unlearned.

Regularisers hold a model near the weights that it had after earlier experiences, in the directions that mattered there
(EWC: Kirkpatrick et al., PNAS 2017; Synaptic Intelligence: Zenke et al., ICML 2017; MAS: Aljundi et al., ECCV 2018), or
near its earlier outputs (LwF: Li and Hoiem, ECCV 2016). After a request both still know what was to be forgotten, and
the next training would bring it back. Hence:

- Anchors, all of them, become the unlearned weights. The penalty and its gradient are then zero at the unlearned model
  and hold it there, as Huszar (PNAS 2018) has it for EWC: one anchor, the latest weights, and the sum of importances.
  An anchor from before the forgotten samples came knows nothing of them, but would pull out what unlearning put in.
- Importances that forgotten samples had a part in are computed anew on what is left of their experiences, at the
  unlearned weights, with the plug-in's own rule. Those of other experiences stay as they are. They are made of
  gradients, which grow as a model leaves its minimum or gets larger outputs (on digits the largest importance of EWC by
  3 to 6 times, of MAS by 87), and under a penalty that much stiffer the next training diverges. So they are scaled
  down, all by one factor, until the largest is no larger than the largest was.
- A teacher becomes the unlearned model.

Nothing of this draws from global generators, or leaves a trace in the model: modes, gradients and statistics of
normalisation layers are as before.
"""

from __future__ import annotations

import copy
import warnings
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

import torch
from avalanche.core import BasePlugin
from avalanche.training.plugins import (
    EarlyStoppingPlugin,
    EWCPlugin,
    FeatureDistillationPlugin,
    LFLPlugin,
    LwFPlugin,
    MASPlugin,
    SynapticIntelligencePlugin,
)
from avalanche.training.utils import copy_params_dict, zerolike_params_dict
from torch import nn

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.seeding import derive_seed, isolated_random

_unknown: WeakSet[type] = WeakSet()
"""Kinds of plug-in that a warning has been given for."""


def keep_consistent(strategy: Any, forgotten: Collection[str], seen: Sequence[Any], trained: Sequence[int]) -> None:
    """Bring what a strategy's regularisers remember in line with its model, after that has unlearned.

    EWC and MAS as the module says; where EWC is "online", and for MAS, one running sum stands for all experiences and
    is built again from the first. Synaptic Intelligence gathers importances along the path of training, which cannot be
    taken apart by sample: what it has gathered is scaled by the share of its samples that are left. This is an
    approximation: it says how much of the importances rests on forgotten samples, not where. LwF, feature distillation
    and LFL get a copy of the model as their teacher; early stopping drops the weights that it holds.

    A plug-in that is not Avalanche's is asked to see to itself: ``plugin.forget(strategy, sample_ids)`` is called where
    it has such a method, with the frozenset of forgotten ids. This also replaces the treatment above for plug-ins that
    are derived from Avalanche's. One without it is named in a warning, once for each class.

    Parameters
    ----------
    strategy : SupervisedTemplate
        Its model is the unlearned one already, changed in place.
    forgotten : collection of str
        Ids of the samples of the request, or of all requests so far.
    seen : sequence of DatasetExperience
        What is left of each training experience, in the order of ``train_exp_counter``. Data sets may be empty.
    trained : sequence of int
        How many samples each experience of ``seen`` had before this request: those that were trained on, less those of
        earlier requests.

    Raises
    ------
    InvalidParameterError
        If ``trained`` and ``seen`` differ in length, or more is left than was trained on.
    """
    ids = frozenset(forgotten)
    left = [len(experience.dataset) for experience in seen]
    if len(trained) != len(left) or any(n < m for n, m in zip(trained, left, strict=True)):
        raise InvalidParameterError(
            f"trained: {list(trained)} samples were given for experiences with {left} samples left; expected one number"
            " for each experience, and no fewer than are left"
        )
    changed = {k for k, size in enumerate(left) if trained[k] > size}
    for plugin in strategy.plugins:
        if callable(getattr(plugin, "forget", None)):
            plugin.forget(strategy, ids)
        elif isinstance(plugin, EWCPlugin):
            _renew_ewc(plugin, strategy, seen, changed)
        elif isinstance(plugin, MASPlugin):
            _renew_mas(plugin, strategy, seen, changed)
        elif isinstance(plugin, SynapticIntelligencePlugin):
            _rescale_synapses(plugin, strategy.model, sum(left), sum(trained))
        elif isinstance(plugin, LwFPlugin):
            plugin.lwf.prev_model = _teacher(plugin.lwf.prev_model, strategy.model)
        elif isinstance(plugin, LFLPlugin | FeatureDistillationPlugin):
            plugin.prev_model = _teacher(plugin.prev_model, strategy.model)
        elif isinstance(plugin, EarlyStoppingPlugin):
            plugin.best_state = plugin.best_val = plugin.best_step = None
        else:
            _warn_of_unknown(plugin)


def note_skipped(strategy: Any) -> None:
    """Have regularisers get over a training experience that is skipped, since nothing is left of it.

    Online EWC looks for its sum under the experience before the current one, and MAS for any from the second experience
    on. To be called with the counter of experiences where it was, before it goes on.

    Parameters
    ----------
    strategy : SupervisedTemplate
    """
    k = strategy.clock.train_exp_counter
    for plugin in strategy.plugins:
        if isinstance(plugin, EWCPlugin):
            _skip_in_ewc(plugin, strategy.model, k)
        elif isinstance(plugin, MASPlugin) and not plugin.importance:
            plugin.params = dict(copy_params_dict(strategy.model))
            plugin.importance = dict(zerolike_params_dict(strategy.model))


def _renew_ewc(plugin: Any, strategy: Any, seen: Sequence[Any], changed: set[int]) -> None:
    computed = [k for k in sorted(plugin.importances) if k < len(seen)]
    if not computed:
        return
    if changed and plugin.mode == "online":
        # The sum does not tell its parts apart: it is built again by the plug-in's own rule, from the first on.
        before, plugin.importances = plugin.importances, defaultdict(dict)
        for k in range(computed[-1] + 1):
            plugin.update_importances(_fisher(plugin, strategy, seen[k]), k)
        plugin.importances = defaultdict(dict, {k: _no_stiffer(plugin.importances[k], before[k]) for k in computed})
    elif changed:
        for k in changed.intersection(computed):
            plugin.importances[k] = _no_stiffer(_fisher(plugin, strategy, seen[k]), plugin.importances[k])
    for k in [k for k, anchors in plugin.saved_params.items() if anchors]:
        plugin.saved_params[k] = copy_params_dict(strategy.model)


def _fisher(plugin: Any, strategy: Any, experience: Any) -> Any:
    """EWC's importances of one experience at the model's weights; zero where nothing is left of it."""
    if len(experience.dataset) == 0:
        return zerolike_params_dict(strategy.model)
    with _undisturbed(strategy.model):
        return plugin.compute_importances(
            strategy.model,
            strategy._criterion,
            strategy.optimizer,
            experience.dataset,
            strategy.device,
            strategy.train_mb_size,
        )


def _no_stiffer(importances: Any, before: Any) -> Any:
    """The importances, scaled down where the largest is larger than the largest was before."""
    bound, largest = (max(float(value.data.max()) for value in given.values()) for given in (before, importances))
    if largest > bound:
        for value in importances.values():
            value.data = value.data * (bound / largest)
    return importances


def _skip_in_ewc(plugin: Any, model: nn.Module, k: int) -> None:
    if plugin.mode == "separate" or k == 0:
        plugin.importances[k] = zerolike_params_dict(model)
        plugin.saved_params[k] = copy_params_dict(model)
        return
    for memory in (plugin.importances, plugin.saved_params):
        memory[k] = memory[k - 1] if plugin.keep_importance_data else memory.pop(k - 1, {})


def _renew_mas(plugin: Any, strategy: Any, seen: Sequence[Any], changed: set[int]) -> None:
    if not plugin.importance:
        return
    if changed:
        plugin.importance = _no_stiffer(_sensitivities(plugin, strategy, seen), plugin.importance)
    plugin.params = dict(copy_params_dict(strategy.model))


def _sensitivities(plugin: Any, strategy: Any, seen: Sequence[Any]) -> dict[str, Any]:
    """MAS's running mean over experiences at the model's weights, as if those with nothing left had not been."""
    running: dict[str, Any] = dict(zerolike_params_dict(strategy.model))
    current, weight = strategy.experience, 1.0
    try:
        for experience in seen:
            if len(experience.dataset) == 0:
                continue
            strategy.experience = experience
            with _undisturbed(strategy.model):
                importance = plugin._get_importance(strategy)
            for name, value in importance.items():
                running[name].data = (1 - weight) * running[name].data + weight * value.data
            weight = 1 - plugin.alpha
    finally:
        strategy.experience = current
    return running


def _rescale_synapses(plugin: Any, model: nn.Module, left: int, trained: int) -> None:
    share = left / trained if trained else 0.0
    for values in (plugin.syn_data["cum_trajectory"], plugin.ewc_data[1]):
        for value in values.values():
            value.data = value.data * share
    for value in plugin.syn_data["trajectory"].values():
        value.data = torch.zeros_like(value.data)
    parameters = dict(model.named_parameters())
    for name, anchor in plugin.ewc_data[0].items():
        weights = parameters[name].detach().cpu().flatten()
        anchor.data = weights[: anchor.data.numel()].clone()  # a head may have grown since, by rows at its end


def _teacher(previous: nn.Module | None, model: nn.Module) -> nn.Module | None:
    """The unlearned model in the place of a teacher: with its modes, and frozen where it was; None stays None."""
    if previous is None:
        return None
    holder: Any = model
    if isinstance(getattr(holder, "features", None), torch.Tensor):
        holder.features = None  # kept by feature distillation: part of a graph, which cannot be copied
    teacher = copy.deepcopy(model)
    trained = {name: parameter.requires_grad for name, parameter in previous.named_parameters()}
    modes = {name: module.training for name, module in previous.named_modules()}
    for name, parameter in teacher.named_parameters():
        parameter.grad = None
        parameter.requires_grad_(trained.get(name, parameter.requires_grad))
    for name, module in teacher.named_modules():
        module.training = modes.get(name, module.training)
    return teacher


def _warn_of_unknown(plugin: Any) -> None:
    module = type(plugin).__module__
    if isinstance(plugin, BasePlugin) and module.startswith(("avalanche.", "fed_unlearn.")):
        return
    base = next(kind for kind in type(plugin).__mro__ if kind.__module__.startswith("avalanche.") or kind is object)
    if base.__module__.startswith("avalanche.training") or type(plugin) in _unknown:
        return  # derived from one that is seen to, or named before
    _unknown.add(type(plugin))
    warnings.warn(
        f"plug-in {type(plugin).__name__} has no method forget(strategy, sample_ids); what it keeps of forgotten"
        " samples, other than data sets with sample ids, stays",
        stacklevel=3,
    )


@contextmanager
def _undisturbed(model: nn.Module) -> Iterator[None]:
    """Let others run the model forward and backward: modes, gradients, buffers and generators are as before."""
    modes = [(module, module.training) for module in model.modules()]
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    for parameter, _ in gradients:
        parameter.grad = None
    try:
        with isolated_random(derive_seed("importances")), torch.enable_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, gradient in gradients:
            parameter.grad = gradient
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
