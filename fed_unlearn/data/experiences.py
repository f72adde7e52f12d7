"""The classes of class-incremental experiences, and the samples of earlier experiences that are replayed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch

from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.seeding import seeded_generator


def class_split(
    class_count: int, experiences: int, seed: int, class_order: Sequence[int] | None = None
) -> tuple[tuple[int, ...], ...]:
    """Divide the classes among class-incremental experiences.

    Parameters
    ----------
    class_count : int
        Number of classes, which are 0 to ``class_count`` - 1.
    experiences : int
        Number of experiences, from 1 to ``class_count``. If the classes cannot be divided equally, the first
        experiences have one class more.
    seed : int
        Seed of the order of classes if none is given.
    class_order : sequence of int, optional
        Every class once, in the order of arrival.

    Returns
    -------
    tuple of tuples of int
        The classes of each experience in ascending order.

    Raises
    ------
    InvalidParameterError
        If there are more experiences than classes, or the order does not name every class once.
    """
    if not 1 <= experiences <= class_count:
        raise InvalidParameterError(
            f"{experiences} class-incremental experiences of {class_count} classes were asked for; expected 1 to"
            f" {class_count}, at least one class each"
        )
    if class_order is None:
        class_order = torch.randperm(class_count, generator=seeded_generator(seed, "class-order")).tolist()
    if sorted(class_order) != list(range(class_count)):
        raise InvalidParameterError(
            f"class order {list(class_order)} was given; expected every class from 0 to {class_count - 1} once"
        )
    sizes = [class_count // experiences + (number < class_count % experiences) for number in range(experiences)]
    ends = list(accumulate(sizes))
    return tuple(tuple(sorted(class_order[end - size : end])) for size, end in zip(sizes, ends, strict=True))


def replayed(experience: SampleSet, retained: SampleSet, count: int, generator: torch.Generator) -> SampleSet:
    """Choose the retained samples of an earlier experience that are replayed with the current one.

    The order of preference is drawn over all samples of the experience. If a sample is forgotten, the next one takes
    its place and the others stay, so that a request changes nothing else about later training.

    Parameters
    ----------
    experience : SampleSet
        Samples that arrived with the experience, including forgotten ones.
    retained : SampleSet
        The samples among them that may be trained on.
    count : int
        Number of samples to replay, at least 0. If there are fewer, all are replayed.
    generator : torch.Generator
        Source of the draw, on the CPU. It must have the same seed in every round.

    Returns
    -------
    SampleSet
        The chosen samples, in the order of ``experience``.
    """
    order = torch.randperm(len(experience), generator=generator).tolist()
    allowed = set(retained.ids)
    chosen = [index for index in order if experience.ids[index] in allowed][:count]
    return experience.subset(torch.tensor(sorted(chosen), dtype=torch.int64))
