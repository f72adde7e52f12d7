"""Division of training samples among clients by any partitioner of flwr-datasets, by name."""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.seeding import derive_seed, seeded_generator
from fed_unlearn.text import quoted

# Vertical partitioners divide columns, not samples. IdToSizeFnc takes a function; linear, square and exponential are
# instances of it.
NOT_BY_NAME = frozenset({"Partitioner", "IdToSizeFncPartitioner", "VerticalEvenPartitioner", "VerticalSizePartitioner"})
SET_HERE = ("num_partitions", "seed")
LABEL_COLUMN = "label"
INDEX_COLUMN = "index"


def partitioner_names() -> tuple[str, ...]:
    """Names that :func:`partition_indices` accepts, such as ``dirichlet``, ``iid`` and ``inner-dirichlet``."""
    return tuple(sorted(_partitioners()))


def partition_indices(
    labels: Tensor,
    count: int,
    *,
    name: str = "iid",
    parameters: Mapping[str, object] | None = None,
    seed: int = 0,
) -> tuple[Tensor, ...]:
    """Divide samples among clients with a partitioner of flwr-datasets.

    Parameters
    ----------
    labels : Tensor of shape (n,), int64
        Label of each sample.
    count : int
        Number of clients.
    name : str, default "iid"
        The partitioner's class name without ``Partitioner``, in lower case with dashes.
    parameters : mapping of str to object, optional
        Arguments of its constructor. ``-`` and ``_`` mean the same. The default of ``partition_by`` is the label, that
        of ``partition_sizes`` equal sizes.
    seed : int, default 0
        Seed of the partition. The same seed gives the same partition. Samples are shuffled first, so that partitioners
        without randomness depend on the seed too.

    Returns
    -------
    tuple of ``count`` Tensors, int64
        Positions of each client's samples in ascending order. No position occurs twice.

    Raises
    ------
    InvalidParameterError
        If the partitioner or a parameter is unknown, or the partitioner cannot divide these samples.
    """
    import datasets

    if count < 1 or count > len(labels):
        raise InvalidParameterError(f"clients: {count} were given; expected 1 to {len(labels)}, the number of samples")
    partitioner_class = _partitioner_class(name)
    keywords = _keywords(name, partitioner_class, parameters or {}, count, len(labels), seed)
    order = torch.randperm(len(labels), generator=seeded_generator(seed, "partition-order"))
    columns = {LABEL_COLUMN: labels[order].numpy(), INDEX_COLUMN: order.numpy()}
    try:
        with quiet_datasets(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            partitioner = partitioner_class(**keywords)
            partitioner.dataset = datasets.Dataset.from_dict(columns)
            found = partitioner.num_partitions
            parts = [partitioner.load_partition(client) for client in range(found)] if found == count else []
            indices = [np.asarray(part.with_format("numpy")[INDEX_COLUMN][:]) for part in parts]
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, ZeroDivisionError) as error:
        raise InvalidParameterError(_explanation(name, keywords, count, len(labels), error)) from error
    if found != count:
        raise InvalidParameterError(
            f"partition {quoted(name)} makes {found} clients of this data; {count} were asked for"
        )
    return tuple(torch.from_numpy(np.sort(part.astype(np.int64))) for part in indices)


def _partitioners() -> dict[str, Callable[..., Any]]:
    from flwr_datasets import partitioner

    found = {}
    for class_name in partitioner.__all__:
        if class_name not in NOT_BY_NAME:
            stem = class_name.removesuffix("Partitioner")
            found[re.sub(r"(?<=[a-z])(?=[A-Z])", "-", stem).lower()] = getattr(partitioner, class_name)
    return found


def _partitioner_class(name: str) -> Callable[..., Any]:
    known = _partitioners()
    if name not in known:
        raise InvalidParameterError(f"partition {quoted(name)} is unknown; expected one of {', '.join(sorted(known))}")
    return known[name]


def _keywords(
    name: str,
    partitioner_class: Callable[..., Any],
    parameters: Mapping[str, object],
    count: int,
    size: int,
    seed: int,
) -> dict[str, object]:
    accepted = inspect.signature(partitioner_class).parameters
    given = {key.replace("-", "_"): value for key, value in parameters.items()}
    allowed = [key for key in accepted if key not in SET_HERE]
    for key in given:
        if key not in allowed:
            raise InvalidParameterError(
                f"partition {quoted(name)} has no parameter {quoted(key)}; it takes {', '.join(allowed) or 'none'}"
            )
    defaults: dict[str, object] = {
        "num_partitions": count,
        "seed": derive_seed(seed, "partition") % 2**32,
        "partition_by": LABEL_COLUMN,
        "partition_sizes": [size // count + (client < size % count) for client in range(count)],
    }
    keywords = {key: value for key, value in defaults.items() if key in accepted} | given
    missing = [
        key
        for key, parameter in accepted.items()
        if parameter.default is inspect.Parameter.empty and key not in keywords
    ]
    if missing:
        raise InvalidParameterError(f"partition {name!r} needs the parameter {missing[0]!r}")
    if isinstance(keywords.get("distribution_array"), list):
        keywords["distribution_array"] = np.array(keywords["distribution_array"])
    return keywords


def _explanation(name: str, keywords: Mapping[str, object], count: int, size: int, error: Exception) -> str:
    hidden = ("num_partitions", "seed", "partition_by", "partition_sizes", "distribution_array")
    given = ", ".join(f"{key}={quoted(value)}" for key, value in keywords.items() if key not in hidden)
    reason = " ".join(str(error).split()) or type(error).__name__
    advice = ""
    if name == "dirichlet" and "attempts" in reason:
        least = keywords.get("min_partition_size", 10)
        advice = (
            f": every client must get at least {least} samples; give a smaller min_partition_size or a larger alpha"
        )
    return f"partition {quoted(name)} ({given}) cannot divide {size} samples among {count} clients{advice} ({reason})"


@contextmanager
def quiet_datasets() -> Iterator[None]:
    """No progress bars of ``datasets`` inside; the user's setting back afterwards."""
    import datasets

    were_disabled = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not were_disabled:
            datasets.enable_progress_bars()
