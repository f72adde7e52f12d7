"""Which training samples models memorise: those that are known where they were trained on, and only there."""

from __future__ import annotations

import torch
from torch import Tensor

from fed_unlearn.errors import InvalidDataError, InvalidParameterError


def balanced_halves(samples: int, models: int, generator: torch.Generator) -> Tensor:
    """Which models are trained on which samples: each sample is in half of them (Carlini et al., 2022, section V).

    Parameters
    ----------
    samples, models : int
        Number of samples, at least 1, and of models, at least 2.
    generator : torch.Generator
        Source of the draws, on the CPU.

    Returns
    -------
    Tensor of shape (models, samples), bool
        Whether a model is trained on a sample. With an odd number of models, one more is trained without each sample
        than with it.
    """
    if samples < 1 or models < 2:
        raise InvalidParameterError(
            f"{samples} samples and {models} models were given; expected at least one sample and two models"
        )
    ranks = torch.rand(models, samples, generator=generator).argsort(0).argsort(0)
    return ranks < models // 2


def memorisation(confidences: Tensor, is_inside: Tensor) -> Tensor:
    """How much surer models are of a sample if they were trained on it.

    Memorisation of Feldman (2020) and of Feldman and Zhang (2020), of log-odds in place of hits: these still differ
    between samples of which few models err.

    Parameters
    ----------
    confidences : Tensor of shape (models, n), float64
    is_inside : Tensor of shape (models, n), bool
        Whether the model was trained on the sample.

    Returns
    -------
    Tensor of shape (n,), float64
        Mean confidence of the models with the sample minus that of the models without.

    Raises
    ------
    InvalidDataError
        If shapes differ, or a sample is in all models or in none.
    """
    inside = is_inside.sum(0)
    if confidences.shape != is_inside.shape or bool(((inside == 0) | (inside == len(is_inside))).any()):
        raise InvalidDataError(
            f"confidences of shape {tuple(confidences.shape)} and membership of shape {tuple(is_inside.shape)} were"
            " given; expected equal shapes, and for each sample a model with it and one without"
        )
    sums = (confidences * is_inside).sum(0)
    return sums / inside - (confidences.sum(0) - sums) / (len(is_inside) - inside)


def most_memorised(gaps: Tensor, candidates: Tensor, count: int) -> Tensor:
    """Positions of the candidates with the largest gaps, ascending; of equal gaps the first.

    Parameters
    ----------
    gaps : Tensor of shape (n,)
        Gap of each sample, from :func:`memorisation`.
    candidates : Tensor of shape (k,), int64
        Positions among the n samples.
    count : int

    Raises
    ------
    InvalidParameterError
        If there are fewer candidates.
    """
    if count > len(candidates):
        raise InvalidParameterError(f"{count} memorised samples are wanted of {len(candidates)}; ask for fewer")
    order = gaps[candidates].sort(descending=True, stable=True).indices
    return candidates[order[:count]].sort().values
