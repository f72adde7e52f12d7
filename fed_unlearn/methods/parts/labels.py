"""Which class a forget sample may be taught to be: never its own, never one that was forgotten before."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from fed_unlearn.data.images import Samples
from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.logits import predict_logits
from fed_unlearn.methods.base import Outcome


def nearest_allowed(logits: Tensor, labels: Tensor, excluded_classes: Collection[int]) -> Tensor:
    """The class with the largest logit that is neither a sample's own nor excluded.

    Parameters
    ----------
    logits : Tensor of shape (n, classes)
    labels : Tensor of shape (n,), int64
        Each sample's own class.
    excluded_classes : collection of int
        Classes that no sample may get.

    Returns
    -------
    Tensor of shape (n,), int64
    """
    return logits.masked_fill(forbidden_classes(labels, excluded_classes, logits.shape[1]), -torch.inf).argmax(dim=1)


def forbidden_classes(labels: Tensor, excluded_classes: Collection[int], class_count: int) -> Tensor:
    """Each sample's own class, and the excluded ones.

    Parameters
    ----------
    labels : Tensor of shape (n,), int64
    excluded_classes : collection of int
    class_count : int

    Returns
    -------
    Tensor of shape (n, class_count), bool
    """
    forbidden = functional.one_hot(labels, class_count).bool()
    forbidden[:, sorted(excluded_classes)] = True
    return forbidden


def allowed_answers(logits: Tensor, labels: Tensor, excluded_classes: Collection[int] = ()) -> Tensor:
    """What a model says when a sample's own class and the excluded ones are taken away, the rest renormalised.

    Parameters
    ----------
    logits : Tensor of shape (n, classes)
    labels : Tensor of shape (n,), int64
        Each sample's own class.
    excluded_classes : collection of int

    Returns
    -------
    Tensor of shape (n, classes)
        Probabilities: zero for a sample's own class and for excluded ones, in the given proportions elsewhere.
    """
    return logits.masked_fill(forbidden_classes(labels, excluded_classes, logits.shape[1]), -torch.inf).softmax(dim=1)


def random_allowed(
    labels: Tensor, excluded_classes: Collection[int], class_count: int, generator: torch.Generator
) -> Tensor:
    """A class for each sample, uniform among those that are neither its own nor excluded.

    Parameters
    ----------
    labels : Tensor of shape (n,), int64
        Each sample's own class.
    excluded_classes : collection of int
        Classes that no sample may get.
    class_count : int
    generator : torch.Generator
        On the CPU.

    Returns
    -------
    Tensor of shape (n,), int64, on the device of ``labels``
    """
    weights = (~forbidden_classes(labels.cpu(), excluded_classes, class_count)).float()
    return torch.multinomial(weights, 1, generator=generator).squeeze(1).to(labels.device)


def given_labels(method: str, labels: int | Sequence[int], allowed: Tensor) -> Tensor:
    """The labels that forget samples are to get, as a user gave them.

    Parameters
    ----------
    method : str
        Whose, for the message.
    labels : int or sequence of int
        One for all samples, or one each.
    allowed : Tensor of shape (n, classes), bool
        On the CPU.

    Returns
    -------
    Tensor of shape (n,), int64

    Raises
    ------
    InvalidParameterError
        If their number is another, or one is not allowed for its sample.
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


def guard_labels_of(outcome: Outcome, forget: Samples, excluded_classes: Collection[int]) -> Tensor:
    """What repair guards forget samples with: the method's labels, or else the model's own answer among other classes.

    Parameters
    ----------
    outcome : Outcome
        Of a method on ``forget``.
    forget : Samples
        Under the labels that they were trained with.
    excluded_classes : collection of int
        Classes that no sample may get.

    Returns
    -------
    Tensor of shape (n,), int64, on the CPU
    """
    if outcome.guard_labels is not None:
        return outcome.guard_labels
    return nearest_allowed(predict_logits(outcome.model, forget), forget.labels.cpu(), excluded_classes)
