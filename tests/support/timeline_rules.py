"""The four rules that must hold at every moment, whatever crashes, each looked at from outside of the code.

Every rule is a function that yields, in words, what breaks it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from flwr.app import Message
from tiny_federation import tiny_data
from tiny_world import TRAINING, World

from fed_unlearn import protocol
from fed_unlearn.checkpoints import CheckpointStore
from fed_unlearn.ledger import Ledger, LedgerEntry
from fed_unlearn.ledger.lifecycle import FINAL, TRANSITIONS, Status
from fed_unlearn.requests import ClassScope, ClientScope

if TYPE_CHECKING:
    from timeline_witness import Witness

Arrays = Mapping[str, np.ndarray]
Stored = dict[str, dict[str, Any]]
"""What a client's store has of each request."""

UNDONE = (Status.REJECTED, Status.WITHDRAWN)


def fingerprint(arrays: Arrays) -> str:
    """What tells one model from another, bit for bit."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()


# ---------------------------------------------------------------------- 1: nothing is lost, nothing is done twice


def every_request_is_in_the_ledger(witness: Witness) -> Iterator[str]:
    """Rule 1: a request once acknowledged is in the ledger, and what happened to it is a life that requests have."""
    entries = witness.entries()
    for name in sorted(witness.acknowledged - set(entries)):
        yield f"request {name} was acknowledged and is lost"
    for name, entry in entries.items():
        steps = [Status(event.name) for event in witness.ledger.events(name) if event.name in set(Status)]
        if not steps or steps[0] is not Status.RECEIVED or steps[-1] is not entry.status:
            yield f"request {name} is {entry.status}, and its events are {steps}"
        for before, after in pairwise(steps):
            if after not in TRANSITIONS[before]:
                yield f"request {name} went from {before} to {after}"


def no_request_is_applied_twice(witness: Witness) -> Iterator[str]:
    """Rule 1: a request is committed once, and once more only where it relapsed and was opened again."""
    events = witness.ledger.events()
    models = [str(event.facts["after"]).split("+") for event in events if event.name == "model-accepted"]
    led_to = Counter(name for names in models for name in names)
    for name in witness.entries():
        steps = [event.name for event in events if event.request_id == name]
        if steps.count(Status.COMMITTED) > 1 + steps.count(Status.REOPENED):
            yield f"request {name} was committed {steps.count(Status.COMMITTED)} times"
        if led_to[name] != steps.count(Status.COMMITTED):
            yield f"request {name} led to {led_to[name]} models in {steps.count(Status.COMMITTED)} commits"


def what_a_store_knew_it_knows(witness: Witness, client: int, stored: Stored) -> Iterator[str]:
    """Rules 1 and 3: tombstones are written once and stay; quarantine ends only with a rejection or a withdrawal."""
    entries: dict[str, LedgerEntry] = {}
    for name, before in witness.known.get(client, {}).items():
        now = stored.get(name)
        if now is None:
            entries = entries or witness.entries()
            if before["tombstoned"] or name not in entries or entries[name].status not in UNDONE:
                yield f"client {client} knows nothing of request {name} any more"
        elif now["sample_ids"] != before["sample_ids"]:
            yield f"client {client}: the samples of request {name} are others now"
        elif before["tombstoned"] and not now["tombstoned"]:
            yield f"client {client}: the tombstones of request {name} are gone"


def nothing_is_left_that_could_go_on(witness: Witness, *, healed: bool) -> Iterator[str]:
    """Rule 1: after a run to the end, what is pending has a reason, and nothing was left halfway."""
    process = witness.process
    assert process is not None
    there = {str(node - 1) for node in process.grid.get_node_ids()}
    online = there - {str(client) for client in witness.lost}
    if not healed and process.strategy.state.load_training() is not None:
        return  # nobody was there to train with, or to audit what was trained: requests wait for that
    if process.strategy.state.open_work() is not None:
        yield "an attempt is open at the end"
    for entry in witness.ledger.pending():
        if not entry.reason:
            yield f"request {entry.id} is {entry.status} without a reason"
        if entry.status is Status.HELD and not entry.approved:
            continue
        if entry.status is Status.WAITING and (not healed or witness.lost):
            continue
        if entry.status is Status.WAITING and getattr(entry.request.scope, "client", None) not in {None, *there}:
            continue  # there is no such client
        yield f"request {entry.id} is {entry.status} and could go on: {entry.reason}"
    if not healed:
        return
    for entry in witness.ledger.entries():
        owing = set(entry.owed) & online - witness.ledger.departed()
        if owing:
            yield f"clients {sorted(owing)} still owe tombstones of request {entry.id}"
        reached = getattr(entry.request.scope, "client", None)
        if entry.release_due and not witness.lost and (reached is None or reached in online):
            yield f"the holders of request {entry.id} were not told that it was withdrawn"


# ---------------------------------------------------------------------- 2: what serves was accepted


def the_gate_accepted_what_serves(witness: Witness) -> Iterator[str]:
    """Rule 2: each model that begins to serve is one that the gate was shown, and that it accepted for what it is for.

    Its checkpoint can be read, tombstones were written before, and where audits can be trusted its forget accuracy,
    computed here, is what the gate asks for.
    """
    assert witness.process is not None
    if witness.ledger._one("SELECT COUNT(*) FROM models")[0] == witness.models_seen:
        return
    models = [event for event in witness.ledger.events() if event.name == "model-accepted"]
    if len(models) != witness.models_seen + 1:
        yield f"{len(models) - witness.models_seen} models were accepted in one transaction"
    witness.models_seen = len(models)
    digest, after = str(models[-1].facts["digest"]), str(models[-1].facts["after"])
    arrays = witness.process.strategy.checkpoints.load(digest)
    if digest != witness.ledger.served_model():
        yield "the model that serves is not the one that was accepted last"
    if after == "initial":
        if len(models) > 1:
            yield "the initial model serves again"
        return
    names = ["train"] if after.startswith("train:") else after.split("+")
    for name in names:
        if (fingerprint(arrays), name) not in witness.accepted:
            yield f"the model after {after} serves, and the gate never accepted it for {name}"
    if names != ["train"]:
        for name in names:
            yield from _committed_well(witness, witness.entries()[name], arrays)


def _committed_well(witness: Witness, entry: LedgerEntry, arrays: Arrays) -> Iterator[str]:
    """What must hold at the moment of a commit."""
    scope = entry.request.scope
    hits = total = 0
    for client in range(witness.world.clients):
        stored = witness.stored(client).get(entry.id)
        if stored is None:
            continue
        if not stored["tombstoned"] and not isinstance(scope, ClientScope) and str(client) not in entry.owed:
            yield f"request {entry.id} is committed, and client {client} has no tombstones of it"
        right, count = _recognised(witness.world, client, stored["sample_ids"], arrays)
        hits, total = hits + right, total + count
    bound = witness.gate.thresholds(scope.kind).max_forget_accuracy
    if witness.trusts_audits and bound is not None and total and hits / total > bound:
        yield f"request {entry.id} is committed with forget accuracy {hits / total:.3f}, over {bound}"


def _recognised(world: World, client: int, ids: list[str], arrays: Arrays) -> tuple[int, int]:
    held = tiny_data(client, world.clients, world.classes).train
    positions = [index for index, name in enumerate(held.ids) if name in set(ids)]
    images = held.images[positions].flatten(1).numpy().astype(np.float64)
    logits = images @ arrays["1.weight"].astype(np.float64).T + arrays["1.bias"]
    return int((logits.argmax(1) == held.labels[positions].numpy()).sum()), len(positions)


def the_ledgers_model_serves(witness: Witness, served: Arrays) -> Iterator[str]:
    """Rule 2: what a call hands over is the ledger's model, bit for bit, whatever was rolled back before."""
    assert witness.process is not None
    digest = witness.ledger.served_model()
    if digest is None:
        yield "no model serves"
    elif fingerprint(witness.process.strategy.checkpoints.load(digest)) != fingerprint(served):
        yield "the model that was handed over is not the ledger's"


def the_checkpoint_is_there(ledger: Ledger, checkpoints: CheckpointStore) -> Iterator[str]:
    """Rule 2: after a crash, the model that the ledger names can be read."""
    digest = ledger.served_model()
    if digest is not None and not checkpoints.load(digest):
        yield "the served model has no arrays"


# ---------------------------------------------------------------------- 3: quarantine and tombstones


def forget_samples_are_in_no_batch(witness: Witness, client: int, message: Message, ids: set[str]) -> Iterator[str]:
    """Rule 3: what a store knows to be forgotten is in no batch but those of a request for it, and in none for ever
    once it is committed; of a class that was forgotten no sample is trained on anywhere, known to a store or not.
    """
    kind, own = message.metadata.message_type, _requests_of(message)
    strangers = {name for name in ids if not name.startswith((f"{client}-train-", f"{client}-validation-"))}
    if strangers:
        yield f"client {client}: {kind} with samples {sorted(strangers)[:3]}, which are not its own"
    entries, now = witness.entries(), witness.stored(client)
    asked = {name for request in own for name in now.get(request, {}).get("sample_ids", ())}
    for name, stored in witness.known.get(client, {}).items():
        found = (ids - asked) & set(stored["sample_ids"])
        undone = name in entries and entries[name].status in UNDONE and not entries[name].ever_committed
        if found and name not in own and not undone:
            yield f"client {client}: {kind} with {sorted(found)[:3]} of request {name}, {entries[name].status}"
    forgotten = {
        label
        for entry in entries.values()
        if isinstance(entry.request.scope, ClassScope) and entry.ever_committed and entry.id not in own
        for label in entry.request.scope.classes
    }
    held = tiny_data(client, witness.world.clients, witness.world.classes).train
    labels = {
        label
        for name, label in zip(held.ids, held.labels.tolist(), strict=True)
        if name in ids - asked and label in forgotten
    }
    if labels:
        yield f"client {client}: {kind} with samples of the forgotten classes {sorted(labels)}"


def left_clients_are_left_alone(witness: Witness, client: int, message: Message) -> Iterator[str]:
    """Rule 3: a client that was forgotten is asked to train no more; nor is one that cannot show its tombstones."""
    kind = message.metadata.message_type
    if kind not in (*TRAINING, "evaluate"):
        return
    entries = witness.entries()
    for entry in entries.values():
        gone = isinstance(entry.request.scope, ClientScope) and entry.ever_committed
        if gone and entry.request.scope.client == str(client) and entry.id not in _requests_of(message):
            yield f"client {client} is forgotten, and is sent {kind}"
    if client in witness.lost and kind != "evaluate":
        yield f"client {client} has lost its tombstones, and is sent {kind}"


def _requests_of(message: Message) -> set[str]:
    match message.metadata.message_type:
        case protocol.UNLEARN:
            return {target.request_id for target in protocol.UnlearnInstruction.from_message(message).targets}
        case protocol.REPAIR:
            return {name for name, _ in protocol.RepairInstruction.from_message(message).guarded}
    return set()


# ---------------------------------------------------------------------- 4: failed means failed


def failed_requests_say_why(witness: Witness) -> Iterator[str]:
    """Rule 4: a request that failed has the reason, and figures or a reason that explains why there are none."""
    for entry in witness.ledger.entries():
        if entry.status in (Status.FAILED, Status.REJECTED) and not entry.reason:
            yield f"request {entry.id} is {entry.status} without a reason"
        if entry.status is Status.FAILED:
            steps = [event.name for event in witness.ledger.events(entry.id)]
            if entry.ever_committed and Status.REOPENED not in steps:
                yield f"request {entry.id} failed and was committed"
            judged = any(word in (entry.reason or "") for word in ("accuracy", "AUC", "drawn to fail"))
            if entry.outcome is None or (judged and entry.outcome["after"] is None):
                yield f"request {entry.id} failed for {entry.reason!r}, without figures"
        if entry.status in FINAL - {Status.WITHDRAWN} and entry.outcome is None:
            yield f"request {entry.id} is {entry.status}, and nothing says how it went"
