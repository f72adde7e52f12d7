"""What whoever holds the samples of a request does with a model: unlearns them, repairs it, counts what it gets right.

A client of a federation does it when a message asks for it, a training script on one machine when a forget experience
comes along.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor, nn

from fed_unlearn.audits.counts import RequestCounts
from fed_unlearn.audits.membership import confidence_histogram
from fed_unlearn.data.images import ImageSet
from fed_unlearn.guard import Guard, guard_retained
from fed_unlearn.logits import predict_logits
from fed_unlearn.methods.base import Method, Outcome, PassCounter
from fed_unlearn.requests import ScopeKind
from fed_unlearn.seeding import derive_seed, isolated_random, seeded_generator

Train = Callable[[nn.Module, ImageSet, torch.Generator], PassCounter]
"""Trains a model in place on samples; all randomness is the generator's."""


def unlearn_samples(
    method: Method,
    model: nn.Module,
    forget: ImageSet,
    retained: ImageSet,
    validation: ImageSet,
    *,
    excluded_classes: Collection[int],
    seed: Sequence[str | int],
) -> Outcome:
    """One turn of a holder: its samples are unlearned by a method.

    A holder of nothing but forgotten samples cannot run a method that needs others: it hands the model back as it is,
    and guarded repair does the forgetting.

    Parameters
    ----------
    method : Method
    model : nn.Module
        Never changed.
    forget, retained, validation : ImageSet
        Half of the validation samples are what the method may read as samples that were never trained on; the gate
        reads the other half.
    excluded_classes : collection of int
        What no forget sample may be taught to be.
    seed : sequence of str or int
        Parts of the seed of this turn.
    """
    if method.requires_retain and len(retained) == 0:
        return Outcome(model, False, 0, 0.0, 0, 0, None)
    unseen, _ = halves(validation)
    with isolated_random(derive_seed(*seed)):
        return method.unlearn(
            model,
            forget,
            retained if len(retained) else None,
            excluded_classes=excluded_classes,
            generator=seeded_generator(*seed),
            unseen=unseen if len(unseen) else None,
        )


def repair_model(
    model: nn.Module,
    retained: ImageSet,
    guards: Sequence[Guard],
    train: Train,
    *,
    guard_weight: int,
    guard_margin: float,
    seed: Sequence[str | int],
) -> tuple[int, PassCounter]:
    """One round of guarded repair, in place.

    Parameters
    ----------
    model : nn.Module
    retained : ImageSet
    guards : sequence of Guard
        What open attempts taught their samples.
    train : callable
    guard_weight, guard_margin
        As :func:`fed_unlearn.guard.guard_retained` takes them.
    seed : sequence of str or int
        Parts of the seed of this round.

    Returns
    -------
    tuple of int and PassCounter
        Samples that were trained on, guarded ones included, and the passes; the model is as it was where there are
        none.
    """
    samples = guard_retained(retained, guards, weight=guard_weight, margin=guard_margin)
    if len(samples) == 0:
        return 0, PassCounter()
    with isolated_random(derive_seed(*seed)):
        return len(samples), train(model, samples, seeded_generator(*seed))


def halves(samples: ImageSet) -> tuple[ImageSet, ImageSet]:
    """Two halves with the same classes: what methods may read of validation data, and what the gate alone does."""
    first = torch.zeros(len(samples), dtype=torch.bool)
    for label in samples.labels.unique():
        first[(samples.labels == label).nonzero().flatten()[::2]] = True
    return samples.subset(first.nonzero().flatten()), samples.subset((~first).nonzero().flatten())


def count_request(
    scope: ScopeKind,
    classes: Collection[int],
    forget: ImageSet,
    class_count: int,
    *,
    logits_of: Callable[[ImageSet], Tensor],
    test: tuple[ImageSet, Tensor] | None = None,
    validation: tuple[ImageSet, Tensor] | None = None,
) -> RequestCounts:
    """Hits on D_f, and the two sides of the membership attack.

    Outsiders of a class request are all test samples of its classes; those of other requests are the holder's own test
    samples of the same classes, so that no label of a forget sample leaves it.

    Parameters
    ----------
    scope : str
    classes : collection of int
        Of a class request; those of the forget samples where there are none.
    forget : ImageSet
        D_f, or the holder's part of it.
    class_count : int
    logits_of : callable
        Of samples by the model that is looked at.
    test, validation : tuple of (ImageSet, Tensor), optional
        With their logits.
    """
    logits = logits_of(forget)
    compared = torch.tensor(list(classes)) if classes else forget.labels.unique()
    unseen = validation if scope == "sample" and len(forget) else None
    totals = torch.bincount(forget.labels, minlength=class_count).tolist()
    return RequestCounts(
        correct=int((logits.argmax(1) == forget.labels).sum()) if len(forget) else 0,
        total=len(forget),
        member_histogram=confidence_histogram(logits, forget.labels),
        outsider_histogram=_histogram_of(*test, compared) if test is not None else [],
        unseen_histogram=_unseen_histogram(*unseen, compared) if unseen is not None else [],
        class_totals=totals if scope == "client" and len(forget) else [],
    )


def recognises_any(model: nn.Module, samples: ImageSet) -> bool:
    """Whether a model gives any of the samples its own label."""
    return bool((predict_logits(model, samples).argmax(1) == samples.labels).any())


def _histogram_of(samples: ImageSet, logits: Tensor, classes: Tensor) -> list[int]:
    chosen = torch.isin(samples.labels, classes)
    return confidence_histogram(logits[chosen], samples.labels[chosen])


def _unseen_histogram(samples: ImageSet, logits: Tensor, classes: Tensor) -> list[int]:
    _, kept = halves(samples)
    ids = set(kept.ids)
    positions = torch.tensor([index for index, name in enumerate(samples.ids) if name in ids], dtype=torch.int64)
    return _histogram_of(kept, logits[positions], classes)
