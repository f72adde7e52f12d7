"""The number of the wire format, and which numbers client and server can speak with each other.

The number rises with every change of messages that the other side has to know of: a record or key that it must read,
one that it need not find any more, or another meaning. What an older side leaves unread, and can do without, does not
raise it. What only a newer side understands is sent to those alone that have said that they are as new.
``OLDEST_PROTOCOL`` rises where messages of an older number are not read any more. Messages of every number from it on
are kept in ``tests/fed_unlearn/protocol/recorded``, and are read by the tests.

====== ===============================================================================================================
number what is new
====== ===============================================================================================================
1      Messages say no number.
2      Messages say the server's number, and replies to ``query.identify`` the client's. Replies to ``train.unlearn``
       and ``train.repair`` leave out arrays that equal those that were sent, bit for bit.
3      The arrays of a model may travel as one (:mod:`fed_unlearn.protocol.bundles`): to clients that have said at least
       this number, and back from those to whom they came so.
====== ===============================================================================================================
"""

from __future__ import annotations

from dataclasses import dataclass

from flwr.app import ConfigRecord, Message

import fed_unlearn
from fed_unlearn.protocol.bounded import whole_count
from fed_unlearn.protocol.identity import LEDGER_KEY
from fed_unlearn.protocol.messages import refusal_of
from fed_unlearn.text import printable

PROTOCOL_VERSION = 3
"""The number of the wire format of this version."""

OLDEST_PROTOCOL = 1
"""The oldest one that this version still reads."""

LEAVES_OUT_EQUAL_ARRAYS = 2
"""The number from which on replies may leave out arrays."""

READS_BUNDLES = 3
"""The number from which on the arrays of a model may travel as one."""

_VERSIONS_KEY = "versions"
_LONGEST_LIBRARY = 40
_NUMBER, _OLDEST, _LIBRARY = "protocol", "oldest-protocol", "library"


@dataclass(frozen=True)
class Versions:
    """What one side speaks.

    Attributes
    ----------
    protocol, oldest : int
        The number of its wire format, and the oldest one that it reads.
    library : str
        Version of its fed_unlearn; empty where it does not say.
    """

    protocol: int = 1
    oldest: int = 1
    library: str = ""

    @classmethod
    def own(cls) -> Versions:
        """Those of this process."""
        return cls(PROTOCOL_VERSION, OLDEST_PROTOCOL, fed_unlearn.__version__)

    @classmethod
    def of_server(cls, message: Message) -> Versions:
        """Those of the server that sent a message."""
        return cls._read(message, LEDGER_KEY)

    @classmethod
    def of_client(cls, reply: Message) -> Versions:
        """Those of the client that replied to ``query.identify``."""
        return cls._read(reply, _VERSIONS_KEY)

    @classmethod
    def _read(cls, message: Message, key: str) -> Versions:
        record = message.content.get(key) if message.has_content() else None
        if not isinstance(record, ConfigRecord):
            return cls()
        number, oldest, library = (
            whole_count(record.get(_NUMBER)),
            whole_count(record.get(_OLDEST)),
            record.get(_LIBRARY),
        )
        return cls(number or 1, oldest or 1, printable(library, 40) if isinstance(library, str) else "")

    def to_record(self) -> ConfigRecord:
        """The record that tells them."""
        return ConfigRecord({_NUMBER: self.protocol, _OLDEST: self.oldest, _LIBRARY: self.library})

    def problem_with(self, other: Versions) -> str | None:
        """Why this side and another cannot speak with each other; None where they can."""
        if self.oldest <= other.protocol and other.oldest <= self.protocol:
            return None
        return (
            f"it speaks {other}, and here is {self}; install one version of fed-unlearn at both: the older side has to"
            " be updated"
        )

    def __str__(self) -> str:
        numbers = f"{self.oldest} to {self.protocol}" if self.oldest < self.protocol else str(self.protocol)
        return f"protocol {numbers}{f' of fed_unlearn {self.library}' if self.library else ''}"


def write_versions(reply: Message) -> None:
    """Put this client's versions on its reply to ``query.identify``."""
    reply.content[_VERSIONS_KEY] = Versions.own().to_record()


def misfit_of(reply: Message) -> str | None:
    """Why the client that replied to ``query.identify`` and this server cannot work together; None where they can.

    A client that does not understand the server refuses, and says so.
    """
    if not reply.has_content():
        return None
    refusal, problem = refusal_of(reply), Versions.own().problem_with(Versions.of_client(reply))
    return problem if problem is not None or refusal is None else refusal.reason
