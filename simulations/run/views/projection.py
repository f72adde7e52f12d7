"""Features in two dimensions: the principal components of one model, applied to others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fed_unlearn.simulations.run.views.view_results import Point

DECIMALS = 4
"""Decimals of coordinates."""


@dataclass(frozen=True)
class Projection:
    """A plane in the space of features.

    Attributes
    ----------
    mean : ndarray of shape (features,), float64
    axes : ndarray of shape (2, features), float64
        The first two principal components, of length 1.
    explained : float
        Share of the variance of the fitted features that lies in the plane, in [0, 1].
    """

    mean: NDArray[np.float64]
    axes: NDArray[np.float64]
    explained: float

    @classmethod
    def fitted(cls, features: NDArray[np.float64]) -> Projection | None:
        """The plane of scikit-learn's PCA; None where the features are fewer than two, or all the same.

        Parameters
        ----------
        features : ndarray of shape (n, features), float64
        """
        if min(features.shape) < 2 or np.ptp(features, axis=0).max() == 0:
            return None
        from sklearn.decomposition import PCA
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1):  # several threads take longer for so few numbers, and round them differently
            plane = PCA(2, svd_solver="full").fit(features)
        explained = round(float(plane.explained_variance_ratio_.sum()), DECIMALS)
        return cls(plane.mean_, plane.components_, min(explained, 1.0))

    def points(self, features: NDArray[np.float64] | None) -> tuple[Point, ...] | None:
        """Coordinates of features, rounded; None where there are none, or they have another size."""
        if features is None or features.shape[1] != len(self.mean):
            return None
        flat = ((features - self.mean) @ self.axes.T).round(DECIMALS) + 0.0  # no negative zeros
        return tuple((float(x), float(y)) for x, y in flat)

    def to_json(self) -> dict[str, object]:
        """As JSON; :meth:`from_json` reads it back, bit for bit."""
        return {"mean": self.mean.tolist(), "axes": self.axes.tolist(), "explained": self.explained}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Projection:
        """Read what :meth:`to_json` wrote.

        Raises
        ------
        ValueError
            If the axes are not two of as many numbers as the mean has.
        """
        mean, axes = np.asarray(body["mean"], dtype=np.float64), np.asarray(body["axes"], dtype=np.float64)
        if mean.ndim != 1 or axes.shape != (2, len(mean)):
            raise ValueError(f"axes of shape {axes.shape} for a mean of shape {mean.shape}")
        return cls(mean, axes, float(body["explained"]))
