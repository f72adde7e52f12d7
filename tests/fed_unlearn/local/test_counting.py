"""What is counted of a model on one machine, beside counts by hand, and what it costs."""

from __future__ import annotations

import torch
from torch import nn

from fed_unlearn.data.images import ImageSet
from fed_unlearn.local.counting import Counting
from fed_unlearn.local.samples import LocalSamples
from fed_unlearn.requests import ForgetRequest

LABELS = [0, 0, 1, 1, 2]


def images(labels: list[int]) -> ImageSet:
    """Images of 1 x 1 x 3 whose brightest pixel is their label, but for the first, which has that of class 2."""
    pixels = torch.zeros(len(labels), 1, 1, 3)
    for index, label in enumerate(labels):
        pixels[index, 0, 0, 2 if index == 0 else label] = 1.0
    return ImageSet(pixels, torch.tensor(labels, dtype=torch.int64), tuple(str(index) for index in range(len(labels))))


def counting(validation: list[int]) -> Counting:
    samples = LocalSamples(forget=images([0, 0]), retained=images(LABELS), validation=images(validation))
    return Counting(
        request=ForgetRequest.for_class(0),
        samples=samples,
        original=nn.Flatten(),
        left_out=frozenset({0}),
        client="0",
        seed=0,
    )


def test_samples_are_counted_by_class_and_each_is_one_forward_pass() -> None:
    made = counting(LABELS)
    counts = made.class_counts(nn.Flatten(), images(LABELS))
    assert counts.accuracy() == 4 / 5 and counts.accuracy(only=(0,)) == 1 / 2 and counts.accuracy(without={0}) == 1.0
    assert (made.passes.forward, made.passes.backward) == (5, 0)
    made.request_counts(nn.Flatten())
    assert made.passes.forward == 5 + 2 + 5  # the forget samples, and those for validation


def test_the_gate_looks_at_samples_for_validation_or_else_at_retained_ones() -> None:
    with_some, without = counting([1, 2]), counting([])
    assert with_some.judged_by is with_some.samples.validation
    assert without.judged_by is without.samples.retained
    assert with_some.classes == (0,)
