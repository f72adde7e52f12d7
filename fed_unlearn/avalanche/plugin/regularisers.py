"""Updates the state of regularisers after a model has unlearned.

Regularisers keep a model near the weights that it had after earlier experiences, weighted by importances (EWC:
Kirkpatrick et al., PNAS 2017; Synaptic Intelligence: Zenke et al., ICML 2017; MAS: Aljundi et al., ECCV 2018), or near
its earlier outputs (LwF: Li and Hoiem, ECCV 2016). After a request these weights, importances and outputs still depend
on forgotten samples, and the next training would bring the samples back. The update has three parts:

- All anchors become the unlearned weights, so that the penalty and its gradient are zero at the unlearned model. Huszar
  (PNAS 2018) gives the same form for EWC: one anchor, the latest weights, with the sum of importances. An anchor that
  is older than the forgotten samples does not depend on them, but would undo the unlearning.
- Importances that depend on forgotten samples are computed again on the samples that are left, at the unlearned
  weights, by the plug-in's own rule. Importances of other experiences stay. Importances are made of gradients, which
  grow when a model leaves its minimum or its outputs grow: on digits the largest importance of EWC grew 3 to 6 times,
  that of MAS 87 times. The next training diverges under such a penalty. New importances are therefore scaled by one
  factor, such that the largest is at most as large as the largest was before.
- A teacher becomes the unlearned model.

The update does not draw from global generators. Modes, gradients and statistics of normalisation layers are restored.
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
from avalanche.training.losses import MaskedCrossEntropy
from avalanche.training.plugins import (
    EarlyStoppingPlugin,
    EWCPlugin,
    FeatureDistillationPlugin,
    LFLPlugin,
    LwFPlugin,
    MASPlugin,
    SynapticIntelligencePlugin,
)
from avalanche.training.supervised import DER
from avalanche.training.utils import copy_params_dict, zerolike_params_dict
from torch import nn

from fed_unlearn.avalanche.plugin.memory.stored_outputs import renew_outputs
from fed_unlearn.avalanche.streams.samples import labels_of
from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.seeding import derive_seed, isolated_random

_warned_of: WeakSet[type] = WeakSet()
"""Classes of plug-ins that a warning was given for."""


def keep_consistent(strategy: Any, forgotten: Collection[str], seen: Sequence[Any], trained: Sequence[int]) -> None:
    """Update the state of a strategy's regularisers after its model has unlearned.

    EWC and MAS are updated as the module's text says. Online EWC and MAS keep one running sum for all experiences; it
    is built again from the first experience. Synaptic Intelligence accumulates importances along the path of training,
    which cannot be separated by sample. They are scaled by the share of samples that are left. This is an
    approximation: it accounts for how much of the importances rests on forgotten samples, but not for where. LwF,
    feature distillation and LFL get a copy of the model as their teacher. The outputs that DER replays are computed
    again by the model. Early stopping drops its stored weights.

    If a plug-in has a method ``forget(strategy, sample_ids)``, it is called with the frozenset of forgotten ids instead
    of the treatment above. So is a method ``forget(sample_ids)`` of the strategy. A plug-in of another library without
    this method is named in a warning, once per class.

    Parameters
    ----------
    strategy : SupervisedTemplate
        The strategy. Its model has unlearned already.
    forgotten : collection of str
        Ids of the samples of the request, or of all requests so far.
    seen : sequence of DatasetExperience
        The samples that are left of each training experience, in the order of ``train_exp_counter``. Data sets may be
        empty.
    trained : sequence of int
        Number of samples that each experience of ``seen`` had before this request: those that were trained on, without
        those of earlier requests.

    Raises
    ------
    InvalidParameterError
        If ``trained`` and ``seen`` differ in length, or an experience has more samples left than were trained on.
    """
    ids = frozenset(forgotten)
    left = [len(experience.dataset) for experience in seen]
    if len(trained) != len(left) or any(n < m for n, m in zip(trained, left, strict=True)):
        raise InvalidParameterError(
            f"trained: {list(trained)} samples were given for experiences with {left} samples left; expected one number"
            " for each experience, and no fewer than are left"
        )
    changed = {k for k, size in enumerate(left) if trained[k] > size}
    own = [plugin for plugin in strategy.plugins if callable(getattr(plugin, "forget", None))]
    if callable(getattr(strategy, "forget", None)):
        strategy.forget(ids)
    for plugin in own:  # first: if one raises, regularisers are as they were
        plugin.forget(strategy, ids)
    if isinstance(strategy, DER):
        with _undisturbed(strategy.model):
            renew_outputs(strategy)
    for plugin in strategy.plugins:
        if any(plugin is each for each in own):
            continue
        if isinstance(plugin, EWCPlugin):
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
    """Give regularisers the entries that they expect of a training experience that is skipped.

    Online EWC reads its sum from the entry of the experience before the current one. MAS expects importances from the
    second experience on. Call this before the counter of training experiences advances.
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
        # The sum cannot be separated into its parts: build it again by the plug-in's own rule.
        before, plugin.importances = plugin.importances, defaultdict(dict)
        for k in range(computed[-1] + 1):
            plugin.update_importances(_fisher(plugin, strategy, seen, k), k)
        plugin.importances = defaultdict(dict, {k: _no_stiffer(plugin.importances[k], before[k]) for k in computed})
    elif changed:
        for k in changed.intersection(computed):
            plugin.importances[k] = _no_stiffer(_fisher(plugin, strategy, seen, k), plugin.importances[k])
    for k in [k for k, anchors in plugin.saved_params.items() if anchors]:
        anchors = copy_params_dict(strategy.model)
        known = plugin.importances.get(k, anchors)  # not heads that came after the experience
        plugin.saved_params[k] = {name: anchor for name, anchor in anchors.items() if name in known}


def _fisher(plugin: Any, strategy: Any, seen: Sequence[Any], k: int) -> Any:
    """Return EWC's importances of experience ``k`` at the model's weights; zeros if it has no sample left."""
    if len(seen[k].dataset) == 0:
        return zerolike_params_dict(strategy.model)
    with _undisturbed(strategy.model), _masked_as_in(strategy._criterion, seen, k):
        return plugin.compute_importances(
            strategy.model,
            strategy._criterion,
            strategy.optimizer,
            seen[k].dataset,
            strategy.device,
            strategy.train_mb_size,
        )


@contextmanager
def _masked_as_in(criterion: Any, seen: Sequence[Any], k: int) -> Iterator[None]:
    """Let a masked criterion see the classes that it saw in experience ``k``. With others, its loss could be zero."""
    if not isinstance(criterion, MaskedCrossEntropy):
        yield
        return
    classes = [
        set(getattr(item, "classes_in_this_experience", None) or labels_of(item.dataset)) for item in seen[: k + 1]
    ]
    before = criterion.current_classes, criterion.old_classes
    criterion.current_classes, criterion.old_classes = classes[-1], set().union(*classes[:-1])
    try:
        yield
    finally:
        criterion.current_classes, criterion.old_classes = before


def _no_stiffer(importances: Any, before: Any) -> Any:
    """Scale the importances such that the largest is at most the largest of ``before``."""
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
    for entries in (plugin.importances, plugin.saved_params):
        entries[k] = entries[k - 1] if plugin.keep_importance_data else entries.pop(k - 1, {})


def _renew_mas(plugin: Any, strategy: Any, seen: Sequence[Any], changed: set[int]) -> None:
    if not plugin.importance:
        return
    if changed:
        plugin.importance = _no_stiffer(_sensitivities(plugin, strategy, seen), plugin.importance)
    plugin.params = dict(copy_params_dict(strategy.model))


def _sensitivities(plugin: Any, strategy: Any, seen: Sequence[Any]) -> dict[str, Any]:
    """Return MAS's running mean over the experiences that have samples left, at the model's weights."""
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
        anchor.data = weights[: anchor.data.numel()].clone()  # a head may have got rows at its end since


def _teacher(previous: nn.Module | None, model: nn.Module) -> nn.Module | None:
    """Return a copy of the model with the modes and the frozen parameters of the previous teacher, if there was one."""
    if previous is None:
        return None
    holder: Any = model
    if isinstance(getattr(holder, "features", None), torch.Tensor):
        holder.features = None  # feature distillation keeps it; a tensor with a graph cannot be copied
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
    if base.__module__.startswith("avalanche.training") or type(plugin) in _warned_of:
        return  # derived from a plug-in that is handled, or warned of before
    _warned_of.add(type(plugin))
    warnings.warn(
        f"plug-in {type(plugin).__name__} has no method forget(strategy, sample_ids); what it keeps of forgotten"
        " samples, other than data sets with sample ids, stays",
        stacklevel=3,
    )


@contextmanager
def _undisturbed(model: nn.Module) -> Iterator[None]:
    """Restore modes, gradients, buffers and random generators after others have run the model."""
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
