"""What a model says of some images: the classes that it calls them by, and its penultimate features."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from fed_unlearn.audits.layers import model_outputs, output_layer
from fed_unlearn.data.images import ImageSet
from fed_unlearn.errors import InvalidModelError
from fed_unlearn.logits import predict_logits

logger = logging.getLogger("fed_unlearn.simulations")


@dataclass(frozen=True)
class Look:
    """What a model says of some images, in their order.

    Attributes
    ----------
    called : ndarray of shape (n,), int64
        The class with the largest output, over all outputs.
    outputs : int
        Number of outputs.
    features : ndarray of shape (n, features), float64, or None
        The inputs of the output layer, as audits read them. None where they cannot be read.
    """

    called: NDArray[np.int64]
    outputs: int
    features: NDArray[np.float64] | None

    def counts(self, places: NDArray[np.int64]) -> tuple[int, ...]:
        """Number of images at some places by the class that the model calls them by."""
        return tuple(np.bincount(self.called[places], minlength=self.outputs).tolist())


def look_at(model: nn.Module, images: ImageSet, name: str) -> Look:
    """Ask a model about images, at least one, in one pass.

    Parameters
    ----------
    model : nn.Module
        The model. It is not changed.
    images : ImageSet
    name : str
        What the log calls the look where features cannot be read.
    """
    features: NDArray[np.float64] | None = None
    try:
        logits, _, penultimate = model_outputs(model, images, output_layer("views", model, images))
    except InvalidModelError as error:
        logger.info("%s: no projection of its features: %s", name, error)
        logits = predict_logits(model, images).cpu()
    else:
        features = penultimate.double().numpy()
        if not np.isfinite(features).all():
            logger.info("%s: no projection of its features: some are not finite numbers", name)
            features = None
    return Look(logits.argmax(1).numpy(), logits.shape[1], features)
