"""When a client's training samples arrive: the training experiences of a continual federation.

The two ways of dividing samples are those of the continual-learning literature (Lomonaco et al., 2021, "Avalanche: an
end-to-end library for continual learning"): class-incremental, where each experience brings new classes, and
new-instances, where each brings new samples of all classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate

import torch
from torch import Tensor

from fed_unlearn.data.images import ImageSet
from fed_unlearn.errors import InvalidDataError, InvalidParameterError
from fed_unlearn.seeding import seeded_generator

Assignment = Callable[[Tensor, Sequence[str]], Tensor]
"""From labels (n,) and ids of a client's training samples to the number, from 1, of each one's experience (n,)."""


def class_split(
    class_count: int, experiences: int, seed: int, class_order: Sequence[int] | None = None
) -> tuple[tuple[int, ...], ...]:
    """The classes that each experience brings: the same for every client of a federation.

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


def class_incremental(
    labels: Tensor, class_count: int, experiences: int, seed: int, class_order: Sequence[int] | None = None
) -> Tensor:
    """Experience numbers where each experience brings new classes.

    Parameters
    ----------
    labels : Tensor of shape (n,), int64
        Of one client's training samples; it need not hold all classes.
    class_count, experiences, seed, class_order
        As :func:`class_split` takes them.

    Returns
    -------
    Tensor of shape (n,), int64
        From 1 to ``experiences``.

    Raises
    ------
    InvalidDataError
        If a label is not one of the classes.
    InvalidParameterError
        As :func:`class_split` does.
    """
    number_of = torch.zeros(class_count, dtype=torch.int64)
    for number, classes in enumerate(class_split(class_count, experiences, seed, class_order), start=1):
        number_of[list(classes)] = number
    if len(labels) and not (int(labels.min()) >= 0 and int(labels.max()) < class_count):
        raise InvalidDataError(
            f"labels from {int(labels.min())} to {int(labels.max())} were given; expected 0 to {class_count - 1}"
        )
    return number_of[labels]


def new_instances(count: int, experiences: int, seed: int, client: str | int) -> Tensor:
    """Experience numbers where each experience brings an equal random share of a client's samples, of any class.

    Parameters
    ----------
    count : int
        Training samples of the client, at least 0.
    experiences : int
        At least 1. Where they do not divide the samples, the first ones bring one sample more.
    seed : int
        Of the draw, together with the client.
    client : str or int
        Which client this is.

    Returns
    -------
    Tensor of shape (count,), int64
        From 1 to ``experiences``.

    Raises
    ------
    InvalidParameterError
        If there is no experience.
    """
    if experiences < 1:
        raise InvalidParameterError(f"{experiences} experiences were asked for; expected at least 1")
    shuffled = torch.randperm(count, generator=seeded_generator(seed, "new-instances", client))
    numbers = torch.empty(count, dtype=torch.int64)
    numbers[shuffled] = torch.arange(count) % experiences + 1
    return numbers


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
