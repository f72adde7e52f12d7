"""Inputs that carry the task of their sample as one more channel of a constant value."""

from __future__ import annotations

import torch
from torch import Tensor

from fed_unlearn.data.domain import InputDomain


def with_places(inputs: Tensor, places: Tensor, count: int) -> Tensor:
    """Return inputs with one more channel that holds the place of each sample's task.

    Parameters
    ----------
    inputs : Tensor of shape (n, channels, ...)
        Floats, or whole numbers for tokens.
    places : Tensor of shape (n,), int64
        Place of each sample's task among all tasks, in 0 to ``count`` - 1.
    count : int
        Number of tasks, at least 1. Places of floats are scaled to [0, 1], so that they are valid pixels.

    Returns
    -------
    Tensor of shape (n, channels + 1, ...)
    """
    values = places.to(inputs.device)
    if inputs.is_floating_point():
        values = values.to(inputs.dtype) / max(1, count - 1)
    channel = values.view(-1, 1, *[1] * (inputs.ndim - 2)).expand(-1, 1, *inputs.shape[2:])
    return torch.cat([inputs, channel.to(inputs.dtype)], dim=1)


def places_of(inputs: Tensor, count: int) -> Tensor:
    """Return the places that :func:`with_places` put into inputs. Noise and attacks on the inputs do not change them.

    Parameters
    ----------
    inputs : Tensor of shape (n, channels + 1, ...)
        The inputs.
    count : int
        Number of tasks.

    Returns
    -------
    Tensor of shape (n,), int64
        Places in 0 to ``count`` - 1: the median of the channel, rounded.
    """
    channel = inputs[:, -1].detach().flatten(1) if inputs.ndim > 2 else inputs[:, -1:].detach()
    if not inputs.is_floating_point():
        return channel.median(dim=1).values.clamp(0, count - 1)
    values = channel.float().median(dim=1).values.nan_to_num()
    return (values * max(1, count - 1)).round().clamp(0, count - 1).to(torch.int64)


def domain_with_places(domain: InputDomain, channels: int) -> InputDomain:
    """Return the domain of inputs with one more channel, which is not normalised.

    Parameters
    ----------
    domain : InputDomain
        The domain of the inputs without the channel.
    channels : int
        Number of channels of these inputs.
    """
    if not domain.is_normalized:
        return domain
    means, stds = (numbers * channels if len(numbers) == 1 else numbers for numbers in (domain.mean, domain.std))
    return InputDomain.normalized((*means, 0.0), (*stds, 1.0))
