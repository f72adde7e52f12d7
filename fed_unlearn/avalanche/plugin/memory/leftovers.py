"""Finds memory of forgotten samples that a strategy or a plug-in keeps by itself, and that nobody told of.

Three things are looked for in the attributes of the strategy, of its plug-ins and of what these hold:

- tensors and arrays that are the input of a forgotten sample, alone or among other inputs: by digest.
- ids of forgotten samples: in a list, tuple, set, deque or tensor, or as keys of a dict, whose name has the word ``id``
  or ``ids``, and of which every item is the id of a training sample. Whole numbers count as ids only if the name has
  the word ``sample`` or ``samples``, too: many things are numbered.
- if training inputs are augmented at random, tensors in the shape of training inputs. A digest does not tell whose they
  are. Labels that are kept beside them may tell: none of a forgotten class means that nothing is left; one means that
  something may be left, and counts as found. Without labels, or where single samples are forgotten, it is uncertain.

Data sets with sample ids are purged elsewhere, and are not looked at. Nor are the benchmark, the evaluation, the
current batch, parameters and the state of optimizers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from avalanche.benchmarks.utils import AvalancheDataset
from torch import Tensor, nn

from fed_unlearn.avalanche.plugin.memory.held_values import Held, Walk
from fed_unlearn.avalanche.plugin.memory.input_digests import InputDigests
from fed_unlearn.avalanche.streams.samples import bases_of, has_sample_ids, labels_of, sample_ids

BYTES = 2**31
"""Number of bytes of tensors and arrays that are compared with forgotten inputs in one search."""

_ID_WORDS, _SAMPLE_WORDS = {"id", "ids"}, {"sample", "samples"}


@dataclass
class Leftover:
    """What an attribute holds of forgotten samples.

    Attributes
    ----------
    attribute : str
        The attribute, such as ``strategy.mem``.
    path : str
        The first place in it, such as ``strategy.mem[3][0]``.
    kind : str
        "inputs", "ids", "augmented" (inputs augmented at random, labelled as a forgotten class) or "uncertain" (inputs
        augmented at random that may be of forgotten samples).
    count : int
        Number of forgotten samples; of augmented inputs, their number.
    """

    attribute: str
    path: str
    kind: str
    count: int = 0
    _ids: set[str] = field(default_factory=set, repr=False)

    @property
    def is_certain(self) -> bool:
        """Whether this is enough to refuse a request."""
        return self.kind != "uncertain"

    def __str__(self) -> str:
        what = {
            "inputs": f"holds the inputs of {_many(self.count, 'forgotten sample')}",
            "ids": f"holds the ids of {_many(self.count, 'forgotten sample')}",
            "augmented": f"may hold {_many(self.count, 'input')} of forgotten samples, by the labels beside them",
            "uncertain": f"may hold inputs of forgotten samples among {_many(self.count, 'input')}, which were"
            " augmented at random",
        }[self.kind]
        first = "" if self.path == self.attribute else f" (the first at {self.path})"
        return f"{self.attribute} {what}{first}"


@dataclass(frozen=True)
class Search:
    """The result of a search.

    Attributes
    ----------
    found : tuple of Leftover
        One entry for each attribute and kind.
    complete : bool
        Whether all that is held was searched. If not, a bound on depth, objects or bytes was reached.
    """

    found: tuple[Leftover, ...]
    complete: bool


def find_leftovers(
    strategy: Any,
    forgotten: Collection[str],
    datasets: Sequence[AvalancheDataset],
    *,
    classes: Collection[int] = (),
    digests: InputDigests | None = None,
    without: Collection[Any] = (),
) -> Search:
    """Search a strategy and its plug-ins for inputs and ids of forgotten samples.

    Forgotten samples are read only if something is held that could be inputs. Nothing is changed, and global generators
    are left as they were.

    Parameters
    ----------
    strategy : SupervisedTemplate
        The strategy.
    forgotten : collection of str
        Ids of forgotten samples.
    datasets : sequence of AvalancheDataset
        The data sets of the training experiences and requests so far, with sample ids.
    classes : collection of int
        Classes that were forgotten as a whole.
    digests : InputDigests, optional
        What is known of forgotten inputs from earlier searches. What is read is added.
    without : collection of objects
        Objects that are not searched.
    """
    given = [dataset for dataset in datasets if isinstance(dataset, AvalancheDataset) and len(dataset)]
    named = [dataset for dataset in given if has_sample_ids(dataset)]
    bases = [base for dataset in named for base in bases_of(dataset)]
    walk = Walk(strategy, [*without, *bases])
    held = list(walk)
    search = _Searching(frozenset(forgotten), named, frozenset(classes), digests or InputDigests())
    for item in held:
        if isinstance(item.value, Tensor | np.ndarray):
            search.look_at_inputs(item)
        search.look_at_ids(item)
    return Search(tuple(search.found.values()), walk.complete and search.bytes_left >= 0)


class _Searching:
    def __init__(
        self,
        forgotten: frozenset[str],
        datasets: Sequence[AvalancheDataset],
        classes: frozenset[int],
        digests: InputDigests,
    ) -> None:
        self.found: dict[tuple[str, str], Leftover] = {}
        self.bytes_left = BYTES
        self._forgotten, self._datasets, self._classes, self._digests = forgotten, datasets, classes, digests
        self._known: frozenset[str] | None = None
        self._learned = False

    def look_at_inputs(self, held: Held) -> None:
        values = _as_tensor(held.value)
        if values is None or values.numel() < 8 or not self.bytes_left >= 0:
            return
        self._digests.learn(self._datasets, self._forgotten, few=True)
        if not self._digests.fits(values):
            return
        if not self._learned:
            self._digests.learn(self._datasets, self._forgotten)
            self._learned = True
        self.bytes_left -= values.numel() * values.element_size()
        if self.bytes_left < 0:
            return
        ids = {name for name in self._digests.found_in(values) or () if name in self._forgotten}
        if ids:
            self._note(held, "inputs", ids)
        elif any(isinstance(around, nn.Module) for around, _ in held.above):
            return  # buffers and parameters in the shape of inputs
        elif self._digests.random and (count := self._digests.count(values)) is not None:
            self._judge_by_labels(held, count)

    def look_at_ids(self, held: Held) -> None:
        words = set(re.findall("[a-z]+", _name_of(held).lower()))
        if not words & _ID_WORDS or words & {"task", "class", "client", "experience", "exp"}:
            return
        items = _id_items(held.value)
        if not items or not (all(isinstance(item, str) for item in items) or words & _SAMPLE_WORDS):
            return
        ids = {str(item) for item in items}
        if ids & self._forgotten and ids <= self._all_ids():
            self._note(held, "ids", ids & self._forgotten)

    def _judge_by_labels(self, held: Held, count: int) -> None:
        labels = _labels_beside(held, count)
        if labels is not None and (hits := sum(label in self._classes for label in labels)):
            self._note(held, "augmented", count=hits)
        elif labels is None or set(labels) & self._labels_of_samples():
            self._note(held, "uncertain", count=count)

    def _note(self, held: Held, kind: str, ids: Collection[str] = (), count: int = 0) -> None:
        entry = self.found.setdefault((held.attribute, kind), Leftover(held.attribute, held.path, kind))
        entry._ids.update(ids)
        entry.count = max(len(entry._ids), entry.count + count)

    def _all_ids(self) -> frozenset[str]:
        if self._known is None:
            self._known = self._forgotten.union(*(sample_ids(dataset) for dataset in self._datasets))
        return self._known

    def _labels_of_samples(self) -> set[int]:
        """Return the labels of forgotten samples whose class is not forgotten as a whole."""
        return {
            label
            for dataset in self._datasets
            for name, label in zip(sample_ids(dataset), labels_of(dataset), strict=True)
            if name in self._forgotten and label not in self._classes
        }


def _as_tensor(value: Any) -> Tensor | None:
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(value)) if value.dtype.kind in "fiu" and _is_known(value) else None
    return None if value.layout != torch.strided or value.is_quantized or value.is_meta else value


def _is_known(value: np.ndarray[Any, Any]) -> bool:
    return value.dtype.name in ("float16", "float32", "float64", "uint8", "int8", "int16", "int32", "int64")


def _name_of(held: Held) -> str:
    """Return the name of the innermost attribute, or key that is text, that leads to a value."""
    return next((str(key) for _, key in held.above if isinstance(key, str)), "")


def _id_items(value: Any) -> list[Any]:
    if isinstance(value, Tensor | np.ndarray):
        whole = value.ndim == 1 and str(value.dtype).removeprefix("torch.").startswith(("int", "uint"))
        return value.tolist() if whole else []
    items = list(value)
    plain = all(isinstance(item, str) for item in items) or all(type(item) is int for item in items)
    return items if plain else []


def _labels_beside(held: Held, count: int) -> list[int] | None:
    """Return the labels that are kept beside inputs; None if there are none that can be told.

    They are beside the inputs in the same holder, or in the same place of another container that was filled together
    with the one of the inputs, as in the lists ``x`` and ``y``.
    """
    (holder, key), *outer = held.above
    reach: list[tuple[Any, Any, Callable[[Any], Any]]] = [(holder, key, lambda value: value)]
    if outer:
        reach.append((*outer[0], lambda value: _at(value, key, holder)))
    for inside, own, pick in reach:
        others = [(name, value) for name, value in _entries(inside) if name != own]
        others.sort(key=lambda entry: not _sounds_like_labels(entry[0]))
        for name, value in others:
            if not isinstance(inside, Sequence) and not _sounds_like_labels(name):
                break  # attributes and keys are told by their names, items of a sequence by what they are
            labels = _as_labels(pick(value), count)
            if labels is not None:
                return labels
    return None


def _entries(holder: Any) -> list[tuple[Any, Any]]:
    if isinstance(holder, Mapping):
        return list(holder.items())
    if isinstance(holder, Sequence):
        return list(enumerate(holder))
    return list(getattr(holder, "__dict__", {}).items())


def _sounds_like_labels(name: Any) -> bool:
    return bool({"y", "ys", "label", "labels", "target", "targets"} & set(re.findall("[a-z]+", str(name).lower())))


def _at(value: Any, key: Any, beside: Any) -> Any:
    """Return the entry of a container in the place of the inputs, if it is as long as theirs."""
    if isinstance(value, Sequence | Mapping) and isinstance(beside, Sequence | Mapping) and len(value) == len(beside):
        try:
            return value[key]
        except (KeyError, IndexError, TypeError):
            return None
    return value[key : key + 1] if isinstance(value, Tensor) and len(value) == len(beside) else None


def _as_labels(value: Any, count: int) -> list[int] | None:
    if isinstance(value, np.ndarray) and _is_known(value):
        value = torch.from_numpy(np.ascontiguousarray(value))
    if isinstance(value, Tensor):
        whole = not value.is_floating_point() and not value.is_complex() and value.dtype != torch.bool
        return value.flatten().tolist() if whole and value.numel() == count and value.ndim <= 1 else None
    if isinstance(value, list | tuple) and len(value) == count and all(type(item) is int for item in value):
        return list(value)
    return [value] if type(value) is int and count == 1 else None


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
