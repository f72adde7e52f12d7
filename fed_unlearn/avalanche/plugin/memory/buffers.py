"""Finds the samples that a strategy keeps of earlier experiences, and removes forgotten ones."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from types import GeneratorType
from typing import Any

from avalanche.benchmarks import CLExperience
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.core import BasePlugin
from avalanche.training.plugins import AGEMPlugin, EvaluationPlugin, RARPlugin
from avalanche.training.storage_policy import (
    BalancedExemplarsBuffer,
    ExemplarsBuffer,
    ReservoirSamplingBuffer,
)
from avalanche.training.supervised import ER_AML
from avalanche.training.supervised.joint_training import JointTraining
from avalanche.training.utils import cycle
from torch.utils.data import DataLoader, RandomSampler

from fed_unlearn.avalanche.plugin.memory.emptied_buffers import (
    drop_empty_groups,
    mend_pair_loaders,
    restart_reference_batches,
)
from fed_unlearn.avalanche.plugin.memory.held_names import HeldNames
from fed_unlearn.avalanche.streams.naming import experience_with
from fed_unlearn.avalanche.streams.samples import has_sample_ids, with_sample_ids
from fed_unlearn.errors import InvalidDataError

_DEPTH = 8
"""Number of nested containers and objects in which samples are looked for."""

_TRANSIENT = {"experience", "adapted_dataset", "dataloader", "mbatch", "current_eval_stream", "_eval_streams"}
"""Attributes that a strategy sets anew for each experience that it trains or evaluates on."""

_REPLAYED = {"mb_buffer_x", "mb_buffer_y", "mb_buffer_tid", "mb_buffer_out", "batch_logits"}
"""Attributes in which DER, ER-ACE and ER-AML leave the last batch that they replayed."""


def buffered(strategy: Any) -> list[AvalancheDataset]:
    """Return the data sets that a strategy and its plug-ins keep of earlier experiences.

    Parameters
    ----------
    strategy : SupervisedTemplate
        The strategy. It is not changed.

    Returns
    -------
    list of AvalancheDataset
        Each data set once, without empty ones. A sample can be in several of them. Each group of a balanced buffer is a
        data set of its own. Data sets of the current experience, the benchmark and the evaluation are not included.

    Examples
    --------
    >>> [len(dataset) for dataset in buffered(strategy)]  # doctest: +SKIP
    [67, 67, 66]
    """
    return [value for value in _values(strategy) if isinstance(value, AvalancheDataset) and len(value) > 0]


def purge_buffers(strategy: Any, forgotten: Collection[str], known: Iterable[AvalancheDataset] = ()) -> int:
    """Remove forgotten samples from everything that a strategy and its plug-ins keep.

    This covers storage policies and the buffers within them, AGEM's buffers, the data of cumulative and joint training,
    and every other data set or experience in an attribute, list, tuple or dict of the strategy, a plug-in or a buffer.
    Loaders over buffers are rebuilt over the samples that are left. A group of a balanced buffer that becomes empty is
    dropped, and the other groups get its share of the buffer's size. A reservoir keeps the weights that its samples
    drew; samples that it rejected in favour of a forgotten one do not come back.

    Parameters
    ----------
    strategy : SupervisedTemplate
        Objects that hold no forgotten sample stay the same objects.
    forgotten : collection of str
        Sample ids. Ids that nothing holds are ignored.
    known : iterable of AvalancheDataset, optional
        Data sets with sample ids. They give ids to samples that were stored without: ER-ACE and ER-AML store an
        experience before any plug-in meets it.

    Returns
    -------
    int
        Number of removed samples. A sample counts once for each place that held it.

    Raises
    ------
    InvalidDataError
        If a data set is held whose samples have no ids and are not in ``known``. Nothing is changed then.
    """
    ids, names = frozenset(forgotten), HeldNames(known)
    for dataset in buffered(strategy):
        try:
            names.of(dataset)
        except InvalidDataError as error:
            raise InvalidDataError(f"{type(strategy).__name__}: {error}") from error
    if not ids:
        return 0
    for name in _REPLAYED & vars(strategy).keys():
        setattr(strategy, name, None)
    purge = _Purge(ids, names)
    purge.enter(strategy, _DEPTH)
    return purge.removed


def drop_batches(strategy: Any) -> None:
    """Drop the data set, loader and batch of the experience before, since their samples may be forgotten now."""
    strategy.adapted_dataset, strategy.dataloader, strategy.mbatch, strategy.mb_output = None, [], None, None
    if isinstance(strategy, JointTraining):
        strategy._train_cleanup()  # it does not do this itself


class _Purge:
    """One pass over everything that is held. A data set that is held in several places stays one object."""

    def __init__(self, forgotten: frozenset[str], names: HeldNames) -> None:
        self.removed = 0
        self._names = names
        self._changes = 0
        self._forgotten = forgotten
        self._replaced: dict[int, tuple[Any, Any]] = {}
        self._entered: set[int] = set()

    def enter(self, holder: Any, depth: int) -> None:
        """Purge the attributes of a strategy, a plug-in or a buffer in place."""
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
        if isinstance(holder, ER_AML):
            mend_pair_loaders(holder)
        if self._changes == before:
            return
        if isinstance(holder, BalancedExemplarsBuffer):
            drop_empty_groups(holder)
        elif isinstance(holder, AGEMPlugin):
            restart_reference_batches(holder)
        elif isinstance(holder, RARPlugin):
            vars(holder).pop("iter_replay", None)  # it iterates over the old buffer; RAR makes a new one if none is set

    def _purged(self, value: Any, depth: int) -> Any:
        """Return the value without forgotten samples. It is the same object if it holds none."""
        if isinstance(value, AvalancheDataset):
            kept = self._without(value, counted=True)
            self._changes += kept is not value
            return kept
        if _has_named_samples(value):
            return self._experience(value)
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

    def _experience(self, experience: Any) -> Any:
        kept = self._without(experience.dataset, counted=True)
        self._changes += kept is not experience.dataset
        return experience if kept is experience.dataset else experience_with(experience, kept)

    def _without(self, dataset: Any, *, counted: bool) -> Any:
        if id(dataset) not in self._replaced:
            kept = self._kept(dataset)
            named = dataset
            if len(dataset) and not has_sample_ids(dataset):
                named = with_sample_ids(dataset, self._names.of(dataset), unique=False)
            # Keep the original alive: a new object must not get its id during this pass.
            self._replaced[id(dataset)] = (dataset, named if len(kept) == len(dataset) else named.subset(kept))
            if counted:
                self.removed += len(dataset) - len(kept)
        return self._replaced[id(dataset)][1]

    def _loader(self, value: Any) -> Any:
        """Return a loader, or an endless iterator over one, of the samples that are left; None if none are left."""
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
        kept = self._kept(buffer.buffer)
        if len(kept) < len(buffer.buffer):
            buffer._buffer_weights = buffer._buffer_weights[kept]  # the order stays

    def _kept(self, dataset: Any) -> list[int]:
        return [position for position, name in enumerate(self._names.of(dataset)) if name not in self._forgotten]


def _attributes(holder: Any) -> list[tuple[str, Any]]:
    """Return the attributes that may keep samples. Evaluation and this library's own plug-ins have none."""
    ours = isinstance(holder, BasePlugin) and type(holder).__module__.startswith("fed_unlearn.")
    if ours or isinstance(holder, EvaluationPlugin):
        return []
    return [(name, value) for name, value in vars(holder).items() if name not in _TRANSIENT]


def _values(holder: Any) -> list[Any]:
    """Return everything that is held below a strategy, each object once."""
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
        elif _has_named_samples(value):
            items = [value.dataset]
        else:
            return
        for item in items:
            yield from walk(item, depth - 1)

    return list(walk(holder, _DEPTH + 1))


def _has_named_samples(value: Any) -> bool:
    """Return whether a value is an experience whose samples have ids. Those of the test stream may have none."""
    dataset = getattr(value, "dataset", None) if isinstance(value, CLExperience) else None
    return isinstance(dataset, AvalancheDataset) and has_sample_ids(dataset)


def _loader_of(value: Any) -> Any:
    """Return the loader over an AvalancheDataset that a value is or iterates over; None if there is none."""
    if isinstance(value, GeneratorType):
        value = inspect.getgeneratorlocals(value).get("loader")
    if isinstance(value, DataLoader) and isinstance(value.dataset, AvalancheDataset):
        return value
    return None
