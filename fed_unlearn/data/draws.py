"""Which samples a request for a number of them means: drawn from labels alone, alike wherever the samples lie."""

from __future__ import annotations

import torch
from torch import Tensor

from fed_unlearn.errors import InvalidRequestError
from fed_unlearn.seeding import seeded_generator


def drawn(
    labels: Tensor, count: int, *, request_id: str, client: str, seed: int, of_class: int | None = None
) -> Tensor:
    """Positions of the samples that a client draws for a request.

    Parameters
    ----------
    labels : Tensor of shape (n,), int64
        Of the client's samples that have arrived and are not forgotten, in the client's own order.
    count : int
        At least 1.
    request_id, client : str
        What the draw is for: another request, or another client, draws others.
    seed : int
    of_class : int, optional
        The class that is drawn from; any where none is given.

    Returns
    -------
    Tensor of shape (count,), int64
        Ascending.

    Raises
    ------
    InvalidRequestError
        If there are too few samples, or none would be left to train on.
    """
    if of_class is not None and count < len(labels):
        available = (labels == of_class).nonzero().flatten()
        enough = count <= len(available)
    else:
        available = torch.arange(len(labels))
        enough = count < len(labels)
    if not enough:
        raise InvalidRequestError(
            f"request {request_id} asks for {count} samples; {len(available)} such samples are left here to train on:"
            " ask for fewer, or for the whole client"
        )
    generator = seeded_generator(seed, "draw", request_id, client)
    return available[torch.randperm(len(available), generator=generator)[:count].sort().values]
