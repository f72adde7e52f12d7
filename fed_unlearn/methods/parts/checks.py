"""Whether a method's model and samples fit each other; everything is refused before any training."""

from __future__ import annotations

from collections.abc import Collection
from numbers import Integral

import torch
from torch import Tensor, nn

from fed_unlearn.data.images import Samples
from fed_unlearn.errors import InvalidDataError, InvalidModelError
from fed_unlearn.logits import predict_logits


def class_count_of(method: str, model: nn.Module, samples: Samples) -> int:
    """How many outputs a model has, tried on the first sample.

    Raises
    ------
    InvalidModelError
        If it takes no such images, or gives something other than logits of shape (1, classes).
    """
    try:
        logits = predict_logits(model, samples.subset(torch.tensor([0])))
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise InvalidModelError(
            f"{method}: the model gives no logits for a float32 image of shape {samples.image_shape}"
            f" ({str(error).splitlines()[0]}); one that does was expected"
        ) from error
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise InvalidModelError(
            f"{method}: the model gave outputs of shape {tuple(logits.shape)} for one image; logits of shape"
            " (1, classes) were expected, of two classes at least"
        )
    return logits.shape[1]


def check_samples(method: str, kind: str, samples: Samples, shape: tuple[int, int, int], class_count: int) -> None:
    """Refuse samples of another image shape than the forget set's, and labels that are not outputs of the model.

    Raises
    ------
    InvalidDataError
        Naming the ``kind`` of the samples, what was given and what was expected.
    """
    if samples.image_shape != shape:
        raise InvalidDataError(
            f"{method}: {kind} images of shape {samples.image_shape} were given; expected {shape}, that of the"
            " forget set"
        )
    outside = sorted({int(label) for label in samples.labels.unique() if not 0 <= label < class_count})
    if outside:
        raise InvalidDataError(
            f"{method}: {kind} labels {outside} were given; the model has outputs 0 to {class_count - 1}"
        )


def check_excluded(method: str, excluded_classes: Collection[int], class_count: int) -> None:
    """Refuse excluded classes that are not outputs of the model.

    Raises
    ------
    InvalidDataError
        Naming them.
    """
    if not isinstance(excluded_classes, Collection) or isinstance(excluded_classes, str):
        raise InvalidDataError(
            f"{method}: excluded_classes = {excluded_classes!r} was given; expected a collection of classes, such as"
            " {3}"
        )
    outside = [label for label in excluded_classes if not isinstance(label, Integral) or not 0 <= label < class_count]
    if outside:
        raise InvalidDataError(
            f"{method}: excluded classes {outside} were given; the model has outputs 0 to {class_count - 1}"
        )


def check_classes_left(method: str, labels: Tensor, excluded_classes: Collection[int], class_count: int) -> None:
    """Refuse a forget set for which some sample has no class left.

    Raises
    ------
    InvalidDataError
        If a sample has no other class to go to.
    """
    left = set(range(class_count)) - set(excluded_classes)
    if not left or (len(left) == 1 and bool((labels == next(iter(left))).any())):
        raise InvalidDataError(
            f"{method}: classes {sorted(excluded_classes)} of {class_count} are excluded, which leaves samples"
            " of the forget set no class but their own"
        )
