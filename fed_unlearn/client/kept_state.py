"""What a client keeps for itself is put by while a request is attempted, and put back if the attempt is undone.

A client may keep a head, BatchNorm or the like in ``context.state``. Unlearning, repair and retraining change it
before the gate has seen the request's model. What it was before is put by at the first change. ``train.discard`` of the
attempt puts it back; ``train.confirm`` drops it, since it knows what was forgotten.

It is put by in ``context.state`` itself, so that both are saved together or not at all, whatever process handles the
next message, and end together with the run. Its records have names of their own, and are taken out of ``context.state``
while a message is handled: the app does not see them.

Messages may be lost. If an ordinary training message, a message of another attempt or a confirmation of another request
comes, the attempt is over, and nobody has said how it ended:

- All its requests were quarantined here, and none is any more: they were rejected or withdrawn. What was put by is put
  back, since nothing is to be forgotten.
- They are quarantined here, and a later attempt at one of them begins: the earlier one was undone, or a request would
  have tombstones. What was put by is put back, and put by again for the later attempt.
- Else it is dropped. If a request has tombstones, it was committed. If it is quarantined, its samples are not to be
  used any more, and the client goes on with what it has renewed. If this client holds none of its samples, nothing here
  says whether it was committed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MessageType, MetricRecord, RecordDict

from fed_unlearn import protocol
from fed_unlearn.client.store import ClientStore

Record = ArrayRecord | ConfigRecord | MetricRecord

RESERVED = "fed_unlearn"
"""The record in ``context.state`` with notes of attempts. What is put by stands under names that begin with it."""

_NOTES, _ABSENT = "attempts", "absent"


@dataclass(frozen=True)
class AttemptNote:
    """An attempt that this client took part in.

    Attributes
    ----------
    ledger, request_id, attempt
        Ledger, request and number of the attempt.
    held : bool
        Whether samples of the request were quarantined here.
    renewed : bool
        Whether what the client keeps was renewed for the request.
    confirmed : bool
        Whether the request was confirmed. Such a note says that a confirmation that comes again has nothing to renew.
    """

    ledger: str
    request_id: str
    attempt: int
    held: bool = False
    renewed: bool = False
    confirmed: bool = False

    def is_of(self, ledger: str, attempt: protocol.RequestAttempt) -> bool:
        """Whether it is this very attempt."""
        return (self.ledger, self.request_id, self.attempt) == (ledger, attempt.request_id, attempt.attempt)


class KeptState:
    """What is put by at one client, for the time of one message: it is opened first, and closed at the end.

    Parameters
    ----------
    context : Context
        Context of the message, with the client's state.
    ledger : str
        Identity of the ledger whose server sent the message.
    message : Message or None
        The message.
    store : callable
        Gives the client's durable store.
    """

    def __init__(
        self, context: Context, ledger: str, message: Message | None, store: Callable[[], ClientStore]
    ) -> None:
        self._context, self._ledger, self._message, self._store = context, ledger, message, store
        self._notes: list[AttemptNote] = []
        self._records: dict[str, Record | None] = {}
        self._attempts: tuple[protocol.RequestAttempt, ...] = ()
        self._before: RecordDict | None = None

    def open(self) -> None:
        """Take what is put by out of ``context.state``, and end attempts that the message shows to be over.

        Raises
        ------
        ProtocolError
            If the message names attempts, and they are malformed.
        """
        self._take()
        self._attempts = () if self._message is None else _attempts_of(self._message)
        is_known = any(note.is_of(self._ledger, each) for note in self._open for each in self._attempts)
        if self._attempts and not is_known:
            self.end_lost()
        if self._attempts and self._category == MessageType.TRAIN:
            self._before = _copied(self._context.state)

    def close(self) -> None:
        """Put it into ``context.state`` again."""
        state = self._context.state
        if self._notes or self._records:
            absent = [name for name, record in self._records.items() if record is None]
            notes = [asdict(note) for note in self._notes]
            state[RESERVED] = ConfigRecord({_NOTES: json.dumps(notes), _ABSENT: json.dumps(absent)})
        for name, record in self._records.items():
            if record is not None:
                state[f"{RESERVED}/{name}"] = record

    @property
    def has_records(self) -> bool:
        """Whether something is put by."""
        return bool(self._records)

    # ------------------------------------------------------------------ while an attempt is open

    @contextmanager
    def changes(self, *, renews: bool = False) -> Iterator[None]:
        """Put by all records that are changed in a ``with`` block, if the message belongs to an attempt.

        Parameters
        ----------
        renews : bool
            Whether what the client keeps is renewed for the request.
        """
        before = self._before
        if before is None:
            yield
            return
        at_first = _copied(self._context.state)
        try:
            yield
        finally:
            changed = _changed(at_first, self._context.state)
            self._put_by(before, changed)
            if changed or renews:
                self._note(renews=renews)

    def put_by_trained(self) -> None:
        """Put by the arrays that training has changed, if the message belongs to an attempt.

        Its other records count what was done, and stay as they are.
        """
        if self._before is None:
            return
        state = self._context.state
        changed = [
            name
            for name in _changed(self._before, state)
            if name not in self._records and isinstance(self._before.get(name, state.get(name)), ArrayRecord)
        ]
        if changed:
            self._put_by(self._before, changed)
            self._note()

    def _put_by(self, before: RecordDict, changed: Sequence[str]) -> None:
        for name in changed:
            self._records.setdefault(name, before.get(name))

    def _note(self, *, renews: bool = False) -> None:
        for attempt in self._attempts:
            held = self._store().get(attempt.request_id) is not None
            same = [note for note in self._notes if note.is_of(self._ledger, attempt)]
            note = AttemptNote(self._ledger, attempt.request_id, attempt.attempt)
            note = replace(
                note,
                held=held or any(each.held for each in same),
                renewed=renews or any(each.renewed for each in same),
            )
            self._notes = [each for each in self._notes if each not in same] + [note]

    # ------------------------------------------------------------------ when an attempt is over

    def is_renewed(self, attempt: protocol.RequestAttempt) -> bool:
        """Whether what the client keeps was renewed for a request, at this attempt or by an earlier confirmation."""
        return any(note.renewed and note.is_of(self._ledger, attempt) for note in self._notes)

    def confirm(self, attempt: protocol.RequestAttempt) -> None:
        """Drop what was put by for a request, for good, and note that nothing is left to be renewed."""
        name = (self._ledger, attempt.request_id)
        same = [note for note in self._notes if (note.ledger, note.request_id) == name]
        if any(not note.confirmed for note in same):
            self._records.clear()
        note = AttemptNote(self._ledger, attempt.request_id, attempt.attempt, renewed=True, confirmed=True)
        self._notes = [each for each in self._notes if each not in same] + [note]

    def discard(self, attempt: protocol.RequestAttempt) -> None:
        """Put back what was put by, once all attempts that it was put by for are undone.

        Nothing happens if it was put by for another attempt.
        """
        undone = [note for note in self._open if note.is_of(self._ledger, attempt)]
        self._notes = [note for note in self._notes if note not in undone]
        if undone and not self._open:
            self._put_back()

    def end_lost(self) -> None:
        """End the open attempts, if there are any: nobody said how they ended."""
        if self._records and self._were_undone():
            self._put_back()
        self._records.clear()
        self._notes = [note for note in self._notes if note.confirmed]

    def end_all(self) -> None:
        """End the open attempts, and forget which requests were confirmed.

        Who trains owes no tombstones, so that no confirmation comes again.
        """
        self.end_lost()
        self._notes.clear()

    def _were_undone(self) -> bool:
        """Whether the open attempts were certainly undone, by what the store and the message say."""
        if any(not note.held or note.ledger != self._ledger for note in self._open):
            return False
        stored = [found for note in self._open if (found := self._store().get(note.request_id)) is not None]
        if any(found.tombstoned for found in stored):
            return False
        later = [
            each
            for each in self._attempts
            for note in self._open
            if each.request_id == note.request_id and each.attempt > note.attempt
        ]
        return not stored or bool(later)

    def _put_back(self) -> None:
        state = self._context.state
        for name, record in self._records.items():
            if record is not None:
                state[name] = record
            elif name in state:
                del state[name]
        self._records.clear()

    # ------------------------------------------------------------------ small things

    @property
    def _open(self) -> list[AttemptNote]:
        return [note for note in self._notes if not note.confirmed]

    @property
    def _category(self) -> str:
        return "" if self._message is None else self._message.metadata.message_type.partition(".")[0]

    def _take(self) -> None:
        state = self._context.state
        told = state.pop(RESERVED, None)
        if isinstance(told, ConfigRecord):
            self._notes = [AttemptNote(**note) for note in json.loads(str(told[_NOTES]))]
            self._records = dict.fromkeys(json.loads(str(told[_ABSENT])))
        prefix = f"{RESERVED}/"
        for name in [name for name in state if name.startswith(prefix)]:
            self._records[name.removeprefix(prefix)] = state.pop(name)


def _attempts_of(message: Message) -> tuple[protocol.RequestAttempt, ...]:
    """The attempts that a message belongs to. Older servers name them in their instructions alone."""
    told = protocol.attempts_of(message)
    match message.metadata.message_type:
        case protocol.UNLEARN:
            return told or protocol.UnlearnInstruction.from_message(message).targets
        case protocol.REPAIR:
            return told or protocol.RepairInstruction.from_message(message).guarded
    return told


def _copied(state: RecordDict) -> RecordDict:
    """A copy whose records stay as they are if those of the state are changed in place."""
    copied = state.copy()
    for name, record in state.items():
        copied[name] = own = record.copy()
        for key, value in record.items():
            if isinstance(value, list):
                own[key] = list(value)  # type: ignore[assignment]
    return copied


def _changed(before: RecordDict, after: RecordDict) -> list[str]:
    """Names of records that are new, gone, or not equal."""
    return [name for name in {**before, **after} if not _same(before.get(name), after.get(name))]


def _same(first: Record | None, second: Record | None) -> bool:
    if first is None or second is None:
        return first is second
    return type(first) is type(second) and list(first.items()) == list(second.items())
