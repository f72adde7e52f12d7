"""Which changes of a round are bounded by those of the others: by their length, and by where they lead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fed_unlearn.arrays import Arrays, norm

AGAINST = "its change leads against those of all others, which agree; it does not count"
"""Why a change is not used."""

LONGEST_IN_REPAIR = 3.0
"""Greatest length of a change in repair, as a multiple of the longest of the others.

Where clients are honest the longest change is at most 2.9 times the second in repair rounds of the built-in scenarios,
and in rounds of methods of the server.
"""

_LONGEST_IN_TRAINING, _LONGEST_AT_FIRST = 3.0, 6.0
_OPPOSED, _AGREED = -0.15, 0.2
"""Cosines of single changes, and the mean one of those of the others.

Each honest client of the built-in scenarios has another one with a cosine over -0.07. Where clients' classes are
disjoint all cosines go down to -0.3, so that the others do not agree.
"""
_FEWEST = 3


def bounds_by_others(norms: Sequence[float], factor: float, known: float = 0.0) -> list[float]:
    """For each change, ``factor`` times the longest of the others; no bound where there are fewer than three.

    Parameters
    ----------
    norms : sequence of float
    factor : float
    known : float
        A length that earlier rounds have shown to be usual; it counts as one of the others.
    """
    if len(norms) < _FEWEST:
        return [float("inf")] * len(norms)
    second, first = sorted(norms)[-2:]
    return [factor * max(second if norm == first else first, known) for norm in norms]


def bounds_in_training(norms: Sequence[float], known: float) -> list[float]:
    """The bounds in a training round; the first one of a training shows what is usual.

    Late in a training the changes of most clients are short, and an honest one that has still to learn is up to 12
    times as long as all others. It is never longer than 2.3 times the longest that any other one was so far. A change
    longer than three times that counts as the longest of the others in its round: those grow with what they mend. In
    the first round an honest change is never longer than 2.6 times the longest of the others, and six times is the
    bound.

    Parameters
    ----------
    norms : sequence of float
    known : float
        The longest change so far, as :func:`longest_of_others` gave it after the round before; 0 at first.
    """
    if known <= 0:
        return bounds_by_others(norms, _LONGEST_AT_FIRST)
    limits, others = bounds_by_others(norms, _LONGEST_IN_TRAINING, known), bounds_by_others(norms, 1.0)
    columns = zip(norms, limits, others, strict=True)
    return [limit if norm <= limit else other for norm, limit, other in columns]


def longest_of_others(norms: Sequence[float], known: float) -> float:
    """The longest change of a training so far that is not the longest of its round.

    Parameters
    ----------
    norms : sequence of float
        Norms of the changes of a round.
    known : float
        The longest such change after the round before; 0 at first.
    """
    return max(known, sorted(norms)[-2]) if len(norms) >= _FEWEST else known


def against_others(
    changes: Mapping[str, Arrays],
    held: Mapping[str, Sequence[int]],
    lengths: Mapping[str, float] | None = None,
) -> list[str]:
    """Clients whose change leads against that of each of the others, where those agree; empty for fewer than three.

    A client that has more samples of some class than all others of the round together is none of them: an honest one
    leads against them in up to every second round.

    Parameters
    ----------
    changes : mapping of str to dict of ndarray
        Change of each client, by client, from :func:`fed_unlearn.arrays.difference`.
    held : mapping of str to sequence of int
        Number of samples of each class, by client.
    lengths : mapping of str to float, optional
        Norms of the changes, by client, where they are known.
    """
    if lengths is None:
        lengths = {client: norm(change) for client, change in changes.items()}
    moving = {client: changes[client] for client, length in lengths.items() if length > 0}
    if len(moving) < _FEWEST:
        return []
    whole = {
        name: np.asarray(sum(np.asarray(change[name], np.float64) / lengths[c] for c, change in moving.items()))
        for name in next(iter(moving.values()))
    }
    count, square = len(moving) - 1, _product(whole, whole)
    found: list[str] = []
    for client, change in moving.items():
        to_others = _product(change, whole) / lengths[client] - 1
        if to_others >= _OPPOSED * count:
            continue
        others = [name for name in moving if name != client]
        if brings_a_class(held.get(client, ()), [held.get(other, ()) for other in others]):
            continue
        agreement = (square - 2 * to_others - 1 - count) / (count * (count - 1))
        if agreement >= _AGREED and all(
            _product(change, moving[other]) < _OPPOSED * lengths[client] * lengths[other] for other in others
        ):
            found.append(client)
    return found


def brings_a_class(own: Sequence[int], others: Sequence[Sequence[int]]) -> bool:
    """Whether a client has more samples of some class than all others together.

    Parameters
    ----------
    own : sequence of int
        The client's number of samples of each class.
    others : sequence of sequence of int
        Number of samples of each class at each of the others.
    """
    return any(
        count > sum(counts[index] for counts in others if index < len(counts)) for index, count in enumerate(own)
    )


def _product(first: Arrays, second: Arrays) -> float:
    return float(sum(np.vdot(np.asarray(first[name], np.float64), second[name]) for name in first))
