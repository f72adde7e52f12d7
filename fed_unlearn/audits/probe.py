"""Do a model's features still tell forgotten classes from the others, whatever its output layer says?"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fed_unlearn.audits.features.linear_probe import called_forgotten, fitted_probe
from fed_unlearn.audits.layers import output_layer, penultimate_features
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import EmptySetError
from fed_unlearn.methods.parts.validation import require
from fed_unlearn.seeding import seeded_generator


@dataclass(frozen=True)
class ProbeResult:
    """How well a linear probe tells the classes from the rest.

    Attributes
    ----------
    balanced_accuracy : float
        Mean of the share found among the classes' samples and among the others; 0.5 is chance, 1 perfect.
    class_samples, other_samples : int
        Number of samples of the classes, and of other samples, that the probe was judged on.
    """

    balanced_accuracy: float
    class_samples: int
    other_samples: int


def probe(
    model: nn.Module,
    train: SampleSet,
    test: SampleSet | None,
    classes: Collection[int],
    *,
    seed: int,
    max_samples: int = 10_000,
    head: str | None = None,
) -> ProbeResult:
    """Train a linear probe on what the output layer reads, and judge it on other samples (Alain and Bengio, 2017).

    The features of a retrain oracle separate a class that it never saw, too. Compare the result with the oracle's.

    Parameters
    ----------
    model : nn.Module
        The model. It is not changed; normalisation statistics are frozen and dropout is off.
    train : SampleSet
        Samples of the forgotten classes and of others.
    test : SampleSet or None
        Other samples of the same kinds. If None, a random half of ``train`` is used instead.
    classes : collection of int
        The forgotten classes. The probe tells them together from all others.
    seed : int
        Seed of the halves and of the choice of samples.
    max_samples : int, default 10000
        Maximum number of samples of each part that are read, drawn at random.
    head : str, optional
        Name of the layer that gives the logits; the one that is found in a traced call if None.

    Returns
    -------
    ProbeResult
        Accuracy of scikit-learn's logistic regression on standardised features, both sides weighted alike.

    Raises
    ------
    EmptySetError
        If a part has no sample of the classes, or none of others.
    InvalidModelError
        If the model has no such layer, or its features are not finite.
    InvalidParameterError
        If ``max_samples`` is below 2.
    """
    require("max_samples", "probe", max_samples, int, minimum=2)
    if test is None:
        order = torch.randperm(len(train), generator=seeded_generator(seed, "probe", "halves"))
        train, test = (train.subset(half) for half in order.tensor_split(2))
    train, test = _chosen(train, max_samples, seed, "train"), _chosen(test, max_samples, seed, "test")
    truth = [_is_of(part, classes, name) for part, name in ((train, "training"), (test, "test"))]
    layer = output_layer("probe", model, train, head)
    features = [penultimate_features(model, part, layer) for part in (train, test)]
    found = called_forgotten(fitted_probe(features[0], truth[0]), features[1])
    shares = [float(right[side].double().mean()) for right, side in ((found, truth[1]), (~found, ~truth[1]))]
    return ProbeResult(sum(shares) / 2, int(truth[1].sum()), int((~truth[1]).sum()))


def _chosen(samples: SampleSet, most: int, seed: int, part: str) -> SampleSet:
    if len(samples) <= most:
        return samples
    order = torch.randperm(len(samples), generator=seeded_generator(seed, "probe", part))
    return samples.subset(order[:most].sort().values)


def _is_of(samples: SampleSet, classes: Collection[int], part: str) -> Tensor:
    """Which samples are of the classes, of shape (n,), bool."""
    wanted = torch.tensor(sorted(classes), dtype=torch.int64)
    belongs = torch.isin(samples.labels.cpu(), wanted)
    if not belongs.any() or belongs.all():
        raise EmptySetError(
            f"probe: {int(belongs.sum())} of {len(belongs)} {part} samples are of classes {sorted(classes)}; samples of"
            " these and of other classes were expected"
        )
    return belongs
