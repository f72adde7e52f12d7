"""scikit-learn's handwritten digits: 1,797 grey images of 8x8 pixels, no download."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fed_unlearn.data.image_source import ImageSource
from fed_unlearn.data.sources.base import Source, fingerprint_of, make_source, register, resized, stable_split


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
        ids = [str(index) for index in range(len(labels))]
        train, test = (
            (images[part], labels[part], [ids[index] for index in part.tolist()])
            for part in stable_split(ids, labels, self.test_fraction)
        )
        return make_source(
            (resized(train[0], self.image_size), *train[1:]),
            (resized(test[0], self.image_size), *test[1:]),
            [str(digit) for digit in range(10)],
            fingerprint_of([train[0], test[0]], [train[1], test[1]], [train[2], test[2]]),
            self.where,
        )
