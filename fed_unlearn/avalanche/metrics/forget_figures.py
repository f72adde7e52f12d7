"""Figures of a model on the samples of served requests and on test samples."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import nn

from fed_unlearn.audits.accuracy import ClassCounts, ForgetAccuracy
from fed_unlearn.audits.asked import count_extra, extra_audits
from fed_unlearn.audits.base import Figures, Judged
from fed_unlearn.audits.counted_figures import figures_of
from fed_unlearn.audits.counts import RequestCounts
from fed_unlearn.audits.measured import Measured
from fed_unlearn.audits.membership import exact_membership_auc, sample_losses
from fed_unlearn.audits.scores import scored_logits
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.holder import observe
from fed_unlearn.requests import ScopeKind


@dataclass(frozen=True)
class ServedRequest:
    """A request that was served, and the samples that it named.

    Attributes
    ----------
    number : int
        Number of its experience in the forget stream, counted from 0.
    id : str
        Id of the request.
    samples : SampleSet or None
        D_f: the training samples that it named and that had arrived by then; None if they may not be read.
    classes : tuple of int
        Classes of a class request; empty for other scopes.
    task_label : int or None
        Task label of its experience, for the names of metrics.
    peers : tuple of int
        Labels among which the class is ranked: those of the same head. Empty if the model has one head.
    """

    number: int
    id: str
    samples: SampleSet | None
    classes: tuple[int, ...] = ()
    task_label: int | None = None
    peers: tuple[int, ...] = ()


@dataclass(frozen=True)
class StreamFigures:
    """Figures of all requests, one by one and together, and of what is retained.

    Attributes
    ----------
    requests : mapping of int to Figures
        Figures of each request, by its number. ``membership_auc`` is exact, and not a number if the model's losses are
        not finite.
    forget_accuracy : float or None
        Top-1 on the union of D_f of all committed requests, as far as they may be read. A sample that two requests
        named counts once.
    test_forget_accuracy : float or None
        Top-1 on the test samples of all classes that committed class requests named.
    retain_accuracy : float or None
        Top-1 on D_rt: test samples of the classes that have arrived and that no class request named. Classes of failed
        requests do not count either, since they are not trained on again.
    relapse : mapping of int to float
        Forget accuracy of each request minus that right after it, by its number.
    audits : mapping of int to mapping of str to Measured
        Figures of full audits, by the number of a request that has just been served; empty where none were asked for.
    """

    requests: Mapping[int, Figures]
    forget_accuracy: float | None = None
    test_forget_accuracy: float | None = None
    retain_accuracy: float | None = None
    relapse: Mapping[int, float] = field(default_factory=dict)
    audits: Mapping[int, Mapping[str, Measured]] = field(default_factory=dict)


def measure(
    model: nn.Module,
    served: Sequence[ServedRequest],
    *,
    committed: Collection[str],
    test: SampleSet | None,
    arrived: Collection[int],
    membership: bool = True,
) -> StreamFigures:
    """Measure a model on the samples of requests and on test samples. The model is not changed.

    Parameters
    ----------
    model : nn.Module
        The model. It takes the samples' inputs and returns logits of shape (batch, classes).
    served : sequence of ServedRequest
        The requests so far.
    committed : collection of str
        Ids of the requests that the gate accepted. Figures of forgetting over the stream are over these.
    test : SampleSet or None
        All test samples. Without them only figures on D_f are computed.
    arrived : collection of int
        Classes of which training samples have arrived.
    membership : bool
        Whether to run the membership attack.

    Returns
    -------
    StreamFigures
        Figures of the model, without ``relapse`` and ``audits``.
    """
    judged = Judged.whole(test, *scored_logits(model, test)) if test is not None and len(test) else None
    class_count = judged.logits.shape[1] if judged is not None else 0
    counts = ClassCounts.of(judged.logits, judged.labels, class_count) if judged is not None else None
    named = {label for request in served for label in request.classes}
    retained = set(arrived) - named
    left_out = set(range(class_count)) - retained
    requests: dict[int, Figures] = {}
    hits: dict[str, bool] = {}
    for request in served:
        counted, attack = RequestCounts(), None
        if request.samples is not None and len(request.samples) > 0:
            forget = Judged.whole(request.samples, *scored_logits(model, request.samples))
            scope: ScopeKind = "class" if request.classes else "sample"
            others = left_out.difference(request.classes)
            beside = judged.of_classes(torch.tensor(request.peers)) if judged is not None and request.peers else judged
            seen = observe(model, scope, request.classes, forget, forget.logits.shape[1], test=beside, left_out=others)
            counted = RequestCounts(hits=ForgetAccuracy.count(seen), extra=count_extra(seen, extra_audits()))
            attack = _attack(forget, judged) if membership and judged is not None else None
            if request.id in committed:
                right = (forget.logits.argmax(1) == forget.labels).tolist()
                hits.update(zip(request.samples.ids, right, strict=True))
        figures = figures_of(counted, request.classes, left_out=left_out, retain=None, test=counts)
        requests[request.number] = replace(figures, membership_auc=attack)
    forgotten = {label for request in served if request.id in committed for label in request.classes}
    return StreamFigures(
        requests,
        forget_accuracy=sum(hits.values()) / len(hits) if hits else None,
        test_forget_accuracy=_accuracy(counts, only=forgotten) if forgotten else None,
        retain_accuracy=_accuracy(counts, only=retained),
    )


def _accuracy(counts: ClassCounts | None, *, only: Collection[int]) -> float | None:
    return counts.accuracy(only=only) if counts is not None else None


def _attack(members: Judged, test: Judged) -> float | None:
    """Return the AUC of the attack on D_f against test samples of its classes; None if there are none."""
    outsiders = test.of_classes(members.labels.unique())
    if len(outsiders) == 0:
        return None
    inside, outside = (sample_losses(side.logits, side.labels) for side in (members, outsiders))
    if not (inside.isfinite().all() and outside.isfinite().all()):
        return math.nan
    return exact_membership_auc(inside, outside)
