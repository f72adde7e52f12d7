"""The classes of class-incremental experiences, and what is replayed of earlier ones."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch

from fed_unlearn.data.images import ImageSet
from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.seeding import seeded_generator


def class_split(
    class_count: int, experiences: int, seed: int, class_order: Sequence[int] | None = None
) -> tuple[tuple[int, ...], ...]:
    """The classes that each class-incremental experience brings.

    Parameters
    ----------
    class_count : int
        Classes are 0 to ``class_count`` - 1.
    experiences : int
        In 1 to ``class_count``. Where they do not divide the classes, the first ones bring one class more.
    seed : int
        Of the order of classes where none is given.
    class_order : sequence of int, optional
        Every class once, in the order in which they arrive.

    Returns
    -------
    tuple of tuples of int
        One entry an experience, its classes in ascending order.

    Raises
    ------
    InvalidParameterError
        If there are more experiences than classes, or the order is not one of all classes.
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


def replayed(experience: ImageSet, retained: ImageSet, count: int, generator: torch.Generator) -> ImageSet:
    """The retained samples of an earlier experience that are trained on again beside those of the current one.

    The order of preference is drawn over all samples of the experience. When one is forgotten, the next takes its place
    and the others stay, so that a request changes nothing else about later training.

    Parameters
    ----------
    experience : ImageSet
        All samples that arrived with it, forgotten ones included.
    retained : ImageSet
        Those among them that may be trained on.
    count : int
        How many are wanted, at least 0; all where there are fewer.
    generator : torch.Generator
        On the CPU, seeded alike in every round.

    Returns
    -------
    ImageSet
        In the order of ``experience``.
    """
    order = torch.randperm(len(experience), generator=generator).tolist()
    allowed = set(retained.ids)
    chosen = [index for index in order if experience.ids[index] in allowed][:count]
    return experience.subset(torch.tensor(sorted(chosen), dtype=torch.int64))
