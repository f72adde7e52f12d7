"""What whoever holds samples does with a model: unlearns them, guards them in repair, observes it for audits."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from fed_unlearn.audits.base import Judged, Observation
from fed_unlearn.data.images import ImageSet, concatenate
from fed_unlearn.logits import predict_logits
from fed_unlearn.methods.base import Method, Outcome, PassCounter
from fed_unlearn.requests import ScopeKind
from fed_unlearn.seeding import derive_seed, isolated_random, seeded_generator

UNGUARDED = -1
"""Label of samples that are not guarded."""


@dataclass(frozen=True)
class Guard:
    """Forget samples of one request and the labels that guard them.

    Attributes
    ----------
    samples : ImageSet
        The samples, under their old labels.
    labels : Tensor of shape (n,), int64
        The labels that the method taught. ``UNGUARDED`` for samples that repair leaves out.
    """

    samples: ImageSet
    labels: Tensor

    def guarded(self) -> Guard:
        """The guard without samples that repair leaves out."""
        kept = (self.labels != UNGUARDED).nonzero().flatten()
        return self if len(kept) == len(self.labels) else Guard(self.samples.subset(kept), self.labels[kept])


class GuardedSet(ImageSet):
    """Retained and guarded samples, whose loss is :func:`guarded_cross_entropy`.

    Training that treats it as an ordinary ImageSet uses the guard labels, without the margin.

    Parameters
    ----------
    samples : ImageSet
        Retained samples, and guarded samples under their guard labels.
    old_labels : Tensor of shape (n,), int64
        The class that each guarded sample had. ``UNGUARDED`` for retained samples.
    margin : float
        Distance, in logits, by which the old class must stay below the others. 0 means no such term.
    """

    def __init__(self, samples: ImageSet, old_labels: Tensor, margin: float) -> None:
        super().__init__(samples.images, samples.labels, samples.ids)
        self.old_labels = old_labels
        self.margin = margin


def guard_retained(retained: ImageSet, guards: Sequence[Guard], *, weight: int, margin: float) -> ImageSet:
    """Mix guarded samples into retained ones.

    Parameters
    ----------
    retained : ImageSet
        The retained samples.
    guards : sequence of Guard
        The samples to guard.
    weight : int
        Number of copies of each guarded sample in the mix.
    margin : float
        As in :class:`GuardedSet`.

    Returns
    -------
    ImageSet
        The mix, or ``retained`` itself if there is nothing to guard.
    """
    repeated = [guard.guarded() for guard in guards for _ in range(weight) if bool((guard.labels != UNGUARDED).any())]
    if not repeated:
        return retained
    mixed = concatenate(retained, *(guard.samples.relabelled(guard.labels) for guard in repeated))
    old_labels = [torch.full((len(retained),), UNGUARDED), *(guard.samples.labels for guard in repeated)]
    return GuardedSet(mixed, torch.cat(old_labels), margin)


def guarded_cross_entropy(logits: Tensor, labels: Tensor, old_labels: Tensor, margin: float) -> Tensor:
    """Mean cross-entropy plus, for guarded samples, a hinge that keeps the old class below the others.

    The hinge is ``max(0, margin - (log sum exp of the other logits - logit of the old class))``.

    Parameters
    ----------
    logits : Tensor of shape (batch, classes)
        Outputs of the model.
    labels, old_labels : Tensor of shape (batch,), int64
        Present and former labels. ``old_labels`` is ``UNGUARDED`` for retained samples.
    margin : float
        As in :class:`GuardedSet`.

    Returns
    -------
    Tensor
        A scalar: both terms, summed over the batch and divided by its size.
    """
    loss = functional.cross_entropy(logits, labels)
    guarded = old_labels != UNGUARDED
    if margin <= 0 or not bool(guarded.any()):
        return loss
    guarded_logits, old = logits[guarded], old_labels[guarded, None]
    others = guarded_logits.scatter(1, old, -torch.inf).logsumexp(1)
    hinge = functional.relu(margin - (others - guarded_logits.gather(1, old)[:, 0]))
    return loss + hinge.sum() / len(logits)


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
    """Unlearn a holder's samples by a method, for one turn.

    A holder without retained samples cannot run a method that needs some. It returns the model unchanged, and guarded
    repair does the forgetting.

    Parameters
    ----------
    method : Method
    model : nn.Module
        Never changed.
    forget, retained, validation : ImageSet
        The method may read half of the validation samples, as samples that were never trained on. The gate reads the
        other half.
    excluded_classes : collection of int
        Classes that no forget sample may be taught to be.
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
    """Repair a model in place, for one round.

    Parameters
    ----------
    model : nn.Module
    retained : ImageSet
    guards : sequence of Guard
        The labels that open attempts taught to their samples.
    train : callable
    guard_weight, guard_margin
        As in :func:`fed_unlearn.holder.guard_retained`.
    seed : sequence of str or int
        Parts of the seed of this round.

    Returns
    -------
    tuple of int and PassCounter
        Number of samples trained on, guarded ones included, and the passes. Without samples the model is unchanged.
    """
    samples = guard_retained(retained, guards, weight=guard_weight, margin=guard_margin)
    if len(samples) == 0:
        return 0, PassCounter()
    with isolated_random(derive_seed(*seed)):
        return len(samples), train(model, samples, seeded_generator(*seed))


def halves(samples: ImageSet) -> tuple[ImageSet, ImageSet]:
    """Validation samples in two halves with the same classes: what methods may read, and what the gate alone reads."""
    first = _first_half(samples.labels)
    return samples.subset(first.nonzero().flatten()), samples.subset((~first).nonzero().flatten())


def observe(
    model: nn.Module,
    scope: ScopeKind,
    classes: Collection[int],
    forget: Judged,
    class_count: int,
    *,
    test: Judged | None = None,
    validation: Judged | None = None,
    retained: Judged | None = None,
    seed: int = 0,
) -> Observation:
    """What the audits of a request read.

    Parameters
    ----------
    model : nn.Module
    scope : str
    classes : collection of int
        Of a class request; those of the forget samples where there are none.
    forget : Judged
        D_f, or the holder's part of it.
    class_count : int
    test, validation : Judged, optional
        All of them. Half of ``validation`` is what no method reads.
    retained : Judged, optional
        Retained training samples of a holder that stays.
    seed : int
        Of all that audits draw.
    """
    compared = torch.tensor(list(classes)) if classes else forget.labels.unique()
    unseen = validation if scope == "sample" and len(forget) else None
    if unseen is not None:
        unseen = unseen.where(~_first_half(unseen.labels))
    return Observation(
        model=model,
        scope=scope,
        class_count=class_count,
        forget=forget,
        outsiders=test.of_classes(compared) if test is not None else None,
        unseen=unseen.of_classes(compared) if unseen is not None else None,
        validation=validation if scope == "client" else None,
        retained=retained if scope == "client" and len(forget) == 0 else None,
        seed=seed,
    )


def recognises_any(model: nn.Module, samples: ImageSet) -> bool:
    """Whether a model gives any of the samples its own label."""
    return bool((predict_logits(model, samples).argmax(1) == samples.labels).any())


def _first_half(labels: Tensor) -> Tensor:
    """Every other sample of each class, of shape (n,), bool."""
    first = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        first[(labels == label).nonzero().flatten()[::2]] = True
    return first
