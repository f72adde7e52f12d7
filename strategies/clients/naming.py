"""The part of a Grid that says which clients take part, and names those that do not."""

from __future__ import annotations

import logging
from abc import ABC

from flwr.serverapp import Grid

from fed_unlearn.strategies.clients.messages.exchange import Roster
from fed_unlearn.strategies.clients.messages.runtime import RuntimeGrid
from fed_unlearn.text import printable

logger = logging.getLogger("fed_unlearn.strategies")

_LONGEST_REASON = 400


class NamingGrid(RuntimeGrid, ABC):
    """A Grid that takes clients out of its nodes, and says why.

    Parameters
    ----------
    grid : Grid
        Grid of the runtime.
    roster : Roster
        Clients of the run.

    Attributes
    ----------
    dropped : dict of str to str
        Why a client's answer in the last exchange is not used, by client.
    """

    def __init__(self, grid: Grid, roster: Roster) -> None:
        super().__init__(grid)
        self.roster = roster
        self.dropped: dict[str, str] = {}
        self._named_before: set[tuple[str, str]] = set()
        self._asked: set[int] = set()

    def bar(self, client: str, reason: str) -> None:
        """Take a client out of the nodes until the clients are identified anew."""
        self.leave_out(client, reason)
        nodes = {node for node, name in self.roster.clients.items() if name == client}
        self._asked -= nodes
        self.roster.kept_away |= dict.fromkeys(nodes, (client, reason))
        self.roster.clients = {node: name for node, name in self.roster.clients.items() if name != client}

    def kept_away(self) -> dict[str, str]:
        """Clients that are connected, and asked for nothing since something is wrong with them; and what is."""
        return self.attendance()[1]

    def attendance(self) -> tuple[tuple[str, ...], dict[str, str]]:
        """The clients that are connected and take part, and those that are left out with what is wrong."""
        connected = set(self._grid.get_node_ids())
        left_out = dict(said for node, said in self.roster.kept_away.items() if node in connected)
        return tuple(name for node, name in self.roster.clients.items() if node in connected), left_out

    def leave_out(self, client: str, reason: str) -> None:
        """Name a client whose answer is not used, in the log once for each reason."""
        reason = printable(reason, _LONGEST_REASON)
        self.name(client, f"is left out: {reason}")
        self.dropped[client] = reason

    def name(self, client: str, text: str) -> None:
        """Say something of a client in the log, once for each text."""
        if (client, text) not in self._named_before:
            logger.warning("client %s %s", client, text)
            self._named_before.add((client, text))
