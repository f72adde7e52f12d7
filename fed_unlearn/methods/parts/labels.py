"""The classes that a forget sample may be taught: never its own, and never one that was forgotten earlier."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.logits import predict_logits
from fed_unlearn.methods.parts.workspace import Outcome


def nearest_allowed(logits: Tensor, labels: Tensor, excluded_classes: Collection[int]) -> Tensor:
    """The class with the largest logit among those that are neither a sample's own nor excluded.

    Parameters
    ----------
    logits : Tensor of shape (n, classes)
        Outputs of a model.
    labels : Tensor of shape (n,), int64
        Each sample's own class, as an index.
    excluded_classes : collection of int
        Classes that no sample may get.

    Returns
    -------
    Tensor of shape (n,), int64
    """
    return logits.masked_fill(forbidden_classes(labels, excluded_classes, logits.shape[1]), -torch.inf).argmax(dim=1)


def forbidden_classes(labels: Tensor, excluded_classes: Collection[int], class_count: int) -> Tensor:
    """The classes that each sample may not get: its own class and the excluded ones.

    The parameters are those of :func:`nearest_allowed`, with the number of classes in place of logits.

    Returns
    -------
    Tensor of shape (n, class_count), bool
    """
    forbidden = functional.one_hot(labels, class_count).bool()
    forbidden[:, sorted(excluded_classes)] = True
    return forbidden


def allowed_answers(logits: Tensor, labels: Tensor, excluded_classes: Collection[int] = ()) -> Tensor:
    """Probabilities of the allowed classes, renormalised. Parameters as in :func:`nearest_allowed`.

    Returns
    -------
    Tensor of shape (n, classes)
        Probabilities, 0 for a sample's own class and the excluded ones. The other classes keep their proportions.
    """
    return logits.masked_fill(forbidden_classes(labels, excluded_classes, logits.shape[1]), -torch.inf).softmax(dim=1)


def random_allowed(
    labels: Tensor, excluded_classes: Collection[int], class_count: int, generator: torch.Generator
) -> Tensor:
    """Draw a class for each sample, uniformly among those that are neither its own nor excluded.

    The parameters are those of :func:`forbidden_classes`, and a generator on the CPU.

    Returns
    -------
    Tensor of shape (n,), int64, on the device of ``labels``
    """
    weights = (~forbidden_classes(labels.cpu(), excluded_classes, class_count)).float()
    return torch.multinomial(weights, 1, generator=generator).squeeze(1).to(labels.device)


def given_labels(method: str, labels: int | Sequence[int], allowed: Tensor) -> Tensor:
    """Check the new labels that a user gave for forget samples.

    Parameters
    ----------
    method : str
        Name of the method, for the message.
    labels : int or sequence of int
        One label for all samples, or one for each.
    allowed : Tensor of shape (n, classes), bool
        The classes that each sample may get, on the CPU.

    Returns
    -------
    Tensor of shape (n,), int64

    Raises
    ------
    InvalidParameterError
        If the number of labels is not that of the samples, or a label is not allowed for its sample.
    """
    count, class_count = allowed.shape
    given = labels if isinstance(labels, Sequence) else (labels,) * count
    if len(given) != count:
        raise InvalidParameterError(f"{method}: {len(given)} labels were given for {count} forget samples")
    targets = torch.tensor(given, dtype=torch.int64)
    fitting = (targets < class_count) & allowed.gather(1, targets.clamp(max=class_count - 1)[:, None])[:, 0]
    if not bool(fitting.all()):
        position = int((~fitting).nonzero()[0])
        choices = allowed[position].nonzero().flatten().tolist()
        raise InvalidParameterError(
            f"{method}: labels[{position}] = {given[position]} was given; allowed for that sample is one of {choices}"
        )
    return targets


def guard_labels_of(outcome: Outcome, forget: SampleSet, excluded_classes: Collection[int]) -> Tensor:
    """The labels under which guarded repair trains forget samples.

    They are the labels that the method taught. If it taught none, they are the unlearned model's own answers among the
    allowed classes.

    Parameters
    ----------
    outcome : Outcome
        Result of a method on ``forget``.
    forget : SampleSet
        The forget samples, under the labels that they were trained with.
    excluded_classes : collection of int
        Classes that no sample may get.

    Returns
    -------
    Tensor of shape (n,), int64, on the CPU
    """
    if outcome.guard_labels is not None:
        return outcome.guard_labels
    return nearest_allowed(predict_logits(outcome.model, forget), forget.labels.cpu(), excluded_classes)
