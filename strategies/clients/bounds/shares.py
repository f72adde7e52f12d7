"""No client alone: one client's part of a sum, of samples or of weights, is at most a share that the plan sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

Number = TypeVar("Number", int, float)

SHARE_OF_TWO = 0.9
"""Largest share of one of two clients. Unless both have the same, the larger one has more than half of everything."""


def largest_part(parts: Sequence[float], share: float) -> float | None:
    """The largest part that no part may exceed, for each to be at most a share of the sum of all.

    Parameters
    ----------
    parts : sequence of float
        Parts of the sum, each at least 0.
    share : float in (0, 1]
        Largest share of the sum. Where there are two parts, at least :data:`SHARE_OF_TWO` is allowed.

    Returns
    -------
    float or None
        None where all parts are within the share already, and where there is one part alone. Where there are too few
        parts for the share, the smallest of them: then all are equal.
    """
    present = sorted((part for part in parts if part > 0), reverse=True)
    share = max(share, SHARE_OF_TWO) if len(present) == 2 else share
    if len(present) < 2 or present[0] <= share * sum(present):
        return None
    for count in range(1, len(present)):
        rest = sum(present[count:])
        bound = share * rest / (1 - share * count) if share * count < 1 else present[count - 1]
        if present[count] <= bound:
            return bound
    return present[-1]


def bounded_parts(parts: Mapping[str, Number], share: float) -> dict[str, Number]:
    """The parts, those that exceed the share lowered to it; all others stay as they are.

    Parameters
    ----------
    parts : mapping of str to int or float
        Part of each client, by client. Integers stay integers.
    share : float in (0, 1]
    """
    bound = largest_part(list(parts.values()), share)
    if bound is None:
        return dict(parts)
    return {client: part if part <= bound else type(part)(bound) for client, part in parts.items()}


def scaled_counts(counts: Sequence[int], total: int) -> tuple[int, ...]:
    """Counts in the same proportions that add up to a smaller total.

    A count above 0 stays above 0 while the total allows it: a class with few samples does not vanish.

    Parameters
    ----------
    counts : sequence of int
    total : int
        The smaller total, from 0 to the sum of the counts.
    """
    whole = sum(counts)
    if total >= whole:
        return tuple(counts)
    least = [int(count > 0) for count in counts] if total >= sum(count > 0 for count in counts) else [0] * len(counts)
    scaled = [max(count * total // whole, low) for count, low in zip(counts, least, strict=True)]
    order = sorted(range(len(counts)), key=lambda index: (-(counts[index] * total % whole), index))
    for index in order:
        if sum(scaled) < total and scaled[index] < counts[index]:
            scaled[index] += 1
    while sum(scaled) > total:
        scaled[max(range(len(scaled)), key=lambda index: scaled[index])] -= 1
    return tuple(scaled)


def scaled_hits(correct: int, total: int, new_total: int) -> int:
    """How many of fewer samples are right, in the same proportion."""
    return (2 * correct * new_total + total) // (2 * total) if total else 0
