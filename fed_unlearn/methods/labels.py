"""Which class a forget sample may be taught to be: never its own, never one that was forgotten before."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from fed_unlearn.errors import InvalidDataError


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
