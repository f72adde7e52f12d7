"""The training that a server's ledger tells of, read without the rest of what outlives a crash."""

from __future__ import annotations

from fed_unlearn.ledger import Ledger
from fed_unlearn.records import decode
from fed_unlearn.strategies.durable_records import ExperienceRecord, TrainingRecord
from fed_unlearn.strategies.state import Experience


def trained_experiences(ledger: Ledger, *, with_open: bool = True) -> list[Experience]:
    """Every training experience in a ledger that has come to its end, and the rounds that are done of the open one.

    Parameters
    ----------
    ledger : Ledger
        The ledger of a server, which may be at work.
    with_open : bool
        Whether the rounds of the open one are among them.
    """
    ended = [
        Experience(record.rounds, record.config, record.figures, record.changed_configs)
        for record in finished_records(ledger)
    ]
    body = ledger.state("training") if with_open else None
    record = decode(TrainingRecord, body) if body else None
    if record is None or not record.done:
        return ended
    return [*ended, Experience(record.done, record.config, record.figures, record.changed_configs)]


def finished_records(ledger: Ledger) -> list[ExperienceRecord]:
    """The records of the training experiences in a ledger that have come to their end, in order."""
    items = ledger.state("experiences")
    return [decode(ExperienceRecord, item) for item in items] if isinstance(items, list) else []
