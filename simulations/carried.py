"""What a message's process has loaded, and a warm executor carries to the next process of the same run.

A process that no executor forked carries nothing, and loads as it always does. The executor never looks into a parcel:
what a run's processes packed is unpacked in processes of that run only.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Hashable
from typing import TypeVar, cast

Value = TypeVar("Value")


class Carrier:
    """Values by key, on their way from one process to the next.

    Attributes
    ----------
    is_active : bool
        Whether this process was forked by an executor that carries parcels.
    """

    def __init__(self) -> None:
        self.is_active = False
        self._values: dict[Hashable, object] = {}
        self._has_changed = False

    def receive(self, parcel: bytes) -> None:
        """Unpack the parcel of an earlier process of this run; empty bytes hold nothing."""
        self.is_active, self._has_changed = True, False
        self._values = pickle.loads(parcel) if parcel else {}

    def value(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value of a key, made by the first process that asks for it."""
        if not self.is_active:
            return make()
        if key not in self._values:
            self._values[key] = make()
            self._has_changed = True
        return cast(Value, self._values[key])

    def drop(self) -> None:
        """Carry nothing on: what was loaded may hold samples that are forgotten."""
        self._has_changed = self._has_changed or bool(self._values)
        self._values = {}

    def parcel(self) -> bytes | None:
        """What the next process is to receive; None where that has not changed, or cannot be packed."""
        if not self._has_changed:
            return None
        try:
            return pickle.dumps(self._values) if self._values else b""
        except (pickle.PicklingError, TypeError, AttributeError):  # the next process makes it again
            return None


carrier = Carrier()
"""The carrier of this process."""
