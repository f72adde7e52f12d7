"""What a strategy keeps of earlier experiences, and how forgotten samples are taken out of all of it."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Collection, Iterator
from types import GeneratorType
from typing import Any

from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.benchmarks.utils.data_loader import GroupBalancedInfiniteDataLoader
from avalanche.core import BasePlugin
from avalanche.training.plugins import AGEMPlugin, EvaluationPlugin, RARPlugin
from avalanche.training.storage_policy import (
    BalancedExemplarsBuffer,
    ClassBalancedBuffer,
    ExemplarsBuffer,
    ExperienceBalancedBuffer,
    ParametricBuffer,
    ReservoirSamplingBuffer,
)
from avalanche.training.utils import cycle
from torch.utils.data import DataLoader, RandomSampler

from fed_unlearn.avalanche.streams.samples import has_sample_ids, sample_ids
from fed_unlearn.errors import InvalidDataError

_DEPTH = 8
"""How many containers and holders deep samples are looked for."""

_OF_THE_MOMENT = {"experience", "adapted_dataset", "dataloader", "mbatch", "current_eval_stream", "_eval_streams"}
"""What a strategy has at hand while it trains or evaluates; not kept, made anew by the next experience."""


def buffered(strategy: Any) -> list[AvalancheDataset]:
    """What a strategy and its plug-ins keep of earlier experiences.

    Parameters
    ----------
    strategy : SupervisedTemplate

    Returns
    -------
    list of AvalancheDataset
        Each once, none of them empty; a sample can stand in several. Groups of balanced buffers stand for themselves.
        What the strategy trains on just now, and what the benchmark and evaluation hold, is not among them.

    Examples
    --------
    >>> [len(dataset) for dataset in buffered(strategy)]  # doctest: +SKIP
    [67, 67, 66]
    """
    return [value for value in _values(strategy) if isinstance(value, AvalancheDataset) and len(value) > 0]


def purge_buffers(strategy: Any, forgotten: Collection[str]) -> int:
    """Take forgotten samples out of everything that a strategy and its plug-ins keep.

    Storage policies and the buffers within them, AGEM's, the data of cumulative training, and every other data set that
    is held in an attribute, a list, a tuple or a dict of the strategy, a plug-in or a buffer. Loaders that run over
    buffers are made anew over what is left. A group of a balanced buffer that has nothing left is dropped as if it had
    never been met, so that its share of the memory falls to the others. A reservoir keeps the weights that its samples
    drew; what it had turned away for a forgotten sample does not come back.

    Parameters
    ----------
    strategy : SupervisedTemplate
        What holds none of the samples is left as it is, to the object.
    forgotten : collection of str
        Sample ids; ids that are held nowhere do no harm.

    Returns
    -------
    int
        How many samples were taken out, a sample counted in each place that held it.

    Raises
    ------
    InvalidDataError
        If something is held whose samples have no ids; nothing is changed then.
    """
    ids = frozenset(forgotten)
    for dataset in buffered(strategy):
        if not has_sample_ids(dataset):
            raise InvalidDataError(
                f"{type(strategy).__name__} keeps {len(dataset)} samples without ids, so that forgotten ones cannot be"
                " told from others; build the benchmark with forget_benchmark before the first training"
            )
    if not ids:
        return 0
    purge = _Purge(ids)
    purge.enter(strategy, _DEPTH)
    return purge.removed


def drop_batches(strategy: Any) -> None:
    """Let go of what a strategy has at hand of the experience before: samples that may be forgotten now.

    Parameters
    ----------
    strategy : SupervisedTemplate
    """
    strategy.adapted_dataset, strategy.dataloader, strategy.mbatch, strategy.mb_output = None, [], None, None


class _Purge:
    """One pass over everything held; data sets that stand in several places stay one."""

    def __init__(self, forgotten: frozenset[str]) -> None:
        self.removed = 0
        self._changes = 0
        self._forgotten = forgotten
        self._replaced: dict[int, tuple[Any, Any]] = {}
        self._entered: set[int] = set()

    def enter(self, holder: Any, depth: int) -> None:
        """Replace in place what the attributes of a strategy, a plug-in or a buffer hold."""
        if id(holder) in self._entered or depth == 0:
            return
        self._entered.add(id(holder))
        if isinstance(holder, ReservoirSamplingBuffer):
            self._purge_reservoir(holder)
        before = self._changes
        for name, value in _attributes(holder):
            new = self._purged(value, depth)
            if new is not value:
                setattr(holder, name, new)
        if self._changes == before:
            return
        if isinstance(holder, BalancedExemplarsBuffer):
            _drop_empty_groups(holder)
        elif isinstance(holder, AGEMPlugin):
            _restart_reference_batches(holder)
        elif isinstance(holder, RARPlugin):
            vars(holder).pop("iter_replay", None)  # a walk begun over the old buffer; it begins another where none is

    def _purged(self, value: Any, depth: int) -> Any:
        """The value without forgotten samples; the same object where it holds none."""
        if isinstance(value, AvalancheDataset):
            kept = self._without(value, counted=True)
            self._changes += kept is not value
            return kept
        if isinstance(value, GeneratorType | DataLoader):
            return self._loader(value)
        if isinstance(value, BasePlugin | ExemplarsBuffer):
            self.enter(value, depth - 1)
        elif isinstance(value, list | tuple | deque | dict) and depth > 0 and id(value) not in self._entered:
            self._entered.add(id(value))
            return self._container(value, depth - 1)
        return value

    def _container(self, value: Any, depth: int) -> Any:
        if isinstance(value, tuple):
            items = [self._purged(item, depth) for item in value]
            if all(new is old for new, old in zip(items, value, strict=True)):
                return value
            return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
        for key, item in list(value.items() if isinstance(value, dict) else enumerate(value)):
            new = self._purged(item, depth)
            if new is not item:
                value[key] = new
        return value

    def _without(self, dataset: Any, *, counted: bool) -> Any:
        if id(dataset) not in self._replaced:
            kept = _kept(dataset, self._forgotten)
            # The original is kept beside it: its identity must not pass to a new object meanwhile.
            self._replaced[id(dataset)] = (dataset, dataset if len(kept) == len(dataset) else dataset.subset(kept))
            if counted:
                self.removed += len(dataset) - len(kept)
        return self._replaced[id(dataset)][1]

    def _loader(self, value: Any) -> Any:
        """A loader, or an endless walk over one, that reads what is left; None where that is nothing."""
        loader = _loader_of(value)
        if loader is None:
            return value
        dataset = self._without(loader.dataset, counted=False)
        if dataset is loader.dataset:
            return value
        if len(dataset) < (loader.batch_size or 1 if loader.drop_last else 1):
            return None
        rebuilt = DataLoader(
            dataset,
            batch_size=loader.batch_size,
            shuffle=isinstance(loader.sampler, RandomSampler),
            num_workers=loader.num_workers,
            collate_fn=loader.collate_fn,
            drop_last=loader.drop_last,
        )
        return rebuilt if loader is value else cycle(rebuilt)

    def _purge_reservoir(self, buffer: Any) -> None:
        kept = _kept(buffer.buffer, self._forgotten)
        if len(kept) < len(buffer.buffer):
            buffer._buffer_weights = buffer._buffer_weights[kept]  # sorted as before


def _kept(dataset: Any, forgotten: frozenset[str]) -> list[int]:
    if len(dataset) == 0:
        return []
    return [position for position, name in enumerate(sample_ids(dataset)) if name not in forgotten]


def _attributes(holder: Any) -> list[tuple[str, Any]]:
    """Attributes of a holder that may keep samples: not evaluation, and not this library's own plug-ins."""
    ours = isinstance(holder, BasePlugin) and type(holder).__module__.startswith("fed_unlearn.")
    if ours or isinstance(holder, EvaluationPlugin):
        return []
    return [(name, value) for name, value in vars(holder).items() if name not in _OF_THE_MOMENT]


def _values(holder: Any) -> list[Any]:
    """Everything that is held below a strategy, each object once."""
    known: dict[int, Any] = {}

    def walk(value: Any, depth: int) -> Iterator[Any]:
        if id(value) in known or depth == 0:
            return
        known[id(value)] = value
        yield value
        if isinstance(value, dict):
            items = list(value.values())
        elif isinstance(value, list | tuple | deque):
            items = list(value)
        elif isinstance(value, BasePlugin | ExemplarsBuffer) or value is holder:
            items = [item for _, item in _attributes(value)]
        else:
            return
        for item in items:
            yield from walk(item, depth - 1)

    return list(walk(holder, _DEPTH + 1))


def _loader_of(value: Any) -> Any:
    """The loader over a data set of Avalanche's that a value is, or walks over; None where there is none."""
    if isinstance(value, GeneratorType):
        value = inspect.getgeneratorlocals(value).get("loader")
    if isinstance(value, DataLoader) and isinstance(value.dataset, AvalancheDataset):
        return value
    return None


def _drop_empty_groups(buffer: Any) -> None:
    """Leave out groups without samples where the kind of buffer is known to get on without them.

    Selection by features cannot sort an empty group, and an empty group would hold its share of the memory.
    """
    left = {key: group for key, group in buffer.buffer_groups.items() if len(group.buffer) > 0}
    if len(left) == len(buffer.buffer_groups):
        return
    if isinstance(buffer, ExperienceBalancedBuffer):
        buffer._num_exps = len(left)  # keys are 0 to this, and the next experience takes it as its key
        left = dict(enumerate(left.values()))
    elif isinstance(buffer, ClassBalancedBuffer):
        buffer.seen_classes.intersection_update(left)
    elif isinstance(buffer, ParametricBuffer):
        buffer.seen_groups.intersection_update(left)
    else:
        return
    buffer.buffer_groups = left


def _restart_reference_batches(plugin: Any) -> None:
    """Make AGEM's batches from what is left: its loader cannot draw from an empty experience."""
    plugin.buffers[:] = [dataset for dataset in plugin.buffers if len(dataset) > 0]
    loader, plugin.buffer_dataloader, plugin.buffer_dliter = plugin.buffer_dataloader, None, iter(())
    if plugin.buffers and loader is not None:
        plugin.buffer_dataloader = GroupBalancedInfiniteDataLoader(
            plugin.buffers, batch_size=plugin.sample_size // len(plugin.buffers), **loader.loader_kwargs
        )
        plugin.buffer_dliter = iter(plugin.buffer_dataloader)
