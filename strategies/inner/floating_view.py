"""Models without their integer buffers, for strategies that scale every array in place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from flwr.app import ArrayRecord
from flwr.supercore.differential_privacy import get_norm
from numpy.typing import NDArray

from fed_unlearn.arrays import Arrays, decode, pack
from fed_unlearn.errors import InvalidModelError

_SMALL_STEP = 1e-6


class FloatingView:
    """The floating-point arrays of a model, in its order, each with one dimension at least.

    Flower's privacy wrappers and q-FedAvg multiply in place: an integer array raises an error there, and an array
    without dimensions stays as it is, unclipped.

    Parameters
    ----------
    base : dict of ndarray
        The model that the clients were sent.
    """

    def __init__(self, base: Arrays) -> None:
        self._base = base
        self._floating = {
            name: np.atleast_1d(value) for name, value in base.items() if np.issubdtype(value.dtype, np.floating)
        }

    def base_record(self) -> ArrayRecord:
        """What is seen of the base, as a record of its own."""
        return pack(self._floating)

    def of(self, record: ArrayRecord) -> ArrayRecord:
        """What is seen of another model with the same names and shapes."""
        seen = ArrayRecord()
        for name in self._floating:
            is_scalar = self._base[name].ndim == 0
            seen[name] = pack({name: np.atleast_1d(decode(record[name]))})[name] if is_scalar else record[name]
        return seen

    def of_changed(self, record: ArrayRecord) -> ArrayRecord:
        """The same; where its change from the base has no norm above 0, with one number a millionth off.

        Flower divides by the norm, and a client that has nothing left to train on sends back what it was sent.
        """
        seen = self.of(record)
        held = [(name, value) for name, value in self._floating.items() if value.size]
        if not held or any(get_norm([np.subtract(decode(seen[name]), value)]) > 0 for name, value in held):
            return seen
        name, value = held[0]
        stepped = value.copy()
        first = stepped.reshape(-1)
        first[0] += max(float(np.spacing(np.abs(first[0]))), _SMALL_STEP)
        return pack({**self._floating, name: stepped})

    def completed(self, seen: Mapping[str, NDArray[Any]]) -> Arrays:
        """A whole model of what was made of the seen part: the base's shapes, and its integer arrays.

        Raises
        ------
        InvalidModelError
            If it has other arrays.
        """
        if set(seen) != set(self._floating):
            raise InvalidModelError(f"{len(seen)} arrays were given, expected {len(self._floating)} of the same names")
        return {
            name: seen[name].reshape(value.shape) if name in self._floating else value
            for name, value in self._base.items()
        }
