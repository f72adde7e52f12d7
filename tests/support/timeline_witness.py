"""Somebody who sees what happens in a timeline, over all processes, and writes down what breaks a rule."""

from __future__ import annotations

from dataclasses import dataclass, field

from flwr.app import Message
from stores import stored_requests
from timeline_rules import (
    Arrays,
    Stored,
    every_request_is_in_the_ledger,
    failed_requests_say_why,
    forget_samples_are_in_no_batch,
    left_clients_are_left_alone,
    no_request_is_applied_twice,
    the_gate_accepted_what_serves,
    the_ledgers_model_serves,
    what_a_store_knew_it_knows,
)
from tiny_federation import Process
from tiny_world import World

from fed_unlearn.gate import Gate
from fed_unlearn.ledger import Ledger, LedgerEntry


@dataclass
class Witness:
    """What was seen so far, over all processes.

    Attributes
    ----------
    world : World
    gate : Gate
    process : Process or None
        The one that runs.
    acknowledged : set of str
        Requests that the ledger has taken.
    known : dict of int to dict
        What each client's store has ever known, by request; without what was released since.
    lost : set of int
        Clients whose store was lost after it had confirmed tombstones.
    accepted : set of (str, str)
        Models, and the requests or ``"train"`` that the gate accepted each with.
    audited : str
        The model that was audited last.
    broken : list of str
        What broke a rule.
    """

    world: World
    gate: Gate
    process: Process | None = None
    acknowledged: set[str] = field(default_factory=set)
    known: dict[int, Stored] = field(default_factory=dict)
    lost: set[int] = field(default_factory=set)
    accepted: set[tuple[str, str]] = field(default_factory=set)
    audited: str = ""
    broken: list[str] = field(default_factory=list)
    models_seen: int = 0
    trusts_audits: bool = True

    @property
    def ledger(self) -> Ledger:
        """The running server's."""
        assert self.process is not None
        return self.process.strategy.ledger

    def stored(self, client: int) -> Stored:
        """What a client's store has now, read from its file."""
        path = self.world.store_path(client)
        return stored_requests(path) if path.exists() else {}

    def entries(self) -> dict[str, LedgerEntry]:
        """The ledger's, by id."""
        return {entry.id: entry for entry in self.ledger.entries()}

    # ------------------------------------------------------------------ told by the world

    def on_message(self, client: int, message: Message) -> None:
        """Before a client handles a message, and after."""
        self.broken += left_clients_are_left_alone(self, client, message)
        self.look_at_store(client)

    def on_training(self, client: int, message: Message, ids: set[str]) -> None:
        """Samples that a model is being changed with."""
        self.broken += forget_samples_are_in_no_batch(self, client, message, ids)

    def on_point(self, name: str) -> None:
        """A transaction or file, before it is written and after."""
        if name == "committed" and self.process is not None:
            self.broken += the_gate_accepted_what_serves(self)

    def look_at_store(self, client: int) -> None:
        """Compare a client's store with what it knew before."""
        stored = self.stored(client)
        self.broken += what_a_store_knew_it_knows(self, client, stored)
        self.known[client] = stored


def check_after_step(witness: Witness, served: Arrays | None) -> None:
    """All rules, after a call has come to its end; it gave no model back where all clients failed."""
    problems = [
        *witness.broken,
        *every_request_is_in_the_ledger(witness),
        *no_request_is_applied_twice(witness),
        *(() if served is None else the_ledgers_model_serves(witness, served)),
        *failed_requests_say_why(witness),
    ]
    problem = witness.ledger.verify().problem
    assert not problems and problem is None, "\n".join([*problems, problem or ""])
