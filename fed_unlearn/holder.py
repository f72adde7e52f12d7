"""What whoever holds samples does with a model: unlearns them, guards them in repair, observes it for audits."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor, nn

from fed_unlearn.audits.base import Judged, Observation
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.guards import UNGUARDED, Guard, GuardedSet, guard_retained, guarded_cross_entropy
from fed_unlearn.logits import predict_logits
from fed_unlearn.methods.base import Method, Outcome
from fed_unlearn.pass_counter import PassCounter
from fed_unlearn.requests import ScopeKind
from fed_unlearn.seeding import derive_seed, isolated_random, seeded_generator
from fed_unlearn.training.frozen import frozen_part

__all__ = [
    "UNGUARDED",
    "Guard",
    "GuardedSet",
    "guard_retained",
    "guarded_cross_entropy",
    "halves",
    "observe",
    "recognises_any",
    "repair_model",
    "unlearn_samples",
]

Train = Callable[[nn.Module, SampleSet, torch.Generator], PassCounter]
"""Trains a model in place on samples; all randomness is the generator's."""


def unlearn_samples(
    method: Method,
    model: nn.Module,
    forget: SampleSet,
    retained: SampleSet,
    validation: SampleSet,
    *,
    excluded_classes: Collection[int],
    reference: nn.Module | None = None,
    seed: Sequence[str | int],
) -> Outcome:
    """Unlearn a holder's samples by a method, for one turn.

    A holder without retained samples cannot run a method that needs some. It returns the model unchanged, and guarded
    repair does the forgetting.

    Parameters
    ----------
    method : Method
    model : nn.Module
        The model. It is not changed.
    forget, retained, validation : SampleSet
        The method may read half of the validation samples, as samples that were never trained on. The gate reads the
        other half.
    excluded_classes : collection of int
        Classes that no forget sample may be taught to be.
    reference : nn.Module, optional
        A model that never saw the forget samples, for methods that measure by one.
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
            **({} if reference is None else {"reference": reference}),
        )


def repair_model(
    model: nn.Module,
    retained: SampleSet,
    guards: Sequence[Guard],
    train: Train,
    *,
    guard_weight: int,
    guard_margin: float,
    frozen: Collection[str] = (),
    seed: Sequence[str | int],
) -> tuple[int, PassCounter]:
    """Repair a model in place, for one round.

    Parameters
    ----------
    model : nn.Module
    retained : SampleSet
    guards : sequence of Guard
        The labels that open attempts taught to their samples.
    train : callable
    guard_weight, guard_margin
        Weight and margin of guarded samples, as in :func:`fed_unlearn.holder.guard_retained`.
    frozen : collection of str
        Names of parameters and buffers that stay as they are.
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
    with isolated_random(derive_seed(*seed)), frozen_part(model, frozen):
        return len(samples), train(model, samples, seeded_generator(*seed))


def halves(samples: SampleSet) -> tuple[SampleSet, SampleSet]:
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
    left_out: Collection[int] = (),
    triggered: Judged | None = None,
    limits: Tensor | None = None,
    seed: int = 0,
) -> Observation:
    """What the audits of a request read.

    Parameters
    ----------
    model : nn.Module
    scope : str
    classes : collection of int
        Classes of a class request; those of the forget samples where there are none.
    forget : Judged
        D_f, or the holder's part of it.
    class_count : int
    test, validation : Judged, optional
        Test and validation samples, all of them. Half of ``validation`` is what no method reads.
    retained : Judged, optional
        Retained training samples of a holder that stays.
    left_out : collection of int
        Further classes that do not stay: forgotten before, asked for beside, or not there yet.
    triggered : Judged, optional
        Test samples with a planted trigger shown on them, under the trigger's class, for a client request.
    limits : Tensor of shape (n,), optional
        Log-odds from which on each forget sample stands too high, for a sample request.
    seed : int
        Seed of all that audits draw.
    """
    compared = torch.tensor(list(classes)) if classes else forget.labels.unique()
    unseen = validation if scope == "sample" and len(forget) else None
    if unseen is not None:
        unseen = unseen.where(~_first_half(unseen.labels))
    named = tuple(sorted(classes)) if scope == "class" else ()
    gone = torch.tensor(sorted({*named, *left_out}), dtype=torch.int64)
    held_out = validation if named else None
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
        classes=named,
        test_retain=_staying(test, gone) if named else None,
        held_out=_some(held_out.of_classes(compared)) if held_out is not None else None,
        held_out_retain=_staying(held_out, gone),
        left_out=tuple(sorted(left_out)),
        triggered=triggered,
        limits=limits,
    )


def recognises_any(model: nn.Module, samples: SampleSet) -> bool:
    """Whether a model gives any of the samples its own label."""
    return bool((predict_logits(model, samples).argmax(1) == samples.labels).any())


def _first_half(labels: Tensor) -> Tensor:
    """Every other sample of each class, of shape (n,), bool."""
    first = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        first[(labels == label).nonzero().flatten()[::2]] = True
    return first


def _staying(judged: Judged | None, gone: Tensor) -> Judged | None:
    """The samples of the classes that stay; None where there are none."""
    return _some(judged.where(~torch.isin(judged.labels, gone))) if judged is not None else None


def _some(judged: Judged) -> Judged | None:
    return judged if len(judged) else None
