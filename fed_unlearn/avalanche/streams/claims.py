"""Which samples requests have claimed, and which of them are forgotten."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor


class Claims:
    """Keeps the samples that requests named, as masks over the samples of a stream.

    Parameters
    ----------
    count : int
        Number of samples.
    """

    def __init__(self, count: int) -> None:
        self._asked: dict[str, Tensor] = {}
        self._committed: set[str] = set()
        self._elsewhere = torch.zeros(count, dtype=torch.bool)

    @property
    def claimed(self) -> Tensor:
        """Mask of the samples of all requests, and of those that were forgotten elsewhere."""
        return self._union(self._asked)

    @property
    def forgotten(self) -> Tensor:
        """Mask of the samples of committed requests, and of those that were forgotten elsewhere."""
        return self._union(self._committed)

    def add(self, request_id: str, named: Tensor) -> None:
        """Note the samples of a request."""
        self._asked[request_id] = named

    def commit(self, request_id: str) -> None:
        """Note that a request was committed."""
        if request_id in self._asked:
            self._committed.add(request_id)

    def release(self, request_id: str) -> None:
        """Note that a request was taken back, or was not committed after all."""
        self._asked.pop(request_id, None)
        self._committed.discard(request_id)

    def note_elsewhere(self, samples: Tensor) -> None:
        """Note samples that were forgotten elsewhere."""
        self._elsewhere |= samples

    def extend(self, count: int) -> None:
        """Make room for samples that nobody has claimed."""
        none = torch.zeros(count, dtype=torch.bool)
        self._elsewhere = torch.cat([self._elsewhere, none])
        self._asked = {name: torch.cat([mask, none]) for name, mask in self._asked.items()}

    def _union(self, request_ids: Collection[str]) -> Tensor:
        mask = self._elsewhere.clone()
        for request_id in request_ids:
            mask |= self._asked[request_id]
        return mask
