"""Clients that come back while an exchange waits for them, perhaps at another node."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field, replace

from flwr.serverapp import Grid

from fed_unlearn.strategies.clients.admission import Identification
from fed_unlearn.strategies.clients.book import node_keys
from fed_unlearn.strategies.clients.messages.exchange import client_order

_ANSWER_SECONDS = 60.0
_MOST_TRIES = 3
"""Number of times that a node that a client had is asked who it is; other nodes are asked once."""


@dataclass(frozen=True)
class ReturningClients:
    """Finds the clients of one exchange again. Nodes of other clients stay unknown: they are in no round midway.

    Attributes
    ----------
    grid : Grid
        Grid of the runtime.
    identification : Identification
        Asks nodes who they are; a client that is back must have all that it confirmed.
    asked : set of int
        Nodes that were asked who they are.
    """

    grid: Grid
    identification: Identification
    asked: set[int]
    _strangers: set[int] = field(default_factory=set, init=False)
    _own: set[int] = field(default_factory=set, init=False)
    _tries: Counter[int] = field(default_factory=Counter, init=False)

    def find(self, clients: Collection[str]) -> dict[str, int]:
        """The node of each of these clients that is there again, and is who it says."""
        roster, connected = self.identification.roster, set(self.grid.get_node_ids())
        before = {node: client for node, client in roster.clients.items() if client in clients}
        roster.clients = {node: client for node, client in roster.clients.items() if node not in before}
        self.asked.difference_update(before)
        self._own.update(before)
        unknown = connected - set(roster.clients) - self._strangers - self.asked
        if unknown:
            self._identify(unknown, clients)
        found = {client: node for node, client in roster.clients.items() if client in clients}
        # A node that was cut off for a moment is too busy to say who it is, and may still answer what it was asked.
        busy = {
            node: client
            for node, client in before.items()
            if node in connected and client not in found and node not in roster.kept_away
        }
        roster.clients = dict(sorted({**roster.clients, **busy}.items(), key=lambda item: client_order(item[1])))
        return found

    def _identify(self, unknown: set[int], clients: Collection[str]) -> None:
        roster = self.identification.roster
        timeout = min(self.identification.timeout, _ANSWER_SECONDS)
        asks = replace(self.identification, keys=node_keys(self.grid), timeout=timeout)
        asks.identify(unknown | set(roster.clients), only=clients)
        found = {node for node, client in roster.clients.items() if client in clients}
        self.asked.update(found)
        self._tries.update(unknown)
        given_up = {node for node in unknown if node not in self._own or self._tries[node] >= _MOST_TRIES}
        self._strangers.update(given_up - found - set[int]().union(*roster.contested.values()))
