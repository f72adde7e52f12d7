"""Training of a client on its own samples."""

from fed_unlearn.pass_counter import PassCounter
from fed_unlearn.training.local import TrainingSettings, draw_share, flip_and_shift, train_locally

__all__ = ["PassCounter", "TrainingSettings", "draw_share", "flip_and_shift", "train_locally"]
