"""Where the input and the label of each sample lie in the batches of an app's own DataLoader."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fed_unlearn.errors import InvalidDataError
from fed_unlearn.text import quoted

Key = int | str


@dataclass(frozen=True)
class BatchKeys:
    """Where a batch keeps its inputs and its labels.

    Attributes
    ----------
    input, label : int or str
        Position in a batch that is a tuple or list, key in one that is a mapping.
    """

    input: Key
    label: Key

    @classmethod
    def of(cls, batch: Any, *, input_key: Key | None = None, label_key: Key | None = None) -> BatchKeys:
        """Find inputs and labels in a batch, but for what is named.

        Parameters
        ----------
        batch : tuple, list or mapping
            A batch as the loader gives it. A pair is one of inputs and labels. In a mapping the labels are its one
            column of whole numbers, and the inputs its one other column of tensors.
        input_key, label_key : int or str, optional
            What is known already.

        Raises
        ------
        InvalidDataError
            If there is no such column, or more than one.
        """
        columns = _columns(batch)
        if input_key is None and label_key is None and not isinstance(batch, Mapping) and len(columns) == 2:
            input_key, label_key = 0, 1
        if label_key is None:
            label_key = _only(
                [key for key, column in columns.items() if key != input_key and _holds_labels(column)],
                "labels",
                "label_key",
                columns,
            )
        if input_key is None:
            input_key = _only(
                [key for key, column in columns.items() if key != label_key and _holds_inputs(column)],
                "inputs",
                "input_key",
                columns,
            )
        keys = cls(input_key, label_key)
        keys.split(batch)
        return keys

    def split(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Inputs and labels (int64) of a batch.

        Raises
        ------
        InvalidDataError
            If they are not there, or are no tensors of one length with one whole number as label of each sample.
        """
        columns = _columns(batch)
        missing = [key for key in (self.input, self.label) if key not in columns]
        if missing:
            raise InvalidDataError(f"the loader's batches have no {_named(missing)}; they have {_named(columns)}")
        inputs, labels = torch.as_tensor(columns[self.input]), torch.as_tensor(columns[self.label])
        if not _holds_labels(labels) or len(labels) != len(inputs):
            raise InvalidDataError(
                f"the loader's batches have labels of shape {tuple(labels.shape)} and {labels.dtype} under"
                f" {_named([self.label])} for inputs of shape {tuple(inputs.shape)}; expected one whole number for each"
            )
        return inputs, labels.to(torch.int64)

    def others_in(self, batch: Any) -> frozenset[str]:
        """Names of what a batch that is a mapping has besides."""
        others = _columns(batch).keys() - {self.input, self.label}
        return frozenset(key for key in others if isinstance(key, str))

    def with_labels(self, batch: Any, labels: Tensor) -> Any:
        """The batch under other labels, of the type that it has."""
        old = _columns(batch)[self.label]
        new = labels.to(old.dtype) if isinstance(old, Tensor) else labels.tolist()
        if isinstance(batch, Mapping):
            changed = {**batch, self.label: new}
            kind: Callable[[Any], Any] = type(batch)
            return kind(changed)
        items = [new if position == self.label else item for position, item in enumerate(batch)]
        return type(batch)(*items) if hasattr(batch, "_fields") else type(batch)(items)


def _columns(batch: Any) -> dict[Key, Any]:
    if isinstance(batch, Mapping):
        return dict(batch)
    if isinstance(batch, Sequence) and not isinstance(batch, str):
        return dict(enumerate(batch))
    raise InvalidDataError(
        f"the loader gave batches of type {type(batch).__name__}; expected tuples or mappings of inputs and labels"
    )


def _holds_labels(column: Any) -> bool:
    if isinstance(column, Tensor):
        whole = not (column.is_floating_point() or column.is_complex() or column.dtype == torch.bool)
        return column.ndim == 1 and whole
    return isinstance(column, list) and all(isinstance(item, int) and not isinstance(item, bool) for item in column)


def _holds_inputs(column: Any) -> bool:
    return isinstance(column, Tensor) and column.ndim > 1


def _only(found: Sequence[Key], what: str, option: str, columns: Mapping[Key, Any]) -> Key:
    if len(found) == 1:
        return found[0]
    several = f"{_named(found)} may be the {what}" if found else f"none of {_named(columns)} can be the {what}"
    raise InvalidDataError(
        f"the loader's batches: {several}; say which, as in {option}={next(iter(found or columns))!r}"
    )


def _named(keys: Sequence[Key] | Mapping[Key, Any]) -> str:
    return ", ".join(quoted(key) if isinstance(key, str) else f"position {key}" for key in keys)
