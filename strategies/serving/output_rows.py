"""Which rows of a candidate's output layer are set before it is committed, by what clients say of their model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from fed_unlearn.audits.pooled import classes_of
from fed_unlearn.methods.registry import METHODS
from fed_unlearn.output_rows import OutputRows
from fed_unlearn.shapes import shapes_of
from fed_unlearn.strategies.context import CallContext
from fed_unlearn.strategies.methods_by_name import is_server_method
from fed_unlearn.strategies.server_methods.registry import SERVER_METHODS
from fed_unlearn.strategies.serving.attempts.attempt import Attempt


def agreed_rows(context: CallContext) -> OutputRows | None:
    """The arrays that more than half of the clients that are there name as their model's output layer.

    A client that names arrays which cannot be one is named, and counts for nothing.

    Parameters
    ----------
    context : CallContext
        What the call works with, its clients identified.

    Returns
    -------
    OutputRows or None
        None where no arrays are named by more than half.
    """
    roster, shapes = context.grid.roster, shapes_of(context.served.arrays)
    told: Counter[OutputRows | None] = Counter()
    for client in roster.staying.values():
        rows = roster.output_rows.get(client)
        problem = rows.misfit(shapes, roster.class_count) if rows is not None else None
        if problem is None:
            told[rows] += 1
        else:
            context.grid.name(client, problem)
    most = max((rows for rows in told if rows is not None), key=lambda rows: told[rows], default=None)
    return most if 2 * told[most] > told.total() else None


def is_exact(method: str) -> bool:
    """Whether a method gives the model of a training without the samples, whose rows say nothing of them."""
    return SERVER_METHODS.find(method).is_retraining if is_server_method(method) else METHODS.find(method).is_exact


def means_of(attempt: Attempt, accepted: Collection[str]) -> dict[int, tuple[int, ...]]:
    """The classes of accepted class requests and of earlier ones, and those whose rows each gets the mean of.

    These are the retained ones: forgotten neither by the requests of the attempt, accepted or not, nor by earlier ones,
    and not still to arrive. Rows of earlier classes are set again, since they hold a share of the rows that are
    forgotten now: with the others they would give these back. There is nothing to set where the method is exact, or
    where fewer than two classes are left: the mean of one row is that row, and both classes would have the same logit.

    Parameters
    ----------
    attempt : Attempt
    accepted : collection of str
        Ids of those of its requests that are accepted.
    """
    if attempt.order.scope != "class" or is_exact(attempt.method_name):
        return {}
    gone = set(attempt.order.excluded_classes)
    left = tuple(index for index in range(attempt.context.grid.roster.class_count) if index not in gone)
    set_anew = {index for request in attempt.requests if request.id in accepted for index in classes_of(request)}
    if set_anew:
        set_anew |= attempt.context.ledger.forgotten_classes()
    return dict.fromkeys(sorted(set_anew), left) if len(left) > 1 else {}
