"""What the ledger knows of clients: their keys, what they claim to hold, and what their stores must exclude."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid

from fed_unlearn.ledger import Ledger, LedgerEntry
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.strategies.clients.class_names import note_class_names
from fed_unlearn.strategies.clients.messages.exchange import Roster

logger = logging.getLogger("fed_unlearn.strategies")

_LIFTED = frozenset({Status.REJECTED, Status.WITHDRAWN})
_SIMULATED_HEARTBEAT = 1e299
_SELF_REGISTERED_SECONDS = 3.0  # `fed-unlearn node` imports for longer before its SuperNode starts
_NO_ACCOUNT = "<id:none>"


@dataclass(frozen=True)
class ClientBook:
    """Reads and writes in the ledger what is known of clients.

    Attributes
    ----------
    ledger : Ledger
        The ledger of the run.
    """

    ledger: Ledger

    def key_problem(self, client: str, key: str | None) -> str | None:
        """Why a node with this key cannot be this client; None where it can.

        Parameters
        ----------
        client : str
            The id that the node gives.
        key : str or None
            SHA-256 of the node's public key, in hexadecimal. None if the node has none.
        """
        bound = self.ledger.client_key(client)
        if bound is not None and bound != key:
            shown = "shows no key" if key is None else f"shows the key {key[:12]}"
            return (
                f"it {shown}, and the id is bound to the key {bound[:12]}; if the client's machine has changed:"
                f" fed-unlearn client rebind LEDGER {client}"
            )
        owner = None if bound is not None or key is None else self._owner(key)
        return None if owner is None else f"its key {str(key)[:12]} belongs to client {owner}"

    def _owner(self, key: str) -> str | None:
        clients = self.ledger.known_clients()
        return next((client for client in clients if self.ledger.client_key(client) == key), None)

    def no_longer_refused(self, roster: Roster, grid: Grid) -> set[int]:
        """Take the nodes out of the refused ones that may be the client that they say they are by now."""
        if not roster.refused:
            return set()
        keys = node_keys(grid)
        free = {node for node, name in roster.refused.items() if self.key_problem(name, keys.get(node)) is None}
        roster.refused = {node: name for node, name in roster.refused.items() if node not in free}
        return free

    def note_clients(self, roster: Roster) -> None:
        """Write down keys and claims of the clients that are there. A client that claims more samples is shown."""
        ledger = self.ledger
        note_class_names(ledger, roster)
        for client in roster.clients.values():
            key, held = roster.keys.get(client), list(roster.class_samples[client])
            if key is not None and ledger.client_key(client) is None:
                ledger.bind_client(client, key)
            before = (ledger.claims_of(client) or {}).get("class-samples")
            if isinstance(before, list) and any(now > then for now, then in zip(held, before, strict=False)):
                logger.warning(
                    "client %s claims %d training samples, and claimed %d before", client, sum(held), sum(before)
                )
                ledger.note("claims-raised", {"client": client, "samples": sum(held), "before": sum(before)})
            ledger.note_claims(
                client, {"class-samples": held, "excluded-samples": roster.excluded_samples.get(client, 0)}
            )

    def note_held(self, counts: Mapping[str, Mapping[str, int]]) -> None:
        """Write down how many samples clients have quarantined.

        Parameters
        ----------
        counts : mapping of str to mapping of str to int
            Number of samples by request and client.
        """
        for request_id, held in counts.items():
            known = self._held(request_id)
            if {**known, **held} != known:
                self.ledger.set_state(f"held:{request_id}", {**known, **held})

    def required(self) -> dict[str, int]:
        """By client, how many samples of requests its store must exclude; a sample of two requests counts twice.

        Withdrawn and rejected requests exclude nothing. A failed request excludes nothing more once the same was asked
        for again.
        """
        entries, departed = self.ledger.entries(), self.ledger.departed()
        required: dict[str, int] = {}
        for number, entry in enumerate(entries):
            if entry.status in _LIFTED or _is_asked_again(entry, entries[number + 1 :]):
                continue
            for client, count in self._held(entry.id).items():
                required[client] = required.get(client, 0) + count
        return {client: count for client, count in required.items() if client not in departed}

    def _held(self, request_id: str) -> dict[str, int]:
        body = self.ledger.state(f"held:{request_id}")
        return {str(client): int(count) for client, count in body.items()} if isinstance(body, dict) else {}


def _is_asked_again(entry: LedgerEntry, later: list[LedgerEntry]) -> bool:
    return entry.status is Status.FAILED and any(
        other.request.scope == entry.request.scope and other.status not in _LIFTED for other in later
    )


def node_keys(grid: Grid) -> dict[int, str]:
    """SHA-256 of each node's public key, in hexadecimal, of the nodes whose key outlives a restart.

    Nodes of a simulation have random keys. A SuperNode without authentication makes a key when it starts and registers
    itself with it; such a key says nothing at the next start.
    """
    return {
        info.node_id: hashlib.sha256(info.public_key).hexdigest()
        for info in grid.get_nodes()
        if info.public_key and not _is_passing(info)
    }


def is_simulated(grid: Grid) -> bool:
    """Whether the nodes of a grid are those of Flower's simulation runtime."""
    return any(info.heartbeat_interval >= _SIMULATED_HEARTBEAT for info in grid.get_nodes())


def _is_passing(info: NodeInfo) -> bool:
    if info.heartbeat_interval >= _SIMULATED_HEARTBEAT:
        return True
    if info.owner_aid != _NO_ACCOUNT or not info.registered_at or not info.last_activated_at:
        return False
    try:
        registered = datetime.fromisoformat(info.registered_at)
        activated = datetime.fromisoformat(info.last_activated_at)
        return abs((activated - registered).total_seconds()) < _SELF_REGISTERED_SECONDS
    except (ValueError, TypeError):
        return False
