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
        self._count = count
        self._asked: dict[str, Tensor] = {}
        self._committed: set[str] = set()

    @property
    def claimed(self) -> Tensor:
        """Mask of the samples of all requests."""
        return self._union(self._asked)

    @property
    def forgotten(self) -> Tensor:
        """Mask of the samples of committed requests."""
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

    def forked(self) -> Claims:
        """Return claims that begin with these and do not share later ones."""
        fork = Claims(self._count)
        fork._asked, fork._committed = dict(self._asked), set(self._committed)
        return fork

    def take_over(self, request_id: str, other: Claims, *, committed: bool | None = None) -> None:
        """Note a request with the samples that it has in other claims over the same samples.

        Parameters
        ----------
        request_id : str
            Id of the request. One that the other claims do not know is left out.
        other : Claims
            The other claims. They are not changed.
        committed : bool, optional
            Whether the request counts as committed. Default: as in the other claims.
        """
        if request_id in other._asked:
            self.add(request_id, other._asked[request_id])
            if request_id in other._committed if committed is None else committed:
                self.commit(request_id)

    def extend(self, count: int) -> None:
        """Make room for samples that nobody has claimed."""
        none = torch.zeros(count, dtype=torch.bool)
        self._count += count
        self._asked = {name: torch.cat([mask, none]) for name, mask in self._asked.items()}

    def _union(self, request_ids: Collection[str]) -> Tensor:
        mask = torch.zeros(self._count, dtype=torch.bool)
        for request_id in request_ids:
            mask |= self._asked[request_id]
        return mask
