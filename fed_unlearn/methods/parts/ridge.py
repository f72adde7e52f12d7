"""A ridge head in closed form, from sums over samples: sums of samples add, and are taken away again exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fed_unlearn.errors import EmptySetError, InvalidDataError, InvalidParameterError

FEATURE_STEP = 2.0**-12
"""Features are rounded to whole multiples of this, so that their sums carry no rounding error."""

RIDGE = 1e-3

MOST_EXACT = 2.0**53
"""Double precision holds every whole number up to this one."""

Doubles = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RidgeStatistics:
    """The sums over samples from which a ridge head is solved.

    Features are whole multiples of a step. As long as no sum is longer than :data:`MOST_EXACT` steps, every sum is
    exact. So sums do not depend on the order in which samples came, nor on who added them up, and subtraction gives
    the bits of the sums that never had the samples.

    Attributes
    ----------
    counts : ndarray of shape (classes,), int64
        Samples of each class.
    sums : ndarray of shape (classes, features), float64
        Sum of the features of each class, in steps.
    products : ndarray of shape (features, features), float64
        Sum of ``z z^T`` over all samples, in squared steps.
    step : float
        What features are multiples of: a power of two.
    """

    counts: NDArray[np.int64]
    sums: Doubles
    products: Doubles
    step: float = FEATURE_STEP

    @classmethod
    def empty(cls, class_count: int, feature_count: int, step: float = FEATURE_STEP) -> Self:
        """The sums over no sample."""
        products = np.zeros((feature_count, feature_count))
        return cls(np.zeros(class_count, np.int64), np.zeros((class_count, feature_count)), products, step)

    @classmethod
    def of(cls, features: Tensor, labels: Tensor, class_count: int, step: float = FEATURE_STEP) -> Self:
        """The sums over samples.

        Parameters
        ----------
        features : Tensor of shape (n, features), float64
            Features of the samples, finite.
        labels : Tensor of shape (n,), int64
        class_count : int
        step : float

        Raises
        ------
        InvalidDataError
            If features are not finite, or so large that their sums would not be exact.
        """
        whole = np.rint(features.double().cpu().numpy() / step)
        targets = torch.nn.functional.one_hot(labels.cpu().long(), class_count).numpy()
        found = cls(targets.sum(0), targets.T.astype(np.float64) @ whole, whole.T @ whole, step)
        return found.checked()

    @property
    def count(self) -> int:
        """Number of samples."""
        return int(self.counts.sum())

    def __add__(self, other: RidgeStatistics) -> Self:
        """The sums over both sets of samples.

        Raises
        ------
        InvalidDataError
            If the two do not fit each other, or the sums would not be exact.
        """
        self._check_fits(other)
        sums, products = self.sums + other.sums, self.products + other.products
        return type(self)(self.counts + other.counts, sums, products, self.step).checked()

    def without(self, other: RidgeStatistics) -> Self:
        """The sums over the samples that are not among the other ones.

        Parameters
        ----------
        other : RidgeStatistics
            The sums over some of the same samples.

        Raises
        ------
        InvalidDataError
            If the two do not fit each other, or the other ones have more samples of a class.
        """
        self._check_fits(other)
        counts = self.counts - other.counts
        if (counts < 0).any():
            raise InvalidDataError(
                f"{other.count} samples were to be taken out of {self.count}, and of class {int(counts.argmin())} there"
                " are fewer; expected samples that are among them"
            )
        return type(self)(counts, self.sums - other.sums, self.products - other.products, self.step)

    def is_same(self, other: RidgeStatistics) -> bool:
        """Whether two are equal, bit for bit."""
        return self.step == other.step and all(
            np.array_equal(getattr(self, name), getattr(other, name)) for name in ("counts", "sums", "products")
        )

    def solve(self, penalty: float, *, intercept: bool = True) -> tuple[Doubles, Doubles]:
        """The head that minimises ``sum ||W z + b - y||^2 + penalty ||W||^2`` over the samples, y being one-hot.

        Parameters
        ----------
        penalty : float
            Penalty on the weights, above 0. The intercept is not penalised.
        intercept : bool
            Whether there is one. Without it b is 0.

        Returns
        -------
        tuple of ndarray of shape (classes, features) and ndarray of shape (classes,), float64
            W and b. A class without a sample has a row of zeros and b = 0; all b and all logits of a sample sum to 1,
            so that such a class is never the largest.

        Raises
        ------
        EmptySetError
            If there is no sample.
        InvalidParameterError
            If the penalty is not above 0.
        """
        if not penalty > 0:
            raise InvalidParameterError(f"penalty = {penalty} was given; expected a number above 0")
        if self.count == 0:
            raise EmptySetError("a ridge head was asked for, and there is no sample; expected one at least")
        mean = self.sums.sum(0) / self.count if intercept else np.zeros(self.sums.shape[1])
        products = self.products - self.count * np.outer(mean, mean)
        targets = self.sums - np.outer(self.counts, mean)
        penalised = products * self.step**2 + penalty * np.eye(len(products))
        weight = np.linalg.solve(penalised, targets.T * self.step).T
        shares = self.counts / self.count
        bias = shares - weight @ (mean * self.step) if intercept else np.zeros(len(self.counts))
        return np.ascontiguousarray(weight), bias

    def penalty_of(self, ridge: float) -> float:
        """A penalty for :meth:`solve`: so many times the mean of the diagonal of ``sum z z^T``.

        It goes with the scale of the features and with the number of samples.

        Raises
        ------
        InvalidDataError
            If all features of all samples are 0.
        """
        mean = float(np.trace(self.products)) / len(self.products) * self.step**2
        if self.count and not mean > 0:
            raise InvalidDataError(
                f"all {len(self.products)} features of all {self.count} samples are below {self.step / 2:g}; expected a"
                " backbone with larger ones, or a smaller step"
            )
        return ridge * mean

    def checked(self) -> Self:
        """Itself, where every sum is exact.

        Raises
        ------
        InvalidDataError
            If one is not finite, or longer than :data:`MOST_EXACT` steps.
        """
        largest = max(float(np.abs(part).max(initial=0.0)) for part in (self.sums, self.products))
        if not largest < MOST_EXACT:
            raise InvalidDataError(
                f"sums over {self.count} samples' features come to {largest:g} steps of {self.step:g}, and are exact"
                f" below {MOST_EXACT:g}; expected finite features, and a larger step for large ones"
            )
        return self

    def _check_fits(self, other: RidgeStatistics) -> None:
        own, others = (self.sums.shape, self.step), (other.sums.shape, other.step)
        if own != others:
            raise InvalidDataError(
                f"statistics of {others[0]} classes and features with steps of {others[1]:g} were given; expected"
                f" {own[0]} and {own[1]:g}: the same model and settings on both sides"
            )


def as_arrays(statistics: RidgeStatistics) -> dict[str, NDArray[Any]]:
    """The sums by name, as messages and files carry them."""
    return {name: getattr(statistics, name) for name in ("counts", "sums", "products")}
