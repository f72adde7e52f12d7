from dataclasses import dataclass

import torch

from fed_unlearn.data.sources import Source, make_source


@dataclass(frozen=True, kw_only=True)
class Stripes(Source):
    """Images of horizontal stripes, of vertical stripes, and of both."""

    place_is = "COUNT"

    def load(self):
        generator = torch.Generator().manual_seed(0)

        def part(name, count):
            labels = torch.arange(count) % 3
            images = torch.rand(count, 1, 8, 8, generator=generator) * 0.5
            images[labels != 1, :, ::2, :] = 1
            images[labels != 0, :, :, ::2] = 1
            return images, labels, [f"{name}-{index}" for index in range(count)]

        train, test = part("train", int(self.place)), part("test", 100)
        return make_source(train, test, ["horizontal", "vertical", "both"], self.where, image_size=self.image_size)
