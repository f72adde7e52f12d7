"""Directions that class means have of their own, and layers that no longer read along them."""

from __future__ import annotations

import torch
from torch import Tensor

from fed_unlearn.methods.parts.layer_inputs import Layer

SMALLEST_SHARE = 1e-4  # of a mean's length: shorter residuals are rounding


def own_directions(means: Tensor, staying: Tensor) -> Tensor:
    """An orthonormal basis of what means have outside the span of those that stay.

    Parameters
    ----------
    means, staying : Tensor of shape (f, features) and (r, features), float64

    Returns
    -------
    Tensor of shape (features, at most f), float64
        The basis, one vector a column. It has no column where all means lie in the span.
    """
    span = _basis(staying, float(torch.linalg.matrix_norm(staying, 2)))
    return _basis(means - means @ span @ span.T, float(torch.linalg.vector_norm(means, dim=1).max()))


def separation(forget: Tensor, kept: Tensor, means: Tensor, staying: Tensor) -> float:
    """How well the nearest mean tells forgotten samples from others: 0 at chance or below, 1 without a mistake.

    Parameters
    ----------
    forget, kept : Tensor of shape (n, features) and (m, features)
        Features of the forgotten samples and of the others.
    means, staying : Tensor of shape (f, features) and (r, features)
        Means of the forgotten classes and of the others.
    """
    right, wrong = (
        (torch.cdist(rows, torch.cat([means, staying])).argmin(dim=1) < len(means)).double().mean()
        for rows in (forget, kept)
    )
    return max(0.0, float(right - wrong))


@torch.no_grad()
def take_out(layer: Layer, directions: Tensor, share: float) -> None:
    """Give a layer the weight ``W (I - share Q Q^T)``, in place.

    Parameters
    ----------
    layer : nn.Linear or nn.Conv2d
        The layer. For a convolution, Q lies among the channels, at every place of the kernel.
    directions : Tensor of shape (features, k), float64
        Q, with orthonormal columns.
    share : float
        Share of the part along Q that is taken out, in [0, 1].
    """
    weight = layer.weight.cpu().double().reshape(*layer.weight.shape[:2], -1)
    changed = weight - share * torch.einsum("ij,ojp->oip", directions @ directions.T, weight)
    layer.weight.copy_(changed.reshape(layer.weight.shape))


def _basis(rows: Tensor, scale: float) -> Tensor:
    """An orthonormal basis of what rows span, as columns, but for what is short beside a scale."""
    found = torch.linalg.svd(rows.T, full_matrices=False)
    basis: Tensor = found.U[:, found.S.gt(SMALLEST_SHARE * scale)]
    return basis
