"""The client's samples that an instruction names: forget sets, guards, parts of an audit, and what audits read."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from fed_unlearn import protocol
from fed_unlearn.audits.base import Judged, Observation
from fed_unlearn.audits.counts import Part
from fed_unlearn.client.judged_models import JudgedModels
from fed_unlearn.client.owner_side import queued_samples, still_to_forget
from fed_unlearn.client.session import ClientSession
from fed_unlearn.client.stored import StoredRequest
from fed_unlearn.data.draws import drawn
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.holder import Guard, observe
from fed_unlearn.seeding import derive_seed, seeded_generator


def forget_set(target: protocol.Target, session: ClientSession, seed: int, arrived: int = 0) -> SampleSet:
    """This client's samples of a request: those quarantined for it, else found now.

    Samples of later training experiences are among them where classes or the client are forgotten: they are never to be
    trained on either. So are samples that are quarantined for another request, which may be withdrawn. Those that the
    client draws by itself have been trained on. Of samples that a request names, those that are forgotten already count
    as done.

    Parameters
    ----------
    target : Target
    session : ClientSession
    seed : int
        Seed of the samples that the client draws by itself.
    arrived : int
        Training experiences whose samples are there already; 0 for all.

    Raises
    ------
    InvalidRequestError
        If samples are asked for that are not here, or that are all forgotten already.
    """
    train = session.data.train
    stored = stored_request(target, session, seed, arrived)
    if stored is not None:
        if stored.tombstoned and not stored.may_be_audited():
            raise FedUnlearnError(f"request {target.request_id} is committed here, and its samples are kept no longer")
        return train.only(stored.sample_ids)
    match target.scope:
        case "class":
            return train.without(session.store.unusable_ids()).of_classes(target.classes)
        case "client":
            return train.without(session.store.unusable_ids())
    if target.queued:
        return queued_samples(target, session)
    if target.sample_ids:
        return still_to_forget(target.request_id, target.sample_ids, session)
    return drawn_samples(target, session, session.retained_samples(arrived), seed)


def stored_request(
    target: protocol.Target, session: ClientSession, seed: int | None = None, arrived: int = 0
) -> StoredRequest | None:
    """What the store has of a request; None where it has nothing.

    A request of a store of version 1 is taken as this one if it has the same id and the samples that are asked for.

    Parameters
    ----------
    target : Target
        The request.
    session : ClientSession
        The client's side of the message.
    seed : int, optional
        Seed of the samples that the client draws by itself. Without it, their number and class decide.
    arrived : int
        Training experiences whose samples are there already; 0 for all.

    Raises
    ------
    InvalidRequestError
        If the ledger asked for something else under this id before.
    """
    stored = session.store.get(target.request_id, target.digest)
    if stored is not None:
        return stored
    old = session.store.unclaimed(target.request_id)
    if old is None or old.tombstoned or not _is_asked_for(old, target, session, seed, arrived):
        return None
    return session.store.claim(target.request_id, target.digest)


def _is_asked_for(
    old: StoredRequest, target: protocol.Target, session: ClientSession, seed: int | None, arrived: int
) -> bool:
    """Whether a request asks for the samples that were stored under its id."""
    train, kept = session.data.train, set(old.sample_ids)
    match target.scope:
        case "class" | "client":
            whole = train.of_classes(target.classes) if target.scope == "class" else train
            others = session.store.excluded_ids() - kept
            return set(whole.ids) - others <= kept <= set(whole.ids)
    if target.queued:
        return False  # stores of version 1 know of no owner
    if target.sample_ids:
        return kept == set(target.sample_ids)
    samples = train.only(old.sample_ids)
    if len(samples) != target.sample_count:
        return False
    if target.sample_class is not None and bool((samples.labels != target.sample_class).any()):
        return False
    if seed is None or target.attempt > old.attempt:
        return True
    available = session.data.arrived(arrived or None).without(session.store.excluded_ids() - kept)
    return set(drawn_samples(target, session, available, seed).ids) == kept


def drawn_samples(target: protocol.Target, session: ClientSession, available: SampleSet, seed: int) -> SampleSet:
    """The samples of a request that the client draws by itself from the given ones."""
    positions = drawn(
        available.labels,
        target.sample_count,
        request_id=target.request_id,
        client=session.client_id,
        seed=seed,
        of_class=target.sample_class,
    )
    return available.subset(positions)


def guarded_samples(session: ClientSession, guarded: protocol.RequestAttempt) -> list[Guard]:
    """What an open attempt taught its samples here; nothing where it is not open."""
    stored = session.store.get(guarded.request_id, guarded.digest)
    if stored is None or not stored.may_be_audited() or stored.attempt != guarded.attempt or not stored.guard_labels:
        return []
    samples = session.data.train.only(stored.sample_ids)
    return [Guard(samples, torch.tensor(stored.guard_labels, dtype=torch.int64))]


def samples_of(part: Part, session: ClientSession, instruction: protocol.AuditInstruction) -> SampleSet:
    """The samples of one part of an audit."""
    limit = instruction.limit_of(part)
    if part == "retain":
        chosen = _some(session.retained_samples(instruction.arrived), limit, session.data.train, session, instruction)
        return _with_every_class(chosen, session.retained_samples(instruction.arrived))
    whole = session.data.validation if part == "validation" else session.data.test
    return _some(whole, limit, whole, session, instruction)


def _some(
    samples: SampleSet, limit: int, whole: SampleSet, session: ClientSession, instruction: protocol.AuditInstruction
) -> SampleSet:
    """Some samples of a set, the same ones for every model; all where they are no more than the limit or it is 0.

    The samples of ``whole``, of which they are, have an order by chance, and the first ones in it are taken.
    """
    if not 0 < limit < len(samples):
        return samples
    order = torch.randperm(len(whole), generator=seeded_generator(instruction.seed, "audit", session.client_id))
    ranks = dict(zip(whole.ids, order.tolist(), strict=True))
    by_rank = sorted(range(len(samples)), key=lambda position: ranks[samples.ids[position]])
    return samples.subset(torch.tensor(sorted(by_rank[:limit])))


def _with_every_class(chosen: SampleSet, samples: SampleSet) -> SampleSet:
    """The chosen samples, and one more of each class that is not among them: no class seems to be absent that is there.

    Classes of which nothing is retained are no part of D_r and D_rt.
    """
    seen, added = set(chosen.labels.tolist()), list[str]()
    for sample_id, label in zip(samples.ids, samples.labels.tolist(), strict=True):
        if label not in seen:
            seen.add(label)
            added.append(sample_id)
    return samples.only({*chosen.ids, *added}) if added else chosen


def observed(
    target: protocol.Target,
    session: ClientSession,
    judged: JudgedModels,
    read: Mapping[Part, Judged],
    instruction: protocol.AuditInstruction,
) -> Observation:
    """What the audits of a request read at this client.

    Parameters
    ----------
    target : Target
    session : ClientSession
    judged : JudgedModels
        Answers of the models that are judged. They read further samples.
    read : mapping of part to Judged
        Parts that were read already.
    instruction : AuditInstruction
        What the server asks.
    """
    stored = stored_request(target, session)
    forget, limits = session.data.train.subset(torch.empty(0, dtype=torch.int64)), None
    if stored is not None and stored.may_be_audited():
        forget = session.data.train.only(stored.sample_ids)
        forget = _some(forget, instruction.limit_beside(target), session.data.train, session, instruction)
        if stored.limits:
            of_sample = dict(zip(stored.sample_ids, stored.limits, strict=True))
            limits = torch.tensor([of_sample[name] for name in forget.ids])
    return observe(
        judged.used,
        target.scope,
        target.classes,
        judged.read(forget, scored=bool(instruction.audits_of(target)))[1],
        session.data.class_count,
        test=read.get("test"),
        validation=read.get("validation"),
        retained=read.get("retain"),
        left_out=instruction.left_out_beside(target),
        triggered=_triggered(target, session, judged, instruction),
        limits=limits,
        seed=derive_seed(instruction.seed, "audit", target.request_id, session.client_id),
    )


def _triggered(
    target: protocol.Target, session: ClientSession, judged: JudgedModels, instruction: protocol.AuditInstruction
) -> Judged | None:
    """The test samples that are read, with the data's trigger shown on them, where a client request's audits read any.

    A server takes them for no more than the client's other test samples: the same limit holds.
    """
    trigger = session.data.trigger
    if trigger is None or target.scope != "client" or "test" not in instruction.parts:
        return None
    if not instruction.audits_of(target):
        return None
    # A part by itself: they have the ids of the samples that the trigger is shown on.
    return judged.read(trigger.shown(samples_of("test", session, instruction)), part="triggered")[1]
