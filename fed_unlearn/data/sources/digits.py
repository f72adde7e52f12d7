"""scikit-learn's handwritten digits: 1,797 grey images of 8x8 pixels, no download."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fed_unlearn.data.clients import ImageSource
from fed_unlearn.data.sources.base import Source, make_source, register, split_part


@register("digits")
@dataclass(frozen=True, kw_only=True)
class Digits(Source):
    """scikit-learn's handwritten digits as float32 in [0, 1]; ids are positions in its data, in both parts."""

    def load(self) -> ImageSource:
        """Split the digits into a training and a test part."""
        images, labels = _read()
        parts = split_part((images, labels, [str(index) for index in range(len(labels))]), self.test_fraction)
        return make_source(*parts, [str(digit) for digit in range(10)], self.where, image_size=self.image_size)


def _read() -> tuple[Tensor, Tensor]:
    """The images and labels of scikit-learn's file. It is read without scikit-learn, whose import takes longer."""
    spec = importlib.util.find_spec("sklearn")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        file = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if file.is_file():
            rows = np.loadtxt(file, delimiter=",")
            return _tensors(rows[:, :-1].reshape(-1, 8, 8), rows[:, -1])
    from sklearn import datasets  # another layout of its files

    bunch = datasets.load_digits()
    return _tensors(bunch.images, bunch.target)


def _tensors(images: NDArray[np.generic], labels: NDArray[np.generic]) -> tuple[Tensor, Tensor]:
    pixels = torch.from_numpy(images).to(torch.float32).div_(16).unsqueeze(1)
    return pixels, torch.from_numpy(labels).to(torch.int64)
