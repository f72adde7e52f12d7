"""Which class a forget sample may be taught to be: never its own, never one that was forgotten before."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from fed_unlearn.data.images import Samples
from fed_unlearn.errors import InvalidDataError
from fed_unlearn.inference import predict_logits
from fed_unlearn.methods.base import Outcome


def require_allowed_labels(method: str, labels: Tensor, excluded_classes: Collection[int], class_count: int) -> None:
    """Refuse a forget set for which some sample has no class left.

    Raises
    ------
    InvalidDataError
        If an excluded class is not an output of the model, or a sample has no other class to go to.
    """
    outside = sorted(label for label in excluded_classes if not 0 <= label < class_count)
    if outside:
        raise InvalidDataError(
            f"{method}: excluded classes {outside} were given; the model has outputs 0 to {class_count - 1}"
        )
    left = set(range(class_count)) - set(excluded_classes)
    if not left or (len(left) == 1 and bool((labels == next(iter(left))).any())):
        raise InvalidDataError(
            f"{method}: classes {sorted(excluded_classes)} of {class_count} are excluded, which leaves samples"
            " of the forget set no class but their own"
        )


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
    allowed = logits.scatter(1, labels.unsqueeze(1), -torch.inf)
    if excluded_classes:
        columns = torch.tensor(sorted(excluded_classes), device=logits.device)
        allowed = allowed.index_fill(1, columns, -torch.inf)
    return allowed.argmax(dim=1)


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
    weights = torch.ones(len(labels), class_count)
    weights[:, sorted(excluded_classes)] = 0
    weights.scatter_(1, labels.cpu().unsqueeze(1), 0)
    return torch.multinomial(weights, 1, generator=generator).squeeze(1).to(labels.device)


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
