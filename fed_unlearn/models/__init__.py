"""Image classifiers by name. Their first layer normalises pixels."""

from fed_unlearn.models.build import build_model, checkpoint_parameters, last_linear
from fed_unlearn.models.networks import AllCNN, Normalize, SmallCNN
from fed_unlearn.models.weights import load_checkpoint, save_checkpoint

__all__ = [
    "AllCNN",
    "Normalize",
    "SmallCNN",
    "build_model",
    "checkpoint_parameters",
    "last_linear",
    "load_checkpoint",
    "save_checkpoint",
]
