"""Clients that come back while an exchange waits for them, perhaps at another node."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field, replace

from flwr.serverapp import Grid

from fed_unlearn.strategies.clients.admission import Identification
from fed_unlearn.strategies.clients.book import node_keys

_ANSWER_SECONDS = 60.0
_MOST_TRIES = 3
"""A node that a client had is asked so often who it is; other nodes once."""


@dataclass(frozen=True)
class ReturningClients:
    """Finds the clients of one exchange again. Nodes of other clients stay unknown: they are in no round midway.

    Attributes
    ----------
    grid : Grid
        The runtime's own.
    identification : Identification
        Asks nodes who they are; a client that is back must have all that it confirmed.
    asked : set of int
        Nodes that were asked who they are.
    """

    grid: Grid
    identification: Identification
    asked: set[int]
    _strangers: set[int] = field(default_factory=set, init=False)
    _tries: Counter[int] = field(default_factory=Counter, init=False)

    def find(self, clients: Collection[str]) -> dict[str, int]:
        """The node of each of these clients that is there again, and is who it says."""
        roster, connected = self.identification.roster, set(self.grid.get_node_ids())
        gone = {node for node, client in roster.clients.items() if client in clients}
        roster.clients = {node: client for node, client in roster.clients.items() if node not in gone}
        self.asked.difference_update(gone)
        unknown = connected - set(roster.clients) - self._strangers - self.asked
        if not unknown:
            return {}
        asks = replace(
            self.identification,
            keys=node_keys(self.grid),
            timeout=min(self.identification.timeout, _ANSWER_SECONDS),
        )
        asks.identify(unknown | set(roster.clients), only=clients)
        found = {client: node for node, client in roster.clients.items() if client in clients}
        self.asked.update(found.values())
        contested = set[int]().union(*roster.contested.values())
        self._tries.update(unknown)
        others = {node for node in unknown if node not in gone or self._tries[node] >= _MOST_TRIES}
        self._strangers.update(others - set(found.values()) - contested)
        return found
