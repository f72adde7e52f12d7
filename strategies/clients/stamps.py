"""Whether a reply may be used: by whom it was made, and whether its client has the tombstones that it should have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flwr.app import Message

from fed_unlearn import protocol
from fed_unlearn.strategies.clients.messages.exchange import Roster

LOST_TOMBSTONES = "it does not show the tombstones that it has confirmed"
LOST_QUARANTINES = (
    "its store excludes fewer samples than it said that it quarantined; restore the newest copy of its store, or put"
    " its failed requests again under new ids"
)

NEEDS_QUARANTINES = frozenset(
    {protocol.TRAIN, protocol.REPAIR, protocol.RELEARN, protocol.STATISTICS, protocol.CONFIRM}
)
"""Messages whose replies count only where the client's store excludes all that it should."""


@dataclass(frozen=True)
class StampCheck:
    """Looks at the stamps of replies, and keeps in the roster which tombstones clients have.

    Attributes
    ----------
    roster : Roster
    shows_tombstones : callable
        :meth:`fed_unlearn.strategies.clients.admission.Identification.shows_tombstones`: asks the client once more, if
        need be.
    bar : callable
        Called to take a client out of the nodes, with the reason: it has to show its tombstones before it takes part
        again.
    leave_out : callable
        Names a client whose answer is not used, and says why.
    """

    roster: Roster
    shows_tombstones: Callable[[protocol.Stamp, int], protocol.Stamp | None]
    bar: Callable[[str, str], None]
    leave_out: Callable[[str, str], None]

    def is_usable(self, reply: Message) -> bool:
        """Whether a reply may be used; who made it is named where not.

        A client that confirms must have had all the tombstones that it confirmed before. One whose store was put back
        to an older copy writes those of this request and lacks others: it is barred, and what it says it has is not
        believed. Tombstones that are lost in between are caught at any other reply.

        Parameters
        ----------
        reply : Message
            An error is used: that of a client that is known.
        """
        client = self.roster.clients.get(reply.metadata.src_node_id)
        if client is None:
            return False
        if reply.has_error():
            return True
        stamp = protocol.read_stamp(reply)
        if stamp is None or stamp.client_id != client:
            self.leave_out(client, "its reply does not say which client made it")
            return False
        (self.roster.put_by.add if protocol.has_put_by(reply) else self.roster.put_by.discard)(client)
        if reply.metadata.message_type == protocol.CONFIRM and not self._lacks_none(reply, stamp):
            return False
        elif stamp.tombstones != self.roster.tombstones[client]:
            self.leave_out(client, LOST_TOMBSTONES)
        elif reply.metadata.message_type in NEEDS_QUARANTINES and stamp.requested < self.roster.required.get(client, 0):
            self.leave_out(client, LOST_QUARANTINES)
        elif reply.metadata.message_type == protocol.TRAIN and not stamp.retained:
            self.leave_out(client, "its training did not take its data through fed_unlearn.client.retained()")
        else:
            return True
        return False

    def _lacks_none(self, reply: Message, stamp: protocol.Stamp) -> bool:
        """Whether nothing is missing of what the client confirmed before; if so, what it shows now is believed.

        Where it does not say what it had before, as older versions, or had written some of it for a confirmation that
        was not heard, it is asked.
        """
        client, before = stamp.client_id, protocol.read_earlier_tombstones(reply)
        known = before is not None and before == self.roster.confirmed.get(client)
        shown = stamp if known else self.shows_tombstones(stamp, reply.metadata.src_node_id)
        if shown is None:
            self.bar(client, f"{LOST_TOMBSTONES} before; put the newest copy of its store back")
            return False
        self.roster.tombstones[client] = shown.tombstones
        if protocol.refusal_of(reply) is None and stamp.requested >= self.roster.required.get(client, 0):
            self.roster.confirmed[client] = shown.tombstones
        return True
