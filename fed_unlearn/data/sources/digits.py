"""scikit-learn's handwritten digits: 1,797 grey images of 8x8 pixels, no download."""

from __future__ import annotations

import torch

from fed_unlearn.data.sources.base import ImageSource, fingerprint_of, make_source, resized, stable_split


def load_digits(image_size: tuple[int, int] | None, test_fraction: float) -> ImageSource:
    """Digits as float32 in [0, 1]; ids are positions in scikit-learn's data, in both parts."""
    from sklearn import datasets

    bunch = datasets.load_digits()
    images = torch.from_numpy(bunch.images).to(torch.float32).div_(16).unsqueeze(1)
    labels = torch.from_numpy(bunch.target).to(torch.int64)
    ids = [str(index) for index in range(len(labels))]
    train, test = (
        (images[part], labels[part], [ids[index] for index in part.tolist()])
        for part in stable_split(ids, labels, test_fraction)
    )
    return make_source(
        (resized(train[0], image_size), *train[1:]),
        (resized(test[0], image_size), *test[1:]),
        [str(digit) for digit in range(10)],
        fingerprint_of([train[0], test[0]], [train[1], test[1]], [train[2], test[2]]),
        "digits",
    )
