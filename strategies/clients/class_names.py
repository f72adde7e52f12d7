"""What clients call the classes of their data, and what of it stands in the ledger."""

from __future__ import annotations

import logging
from collections import Counter

from flwr.app import Message

from fed_unlearn import protocol
from fed_unlearn.class_names import ClassNames
from fed_unlearn.ledger import Ledger
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.scopes import classes_named
from fed_unlearn.strategies.clients.messages.exchange import Roster
from fed_unlearn.text import quoted

logger = logging.getLogger("fed_unlearn.strategies")

_FEWEST = 2
"""Minimum number of clients that must say the same, so that no single client names the classes for all."""


def keep_told_names(roster: Roster, client: str, reply: Message) -> None:
    """Keep in the roster what a client calls the classes, on its reply to ``query.identify``.

    It takes part whatever it says of them.
    """
    names, problem = protocol.read_class_names(reply, roster.class_count)
    if problem is not None:
        logger.warning("client %s: its names of classes are not used: %s", client, problem)
    roster.class_names.pop(client, None)
    if names is not None:
        roster.class_names[client] = names


def note_class_names(ledger: Ledger, roster: Roster) -> None:
    """Write down what the classes are called, once more than half of those that are there, and two, say the same.

    Names are not needed: without any, classes go by their index. Names that are known stay, and who says others is
    shown.
    """
    told = {client: roster.class_names.get(client) for client in roster.clients.values()}
    known = ledger.class_names()
    if not known.names:
        names, count = Counter(told.values()).most_common(1)[0] if told else (None, 0)
        if names is None or count < _FEWEST or 2 * count <= len(told):
            return
        known = ClassNames(names)
        ledger.name_classes(names)
        _hold_what_came_before(ledger, known)
    for client, names in told.items():
        if names is not None and names != known.names:
            index = next(index for index, name in enumerate(names) if known.labels([index]) != [name])
            logger.warning(
                "client %s calls class %d %s, and the ledger %s; its labels may mean other classes",
                *(client, index, quoted(names[index]), quoted(known.labels([index])[0])),
            )


def _hold_what_came_before(ledger: Ledger, names: ClassNames) -> None:
    """Say what the classes are called, and hold requests that may have meant labels by their numbers."""
    renumbering = names.renumbering()
    logger.info("classes: %s", renumbering or names.allowed())
    for entry in ledger.pending() if renumbering is not None else ():
        classes = classes_named(entry.request.scope)
        if not classes or entry.status is not Status.RECEIVED or entry.attempt or entry.approved:
            continue
        reason = (
            "it came before the labels of the classes were known, and its number is the index of class"
            f" {names.listed(classes)}; approve it where that is meant, else withdraw it and ask anew"
        )
        logger.warning("request %s is held: %s", entry.id, reason)
        ledger.advance(entry.id, Status.HELD, attempt=0, reason=reason)
