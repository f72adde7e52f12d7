"""What of the changes of a training round counts."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fed_unlearn.arrays import Arrays, clipped, difference, longest_usual, norm, untrained
from fed_unlearn.strategies.clients.bounds.changes import (
    AGAINST,
    against_others,
    bounds_in_training,
    longest_of_others,
)
from fed_unlearn.strategies.clients.replies import UsableReply, with_arrays
from fed_unlearn.strategies.inner.statistics import bounded_statistics

logger = logging.getLogger("fed_unlearn.strategies")


@dataclass(frozen=True)
class BoundedReplies:
    """The replies of a round as they count.

    Attributes
    ----------
    replies : list of UsableReply
    norms : tuple of float
        Length of each client's change, once scaled down, in the order of ``replies``.
    longest : float
        The longest change of the training so far that is not the longest of its round.
    against : dict of str to str
        Why a client's reply does not count, by client.
    """

    replies: list[UsableReply]
    norms: tuple[float, ...]
    longest: float
    against: dict[str, str] = field(default_factory=dict)


def bounded_replies(
    base: Arrays,
    replies: Sequence[UsableReply],
    held: Mapping[str, Sequence[int]],
    factor: float | None,
    usual_norm: float | None,
    longest: float,
) -> BoundedReplies:
    """The replies, changes and statistics that are absurdly long scaled down, without those that oppose all others.

    Parameters
    ----------
    base : dict of ndarray
        The model that the round starts from.
    replies : sequence of UsableReply
    held : mapping of str to sequence of int
        Number of samples of each class that a client identified itself with, by client.
    factor : float or None
        Greatest length of a change as a multiple of the usual one, as ``max_norm_factor`` of
        :class:`~fed_unlearn.strategies.training.trainer.Trainer`; None for no bound.
    usual_norm : float or None
        Median norm of the last round.
    longest : float
        The longest change so far, as the round before gave it; 0 at first.
    """
    changes = {reply.client: difference(reply.arrays, base) for reply in replies}
    lengths = {client: norm(change) for client, change in changes.items()}
    norms = list(lengths.values())
    if factor is None:
        return BoundedReplies(list(replies), tuple(norms), longest)
    against = dict.fromkeys(against_others(changes, held, lengths), AGAINST)
    if against:
        replies = [reply for reply in replies if reply.client not in against]
        norms = [lengths[reply.client] for reply in replies]
    usual = longest_usual(norms, factor, usual_norm)
    bounds = [min(usual, bound) for bound in bounds_in_training(norms, longest)]
    bounded = list(replies)
    for index, (reply, bound) in enumerate(zip(replies, bounds, strict=True)):
        if norms[index] > bound:
            text = "client %s: its change is %.3g long, over %.3g; it is scaled down"
            logger.warning(text, reply.client, norms[index], bound)
            bounded[index] = with_arrays(reply, clipped(reply.arrays, base, bound))
            norms[index] = bound
    if untrained(base):
        models = bounded_statistics({reply.client: reply.arrays for reply in bounded}, base, factor)
        kept = [(reply, models[reply.client]) for reply in bounded]
        bounded = [reply if arrays is reply.arrays else with_arrays(reply, arrays) for reply, arrays in kept]
    return BoundedReplies(bounded, tuple(norms), longest_of_others(norms, longest), against)
