"""Which of a client's samples an instruction speaks of: forget sets, guards, parts of an audit, and what is counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from fed_unlearn import protocol
from fed_unlearn.audits.membership import confidence_histogram
from fed_unlearn.client_session import ClientSession
from fed_unlearn.data.images import ImageSet
from fed_unlearn.errors import FedUnlearnError, InvalidRequestError
from fed_unlearn.guard import Guard
from fed_unlearn.seeding import seeded_generator


def forget_set(target: protocol.Target, session: ClientSession, seed: int, arrived: int = 0) -> ImageSet:
    """This client's samples of a request: those quarantined for it, else found now.

    Samples of later training experiences are among them where classes or the client are forgotten: they are never to be
    trained on either. So are samples that are quarantined for another request, which may be withdrawn. Those that the
    client draws by itself have been trained on.

    Parameters
    ----------
    target : Target
    session : ClientSession
    seed : int
        Of the samples that the client draws by itself.
    arrived : int
        Training experiences whose samples are there already; 0 for all.

    Raises
    ------
    InvalidRequestError
        If samples are asked for that are not here.
    """
    train = session.data.train
    stored = session.store.get(target.request_id)
    if stored is not None:
        if stored.tombstoned and not stored.may_be_audited():
            raise FedUnlearnError(f"request {target.request_id} is committed here, and its samples are kept no longer")
        return train.only(stored.sample_ids)
    match target.scope:
        case "class":
            return train.without(session.store.tombstoned_ids()).of_classes(target.classes)
        case "client":
            return train.without(session.store.tombstoned_ids())
    if target.sample_ids:
        available = session.retained_samples()
        forget = available.only(target.sample_ids)
        if len(forget) < len(target.sample_ids):
            missing = len(target.sample_ids) - len(forget)
            raise InvalidRequestError(
                f"{missing} of the {len(target.sample_ids)} sample ids of request {target.request_id} are"
                " unknown here or forgotten already"
            )
        return forget
    return _drawn(target, session.retained_samples(arrived), session, seed)


def _drawn(target: protocol.Target, available: ImageSet, session: ClientSession, seed: int) -> ImageSet:
    if target.sample_class is not None and target.sample_count < len(available):
        available = available.of_classes({target.sample_class})
        enough = target.sample_count <= len(available)
    else:
        enough = target.sample_count < len(available)
    if not enough:
        raise InvalidRequestError(
            f"request {target.request_id} asks for {target.sample_count} samples; {len(available)} such"
            " samples are left here to train on: ask for fewer, or for the whole client"
        )
    generator = seeded_generator(seed, "draw", target.request_id, session.client_id)
    drawn = torch.randperm(len(available), generator=generator)[: target.sample_count]
    return available.subset(drawn.sort().values)


def guarded_samples(session: ClientSession, request_id: str, attempt: int) -> list[Guard]:
    """What an open attempt taught its samples here; nothing where it is not open."""
    stored = session.store.get(request_id)
    if stored is None or not stored.may_be_audited() or stored.attempt != attempt or not stored.guard_labels:
        return []
    samples = session.data.train.only(stored.sample_ids)
    return [Guard(samples, torch.tensor(stored.guard_labels, dtype=torch.int64))]


def halves(samples: ImageSet) -> tuple[ImageSet, ImageSet]:
    """Two halves with the same classes: what methods may read of validation data, and what the gate alone does."""
    first = torch.zeros(len(samples), dtype=torch.bool)
    for label in samples.labels.unique():
        first[(samples.labels == label).nonzero().flatten()[::2]] = True
    return samples.subset(first.nonzero().flatten()), samples.subset((~first).nonzero().flatten())


def samples_of(part: protocol.Part, session: ClientSession, instruction: protocol.AuditInstruction) -> ImageSet:
    """The samples of one part of an audit."""
    if part == "validation":
        return session.data.validation
    if part == "test":
        return session.data.test
    samples = session.retained_samples(instruction.arrived)
    if 0 < instruction.retain_limit < len(samples):
        generator = seeded_generator(instruction.seed, "audit", session.client_id)
        chosen = torch.randperm(len(samples), generator=generator)[: instruction.retain_limit]
        samples = samples.subset(chosen.sort().values)
    return samples


def request_counts(
    target: protocol.Target,
    session: ClientSession,
    read: Mapping[protocol.Part, tuple[ImageSet, Tensor]],
    logits_of: Callable[[ImageSet], Tensor],
) -> protocol.RequestCounts:
    """Hits on this client's share of D_f, and the two sides of the membership attack.

    Outsiders of a class request are all test samples of its classes; those of other requests are the holder's own test
    samples of the same classes, so that no label of a forget sample leaves it.

    Parameters
    ----------
    target : Target
    session : ClientSession
    read : mapping of part to (ImageSet, Tensor)
        Parts that were read already, with their logits.
    logits_of : callable
        Of further samples.
    """
    stored = session.store.get(target.request_id)
    forget = session.data.train.subset(torch.empty(0, dtype=torch.int64))
    if stored is not None and stored.may_be_audited():
        forget = session.data.train.only(stored.sample_ids)
    logits = logits_of(forget)
    classes = torch.tensor(target.classes) if target.classes else forget.labels.unique()
    totals = torch.bincount(forget.labels, minlength=session.data.class_count).tolist()
    outsiders = read.get("test")
    unseen = read.get("validation") if target.scope == "sample" and len(forget) else None
    return protocol.RequestCounts(
        correct=int((logits.argmax(1) == forget.labels).sum()) if len(forget) else 0,
        total=len(forget),
        member_histogram=confidence_histogram(logits, forget.labels),
        outsider_histogram=_histogram_of(*outsiders, classes) if outsiders is not None else [],
        unseen_histogram=_unseen_histogram(*unseen, classes) if unseen is not None else [],
        class_totals=totals if target.scope == "client" and len(forget) else [],
    )


def _histogram_of(samples: ImageSet, logits: Tensor, classes: Tensor) -> list[int]:
    chosen = torch.isin(samples.labels, classes)
    return confidence_histogram(logits[chosen], samples.labels[chosen])


def _unseen_histogram(samples: ImageSet, logits: Tensor, classes: Tensor) -> list[int]:
    _, kept = halves(samples)
    ids = set(kept.ids)
    positions = torch.tensor([index for index, name in enumerate(samples.ids) if name in ids], dtype=torch.int64)
    return _histogram_of(kept, logits[positions], classes)
