"""Which client is behind which node, and whether it has the tombstones that it should have."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from flwr.app import Message, RecordDict

from fed_unlearn import protocol
from fed_unlearn.shapes import Shapes, misfit
from fed_unlearn.strategies.clients.claims import MOST_SAMPLES
from fed_unlearn.strategies.clients.class_names import keep_told_names
from fed_unlearn.strategies.clients.messages.exchange import ClientsFailedError, Roster, client_order
from fed_unlearn.strategies.clients.messages.messenger import Exchange
from fed_unlearn.strategies.clients.messages.runtime import NobodyThereError
from fed_unlearn.strategies.clients.stamps import LOST_QUARANTINES, LOST_TOMBSTONES

logger = logging.getLogger("fed_unlearn.strategies")


@dataclass(frozen=True)
class Identification:
    """Asks nodes which client they are, and writes what they say into the roster.

    Attributes
    ----------
    exchange : Exchange
    roster : Roster
    leave_out : callable
        Names a client that cannot take part, and why.
    unheard : callable
        Requests whose tombstones a client may have written without the server having heard of it: with these taken
        away, its digest may be the one that it confirmed.
    timeout : float
        Seconds to wait for answers.
    key_problem : callable
        Why a node with a key, or without one, cannot be a client; None where it can.
    keys : mapping of int to str
        Digest of the public key of each node that has one.
    served : dict of str to tuple of int
        The shape of each array of the model that serves. A client whose task sends others is left out; empty where that
        is not looked at.
    """

    exchange: Exchange
    roster: Roster
    leave_out: Callable[[str, str], None]
    unheard: Callable[[str], Collection[protocol.RequestName]]
    timeout: float
    key_problem: Callable[[str, str | None], str | None] = lambda client, key: None
    keys: Mapping[int, str] = field(default_factory=dict)
    served: Shapes = field(default_factory=dict)

    def identify(self, connected: Collection[int], only: Collection[str] | None = None) -> set[int]:
        """Learn which clients are behind the nodes that are not known yet.

        Parameters
        ----------
        connected : collection of int
            Nodes that are connected; known ones that are not among them are forgotten.
        only : collection of str, optional
            Clients that are looked for; nodes of others stay unknown.

        Returns
        -------
        set of int
            Nodes to be asked once more when others are gone: a client that starts anew may come before its old node is
            known to be gone.

        Raises
        ------
        NobodyThereError
            If no node is known in the end.
        ClientsFailedError
            If the tasks of all clients send other arrays than the model that serves has.
        """
        roster = self.roster
        roster.contested = contested_among(roster.contested, connected)
        clients = {node: client for node, client in roster.clients.items() if node in connected}
        waiting = set[int]().union(*roster.contested.values())
        replies = self._ask([node for node in sorted(connected) if node not in clients and node not in waiting])
        class_count = self._class_count(list(replies.values()))
        stamps, reason = self._claims(replies)
        if only is not None:
            stamps = {node: stamp for node, stamp in stamps.items() if stamp.client_id in only}
        reason = self._settle_contests(stamps, clients) or reason
        misfits: dict[str, str] = {}
        for node, stamp in stamps.items():
            client, reply = stamp.client_id, replies[node]
            held, shown = tuple(protocol.read_counts(reply, "class-samples")), self.shows_tombstones(stamp, node)
            if len(held) != class_count or protocol.read_count(reply, "class-count") != class_count:
                self._keep_away(node, client, "it does not say how many samples of each class it holds")
            elif sum(held) > MOST_SAMPLES:
                text = f"it says that it holds {sum(held)} samples; expected at most {MOST_SAMPLES}"
                self._keep_away(node, client, text)
            elif (unfit := self._misfit_of(reply)) is not None:
                misfits[client] = unfit
                self._keep_away(node, client, unfit)
            elif shown is None:
                self._keep_away(node, client, LOST_TOMBSTONES)
            elif shown.requested < roster.required.get(client, 0):
                self._keep_away(node, client, LOST_QUARANTINES)
            else:
                clients[node] = client
                roster.class_count = class_count
                self._note(node, shown, held, reply)
        roster.clients = dict(sorted(clients.items(), key=lambda item: client_order(item[1])))
        if not clients and only is None:
            if misfits:
                unfit = next(iter(misfits.values()))
                raise ClientsFailedError(f"no client can take part: client {', '.join(misfits)}: {unfit}")
            raise NobodyThereError(f"no node could say which client it is: {reason}")
        return set[int]().union(*roster.contested.values())

    def _note(self, node: int, shown: protocol.Stamp, held: tuple[int, ...], reply: Message) -> None:
        """Write into the roster what a client that takes part says of itself."""
        roster, client = self.roster, shown.client_id
        roster.kept_away.pop(node, None)
        roster.tombstones[client] = shown.tombstones
        roster.class_samples[client] = held
        roster.excluded_samples[client] = protocol.read_count(reply, "excluded-samples")
        roster.output_rows[client] = protocol.read_output_rows(reply)
        keep_told_names(roster, client, reply)
        if node in self.keys:
            roster.keys[client] = self.keys[node]

    def _misfit_of(self, reply: Message) -> str | None:
        """How the arrays that a client's task sends differ from those of the model that serves, with the remedy."""
        sent = protocol.read_model_arrays(reply) if self.served else None
        problem = misfit(sent, self.served) if sent is not None else None
        if problem is None:
            return None
        return (
            f"what its task sends {problem}, beside the model of the server; start() with"
            " initial_arrays=ArrayRecord(dict(task.arrays_of(model))), or have Task.arrays_of give what the app's"
            " handlers send"
        )

    def _claims(self, replies: Mapping[int, Message]) -> tuple[dict[int, protocol.Stamp], str]:
        """What nodes say that they are and may be, and why the last of the others may not."""
        stamps: dict[int, protocol.Stamp] = {}
        reason = "is fed_unlearn.client.install(app, task) called?"
        for node, reply in sorted(replies.items()):
            stamp = protocol.read_stamp(reply) if reply.has_content() else None
            if (unfit := protocol.misfit_of(reply)) is not None:
                reason = f"node {node} is left out: {unfit}"
                self._keep_away(node, stamp.client_id if stamp is not None else f"of node {node}", unfit)
                continue
            if stamp is None:
                stated = protocol.id_problem_of(reply)
                reason = protocol.error_of(reply) if reply.has_error() else stated or reason
                logger.warning("node %d did not say which client it is: %s", node, reason)
                self.roster.kept_away[node] = f"of node {node}", reason
                continue
            problem = self.key_problem(stamp.client_id, self.keys.get(node))
            if problem is not None:
                self.roster.refused[node] = stamp.client_id
                reason = f"node {node} says that it is client {stamp.client_id}; {problem}"
                logger.warning("node %d is refused: %s", node, reason)
                self.roster.kept_away[node] = f"of node {node}", reason
                continue
            stamps[node] = stamp
        return stamps, reason

    def _settle_contests(self, stamps: dict[int, protocol.Stamp], clients: dict[int, str]) -> str | None:
        """Take out all nodes that give the id of another node; return what was said of the last of them."""
        reason = None
        for client in sorted({stamp.client_id for stamp in stamps.values()}):
            claiming = {node for node, stamp in stamps.items() if stamp.client_id == client}
            rivals = claiming | {node for node, name in clients.items() if name == client}
            rivals |= self.roster.contested.get(client, frozenset())
            if len(rivals) == 1:
                continue
            self.roster.contested[client] = frozenset(rivals)
            names = " and ".join(map(str, sorted(rivals)))
            reason = f"nodes {names} all say that they are client {client}; none of them takes part until one is left"
            for node in rivals:
                stamps.pop(node, None)
                clients.pop(node, None)
                self._keep_away(node, client, reason)
        return reason

    def _keep_away(self, node: int, client: str, reason: str) -> None:
        self.leave_out(client, reason)
        self.roster.kept_away[node] = client, reason

    def _ask(self, nodes: Sequence[int]) -> dict[int, Message]:
        """What nodes say of themselves; those that answer with an error are asked again."""
        replies: dict[int, Message] = {}
        asked = list(nodes)
        for pause in self.exchange.pauses:
            if pause:
                time.sleep(pause)
            messages = [Message(RecordDict(), node, protocol.IDENTIFY) for node in asked]
            for reply in self.exchange.send(messages, self.timeout):
                replies[reply.metadata.src_node_id] = reply
            asked = [node for node in asked if node in replies and replies[node].has_error()]
            if not asked:
                break
        return replies

    def _class_count(self, replies: Sequence[Message]) -> int:
        """What is known, else what most say: one client must not have the others left out."""
        counts = Counter(
            count
            for reply in replies
            if reply.has_content()
            and (count := protocol.read_count(reply, "class-count"))
            == len(protocol.read_counts(reply, "class-samples"))
        )
        return self.roster.class_count or max(counts, key=lambda count: counts[count], default=0)

    def shows_tombstones(self, stamp: protocol.Stamp, node: int) -> protocol.Stamp | None:
        """What a client shows if it has the tombstones that it confirmed, be it with others that were not heard of.

        Parameters
        ----------
        stamp : Stamp
            Stamp of the client's reply.
        node : int
            Node at which the client is asked once more, if need be. A store of an older version learns there whose
            tombstones it has.

        Returns
        -------
        Stamp or None
            The newest stamp of the client; None if tombstones are missing.
        """
        expected = self.roster.confirmed.get(stamp.client_id, stamp.tombstones)
        if expected == stamp.tombstones:
            return stamp
        without = tuple(sorted(self.unheard(stamp.client_id), key=lambda name: name.request_id))
        content = protocol.content(protocol.IdentifyInstruction(without=without, confirmed=expected))
        for reply in self.exchange.send([Message(content, node, protocol.IDENTIFY)], self.timeout):
            if reply.has_content() and protocol.read_earlier_tombstones(reply) == expected:
                newest = protocol.read_stamp(reply)
                return newest if newest is not None and newest.client_id == stamp.client_id else None
        return None


def contested_among(contested: Mapping[str, frozenset[int]], connected: Collection[int]) -> dict[str, frozenset[int]]:
    """The client ids that still more than one of the connected nodes gives, each with its nodes."""
    left = {client: nodes & frozenset(connected) for client, nodes in contested.items()}
    return {client: nodes for client, nodes in left.items() if len(nodes) > 1}
