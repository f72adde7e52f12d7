"""Likelihood ratios of shadow models: how well single samples tell two kinds of models apart.

U-LiRA (Hayes et al., 2024) fits a Gaussian to a sample's confidences in models of either kind, and judges models that
were not fitted by the ratio of the two likelihoods. Here every pair of one model of each kind is held out in turn
(leave-pair-out, Airola et al., 2011). Two kinds that are alike then score 0.5 on average; leaving out one model alone
would score them below that, since its own kind's mean moves away from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fed_unlearn.audits.intervals import RESAMPLES, bootstrap_interval
from fed_unlearn.errors import EmptySetError, InvalidParameterError
from fed_unlearn.seeding import derive_seed

LEAST_SPREAD = 0.3
"""Added in quadrature to the spread of a sample's confidences, in log-odds: a few models may agree by chance."""


@dataclass(frozen=True)
class Gaussian:
    """A normal distribution for each sample.

    Attributes
    ----------
    mean, spread : Tensor of the same shape, float64
        ``spread`` is the standard deviation, above 0.
    """

    mean: Tensor
    spread: Tensor

    @classmethod
    def of(cls, values: Tensor) -> Gaussian:
        """Fit values of shape (models, n), sample by sample, with the unbiased variance."""
        return cls(values.mean(0), (values.var(0) + LEAST_SPREAD**2).sqrt())

    @classmethod
    def without_each(cls, values: Tensor) -> Gaussian:
        """Fit values of shape (models, n) without one model after another: mean and spread of shape (models, n)."""
        fits = [cls.of(torch.cat([values[:left], values[left + 1 :]])) for left in range(len(values))]
        return cls(torch.stack([fit.mean for fit in fits]), torch.stack([fit.spread for fit in fits]))

    def log_density(self, values: Tensor) -> Tensor:
        """Log of the density, without the constant that all normal distributions share."""
        return -(((values - self.mean) / self.spread) ** 2) / 2 - self.spread.log()


@dataclass(frozen=True)
class HeldOutRatios:
    """Log-likelihood ratios of models that were not fitted; above 0 speaks for unlearned.

    Attributes
    ----------
    unlearned, retrained : Tensor of shape (unlearned models, retrained models, n), float64
        Ratios of the model of each kind in every pair of models.
    """

    unlearned: Tensor
    retrained: Tensor

    @classmethod
    def of(cls, unlearned: Tensor, retrained: Tensor) -> HeldOutRatios:
        """Hold out every pair of one unlearned and one retrained model.

        Parameters
        ----------
        unlearned, retrained : Tensor of shape (models, n), float64
            Confidences in the same samples; three models of each kind at least.
        """
        alike, others = Gaussian.without_each(unlearned), Gaussian.without_each(retrained)
        alike = Gaussian(alike.mean[:, None], alike.spread[:, None])  # by the unlearned model that is left out
        others = Gaussian(others.mean[None], others.spread[None])  # by the retrained one

        def ratios(values: Tensor) -> Tensor:
            return alike.log_density(values) - others.log_density(values)

        return cls(ratios(unlearned[:, None]), ratios(retrained[None]))

    def wins(self) -> Tensor:
        """Whether the unlearned model of each pair has the larger ratio, ties half; of the shape of the ratios."""
        return (self.unlearned > self.retrained).double() + (self.unlearned == self.retrained).double() / 2

    def hits(self) -> Tensor:
        """The share of each pair's two models whose ratio has the right sign, 0 counts half; of the ratios' shape."""
        signs = (self.unlearned.sign() - self.retrained.sign()) / 2
        return (signs + 1) / 2

    def aucs(self) -> Tensor:
        """For each sample, the share of pairs whose unlearned model has the larger ratio, ties half; shape (n,)."""
        return self.wins().mean((0, 1))

    def errors(self) -> Tensor:
        """Standard error of each sample's AUC, over models (DeLong et al., 1988); shape (n,)."""
        wins = self.wins()
        return (wins.mean(1).var(0) / wins.shape[0] + wins.mean(0).var(0) / wins.shape[1]).sqrt()

    def accuracies(self) -> Tensor:
        """For each sample, the balanced accuracy of "unlearned where the ratio is above 0"; 0 itself counts half."""
        return self.hits().mean((0, 1))

    def scores(self) -> tuple[Tensor, Tensor]:
        """The ratio of each model in each sample, averaged over the models that it was paired with."""
        return self.unlearned.mean(1), self.retrained.mean(0)


def true_positive_rate(positives: Tensor, negatives: Tensor, false_positive_rate: float) -> float:
    """The largest share of positives above a threshold that at most some share of negatives reaches.

    Parameters
    ----------
    positives, negatives : Tensor of shape (n,) and (m,)
        Scores, larger for positives.
    false_positive_rate : float in [0, 1)
        Maximum share of negatives that reach the threshold. With fewer than 1 / rate negatives none may.

    Returns
    -------
    float
        The share of positives above the threshold, in [0, 1].

    Raises
    ------
    EmptySetError
        If there are no positives or no negatives.
    InvalidParameterError
        If the rate is out of range.
    """
    if not len(positives) or not len(negatives):
        raise EmptySetError(f"{len(positives)} positives and {len(negatives)} negatives; both need one at least")
    if not 0 <= false_positive_rate < 1:
        raise InvalidParameterError(f"false positive rate {false_positive_rate} was given; expected 0 to 1, without 1")
    allowed = int(false_positive_rate * len(negatives) + 1e-9)
    threshold = negatives.sort(descending=True).values[allowed]  # the first negative that must stay below
    return float((positives > threshold).double().mean())


def interval_over(samples: Tensor, figure: Callable[[Tensor], float], seed: int, name: str) -> tuple[float, float]:
    """95 % bootstrap interval of a figure of samples at some positions, drawn anew with replacement.

    Parameters
    ----------
    samples : Tensor of shape (n,), int64
    figure : callable
        Gives the figure of the samples at these positions. Some are given several times.
    seed : int
        Seed of the audit; with ``name`` it decides all draws.
    name : str
        Name of the figure.
    """
    return bootstrap_interval(
        len(samples), lambda chosen: figure(samples[torch.from_numpy(chosen)]), seed=seed, name=name
    )


def interval_over_models(
    counts: tuple[int, int, int], figure: Callable[[Tensor, Tensor, Tensor], float], seed: int, name: str
) -> tuple[float, float]:
    """95 % bootstrap interval of a figure of two kinds of models and of samples, each drawn anew with replacement.

    Samples alone would give an interval that is too narrow: all of them are judged by the same few models. The ratios
    themselves stay as they were fitted. Measured coverage for mean AUCs, 120 draws each: 0.94 to 0.99 with 16 models of
    each kind and 8 or 16 samples, 0.87 with 12 models whose confidences move together by twice a sample's own spread;
    by samples alone 0.78 to 0.88, and 0.51.

    Parameters
    ----------
    counts : (int, int, int)
        Unlearned models, retrained models and samples, each at least 1.
    figure : callable
        Gives the figure for int64 positions of each of these. Some are given several times.
    seed : int
        Seed of the audit; with ``name`` it decides all draws.
    name : str
        Name of the figure.
    """
    random = np.random.default_rng(derive_seed(seed, "bootstrap", name))
    drawn = [
        figure(*(torch.from_numpy(random.integers(count, size=count)) for count in counts)) for _ in range(RESAMPLES)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)
