"""Made images: one Gaussian blob of images for each class, of any number. No download, and the same everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from fed_unlearn.data.clients import ImageSource
from fed_unlearn.data.sources.base import Source, make_source, register, split_part
from fed_unlearn.errors import InvalidDataError
from fed_unlearn.seeding import seeded_generator

CLASS_COUNT = 10
DEFAULT_SIZE = (8, 8)
SPREAD = 0.25
"""Standard deviation of the pixels of one class around the class's own image."""

_LARGEST = 2**31


@register("synthetic")
@dataclass(frozen=True, kw_only=True)
class Synthetic(Source):
    """So many grey images of ten classes, as float32 in [0, 1]; for measuring how a federation of any size runs.

    Every class has an image of its own, of uniform noise. A sample is the image of its class with Gaussian noise on
    every pixel, cut to [0, 1]. Classes take turns. The images are 8 x 8 unless ``image_size`` says otherwise, and the
    same number and size give the same images.
    """

    place_is: ClassVar[str] = "COUNT"

    def load(self) -> ImageSource:
        """Make the images, and split them into a training and a test part."""
        if not self.place.isdecimal() or not 2 * CLASS_COUNT <= int(self.place) < _LARGEST:
            raise InvalidDataError(
                f"{self.where}: {self.place!r} was given; expected a whole number of images from {2 * CLASS_COUNT}"
            )
        count, (height, width) = int(self.place), self.image_size or DEFAULT_SIZE
        generator = seeded_generator("synthetic", count, height, width)
        labels = torch.arange(count) % CLASS_COUNT
        centres = torch.rand((CLASS_COUNT, 1, height, width), generator=generator)
        images = torch.randn((count, 1, height, width), generator=generator).mul_(SPREAD).add_(centres[labels])
        ids = [str(index) for index in range(count)]
        train, test = split_part((images.clamp_(0, 1), labels, ids), self.test_fraction)
        return make_source(train, test, [str(label) for label in range(CLASS_COUNT)], self.where)
