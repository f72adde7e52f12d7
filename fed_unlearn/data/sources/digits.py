"""scikit-learn's handwritten digits: 1,797 grey images of 8x8 pixels, no download."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fed_unlearn.data.clients import ImageSource
from fed_unlearn.data.sources.base import Source, make_source, register, split_part


@register("digits")
@dataclass(frozen=True, kw_only=True)
class Digits(Source):
    """scikit-learn's handwritten digits as float32 in [0, 1]; ids are positions in its data, in both parts."""

    def load(self) -> ImageSource:
        """Split the digits into a training and a test part."""
        from sklearn import datasets

        bunch = datasets.load_digits()
        images = torch.from_numpy(bunch.images).to(torch.float32).div_(16).unsqueeze(1)
        labels = torch.from_numpy(bunch.target).to(torch.int64)
        parts = split_part((images, labels, [str(index) for index in range(len(labels))]), self.test_fraction)
        return make_source(*parts, [str(digit) for digit in range(10)], self.where, image_size=self.image_size)
