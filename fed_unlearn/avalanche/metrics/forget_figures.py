"""How forget requests that were served stand at one moment: figures of a model on what each named, and on the rest."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from fed_unlearn.audits.accuracy import ClassCounts
from fed_unlearn.audits.membership import exact_membership_auc, sample_losses
from fed_unlearn.data.images import ImageSet
from fed_unlearn.logits import predict_logits


@dataclass(frozen=True)
class ServedRequest:
    """One request that was served, with what it named.

    Attributes
    ----------
    number : int
        Of its experience in the forget stream, from 0.
    id : str
    samples : ImageSet or None
        D_f: the training samples that it named and that had arrived by then; None where they may not be read.
    classes : tuple of int
        Of a class request; none for other scopes.
    task_label : int or None
        Of its experience, for the names of metrics.
    """

    number: int
    id: str
    samples: ImageSet | None
    classes: tuple[int, ...] = ()
    task_label: int | None = None


@dataclass(frozen=True)
class RequestStanding:
    """How one request stands; every figure is None where it has no sample to be read from.

    Attributes
    ----------
    forget_accuracy : float or None
        Top-1 on D_f, in [0, 1].
    test_forget_accuracy : float or None
        Top-1 on D_ft, the test samples of a class request's classes; None for other scopes.
    membership_auc : float or None
        Area under the ROC curve of the loss-threshold attack (Yeom et al., 2018), D_f against test samples of the same
        classes: 0.5 where it cannot tell them apart. Not a number where the model's losses are not finite.
    """

    forget_accuracy: float | None = None
    test_forget_accuracy: float | None = None
    membership_auc: float | None = None


@dataclass(frozen=True)
class Standing:
    """How all requests stand, and what is left.

    Attributes
    ----------
    requests : dict of int to RequestStanding
        By number.
    forget_accuracy : float or None
        Top-1 on the union of all committed requests' D_f, as far as it may be read: a sample that two of them named
        counts once.
    test_forget_accuracy : float or None
        Top-1 on the test samples of all classes that committed class requests named.
    retain_accuracy : float or None
        Top-1 on D_rt: the test samples of the classes that have arrived and that no class request named, committed or
        not. What a failed request named is not trained on again either.
    """

    requests: dict[int, RequestStanding] = field(default_factory=dict)
    forget_accuracy: float | None = None
    test_forget_accuracy: float | None = None
    retain_accuracy: float | None = None


def standing(
    model: nn.Module,
    served: Sequence[ServedRequest],
    *,
    committed: Collection[str],
    test: ImageSet | None,
    arrived: Collection[int],
    membership: bool = True,
) -> Standing:
    """Measure a model on what was asked to be forgotten; nothing about the model is changed.

    Parameters
    ----------
    model : nn.Module
        Takes images in [0, 1] and returns logits ``(batch, classes)``.
    served : sequence of ServedRequest
    committed : collection of str
        Ids of those that were accepted; the pooled figures of forgetting are over them.
    test : ImageSet or None
        All test samples; without them only what D_f tells is there.
    arrived : collection of int
        Classes of which training samples have arrived.
    membership : bool
        Whether the attack is wanted.
    """
    test_logits = predict_logits(model, test) if test is not None else torch.empty(0, 0)
    counts = ClassCounts.of(test_logits, test.labels, test_logits.shape[1]) if test is not None and len(test) else None
    requests: dict[int, RequestStanding] = {}
    hits: dict[str, bool] = {}
    for request in served:
        requests[request.number] = RequestStanding(
            test_forget_accuracy=_accuracy(counts, only=request.classes) if request.classes else None
        )
        if request.samples is None or len(request.samples) == 0:
            continue
        logits, labels = predict_logits(model, request.samples), request.samples.labels
        right = (logits.argmax(1) == labels).tolist()
        if request.id in committed:
            hits.update(zip(request.samples.ids, right, strict=True))
        requests[request.number] = replace(
            requests[request.number],
            forget_accuracy=sum(right) / len(right),
            membership_auc=_attack((logits, labels), (test_logits, test.labels)) if membership and test else None,
        )
    named = {label for request in served for label in request.classes}
    forgotten = {label for request in served if request.id in committed for label in request.classes}
    return Standing(
        requests,
        forget_accuracy=sum(hits.values()) / len(hits) if hits else None,
        test_forget_accuracy=_accuracy(counts, only=forgotten) if forgotten else None,
        retain_accuracy=_accuracy(counts, only=set(arrived) - named),
    )


def _accuracy(counts: ClassCounts | None, *, only: Collection[int]) -> float | None:
    return counts.accuracy(only=only) if counts is not None else None


def _attack(members: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> float | None:
    """AUC of the attack on D_f, outsiders being the test samples of its classes; None where there are none."""
    same = torch.isin(test[1], members[1].unique())
    if not same.any():
        return None
    inside, outside = sample_losses(*members), sample_losses(test[0][same], test[1][same])
    if not (inside.isfinite().all() and outside.isfinite().all()):
        return math.nan
    return exact_membership_auc(inside, outside)
