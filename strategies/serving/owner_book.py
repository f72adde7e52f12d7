"""What the ledger keeps of the requests of one client's owner: which were taken, which refused, and who knows it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict

from fed_unlearn.ledger import Ledger

_CLIENTS, _OF_CLIENT = "owners", "owner-requests:{client}"
_KEPT_SECONDS = 30 * 86_400.0


class Known(BaseModel):
    """One request of an owner.

    Attributes
    ----------
    received : float
        Time at which the server first heard of the request, in seconds since the epoch.
    request : str
        Id of the request in the ledger. Empty where it was not taken.
    refused : str
        Why it was refused.
    withdrawn : bool
        Whether its owner had withdrawn it before the server heard of it.
    told : str
        Digest of the last answer that the node has on disk.
    """

    model_config = ConfigDict(extra="forbid")

    received: float
    request: str = ""
    refused: str = ""
    withdrawn: bool = False
    told: str = ""


@dataclass
class OwnerBook:
    """The requests of one client's owner, by their ids at the node, in the order in which they came.

    Attributes
    ----------
    client : str
    requests : dict of str to Known
    """

    client: str
    requests: dict[str, Known] = field(default_factory=dict)

    @classmethod
    def clients(cls, ledger: Ledger) -> frozenset[str]:
        """The clients whose owners have ever asked for anything."""
        body = ledger.state(_CLIENTS)
        return frozenset(map(str, body)) if isinstance(body, list) else frozenset()

    @classmethod
    def of(cls, ledger: Ledger, client: str) -> OwnerBook:
        """The book of one client, from the ledger."""
        body = ledger.state(_OF_CLIENT.format(client=client))
        known = body if isinstance(body, dict) else {}
        return cls(client, {str(name): Known.model_validate(item) for name, item in known.items()})

    def save(self, ledger: Ledger) -> None:
        """Write it into the ledger, in the transaction of what it is about.

        What was never taken is forgotten after 30 days, once its node knows.
        """
        old = time.time() - _KEPT_SECONDS
        for name, known in list(self.requests.items()):
            if not known.request and known.told and known.received < old:
                del self.requests[name]
        body = {name: known.model_dump(exclude_defaults=True) for name, known in self.requests.items()}
        if ledger.state(_OF_CLIENT.format(client=self.client)) != body:
            ledger.set_state(_OF_CLIENT.format(client=self.client), body)
        if self.client not in (clients := self.clients(ledger)) and self.requests:
            ledger.set_state(_CLIENTS, sorted({*clients, self.client}))

    def received_since(self, moment: float) -> int:
        """How many came after a moment, refused ones included."""
        return sum(known.received > moment for known in self.requests.values())

    def refused_since(self, moment: float) -> int:
        """How many were refused after a moment."""
        return sum(known.received > moment for known in self.requests.values() if known.refused)
