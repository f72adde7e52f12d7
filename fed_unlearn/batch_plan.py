"""Samples cut into batches, of which none is left with a single sample."""

from __future__ import annotations

from torch import Tensor


def split_into_batches(order: Tensor, batch_size: int) -> list[Tensor]:
    """Cut positions into batches. A last batch of one sample is joined to the one before.

    A layer that normalises over the batch cannot train on one sample, and a gradient of one sample is mostly noise.

    Parameters
    ----------
    order : Tensor of shape (n,)
        Positions of the samples, in the order in which they are read.
    batch_size : int
        Samples of a batch. If it is 1, every batch has one sample.

    Returns
    -------
    list of Tensor
        The last batch has up to ``batch_size + 1`` samples. It has one sample only if there is no other.
    """
    batches = list(order.split(batch_size))
    if batch_size > 1 and len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [order[-batch_size - 1 :]]
    return batches


def batch_count(samples: int, batch_size: int) -> int:
    """Number of batches that :func:`split_into_batches` gives."""
    whole, left = divmod(samples, batch_size)
    return whole + (left > 1 or (left == 1 and whole == 0))
