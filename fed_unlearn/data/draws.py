"""The samples that a request for a number of samples means. They are drawn from labels alone."""

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
        Labels of the client's samples that have arrived and are not forgotten, in the client's own order.
    count : int
        Number of samples to draw, at least 1.
    request_id, client : str
        The request and the client. Each pair gives a different draw.
    seed : int
        Seed of the draw.
    of_class : int, optional
        The class to draw from. If none is given, any class.

    Returns
    -------
    Tensor of shape (count,), int64
        Positions in ascending order.

    Raises
    ------
    InvalidRequestError
        If there are too few samples, or no sample would be left to train on.
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
