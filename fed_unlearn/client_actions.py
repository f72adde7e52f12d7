"""What a client does on each unlearning message."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import wraps

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord
from torch import Tensor, nn

from fed_unlearn import methods, protocol
from fed_unlearn.arrays import pack
from fed_unlearn.audits.accuracy import ClassCounts
from fed_unlearn.audits.membership import confidence_histogram
from fed_unlearn.client_session import ClientSession, Handler, current_session, describe
from fed_unlearn.data.images import ImageSet
from fed_unlearn.errors import FedUnlearnError, InvalidRequestError
from fed_unlearn.guard import Guard, guard_retained
from fed_unlearn.inference import predict_logits
from fed_unlearn.methods.labels import guard_labels_of
from fed_unlearn.seeding import derive_seed, isolated_random, seeded_generator

logger = logging.getLogger("fed_unlearn.client")


def _action(handle: Callable[[Message, ClientSession], Message]) -> Handler:
    """A Flower handler; the library's own errors become refusals, others error replies without their text."""

    @wraps(handle)
    def handler(message: Message, context: Context) -> Message:
        session = current_session()
        try:
            return handle(message, session)
        except FedUnlearnError as error:
            logger.warning("client %s: %s: %s", session.client_id, message.metadata.message_type, error)
            reason = f"client {session.client_id}: {describe(error)}"
            invalid = isinstance(error, InvalidRequestError)
            return protocol.refuse(message, protocol.Refusal(reason=reason, invalid_request=invalid))

    return handler


@_action
def unlearn(message: Message, session: ClientSession) -> Message:
    """``train.unlearn``: quarantine the samples of the request that are here, and unlearn them."""
    instruction = protocol.UnlearnInstruction.from_message(message)
    forget = _forget_set(instruction, session)
    if len(forget) == 0:
        return protocol.reply(message, MetricRecord({protocol.WEIGHT: 0}), ArrayRecord())
    session.store.quarantine(instruction.request_id, forget.ids, instruction.attempt)
    method = methods.create(instruction.method, **instruction.parameters)
    for _ in range(instruction.attempt - 1):
        method = method.stronger()
    model = session.model_with(protocol.arrays_of(message))
    outcome, passes = _unlearned(instruction, session, method, model, forget)
    if not method.is_control:
        if outcome.guard_labels is None:
            passes += len(forget)
        guard_labels = guard_labels_of(outcome, forget, instruction.excluded_classes)
        session.store.set_guard(instruction.request_id, instruction.attempt, guard_labels.tolist())
    metrics = MetricRecord(
        {
            protocol.WEIGHT: len(forget),
            protocol.FORWARD_PASSES: passes,
            protocol.BACKWARD_PASSES: outcome.backward_passes,
            "steps": outcome.steps,
            "converged": int(outcome.converged),
            "seconds": outcome.seconds,
        }
    )
    return protocol.reply(message, metrics, pack(outcome.model.state_dict()))


def _unlearned(
    instruction: protocol.UnlearnInstruction,
    session: ClientSession,
    method: methods.Method,
    model: nn.Module,
    forget: ImageSet,
) -> tuple[methods.Outcome, int]:
    """What the method makes of the model, and the samples that it pushed forward.

    A client that holds nothing but forgotten samples cannot run a method that needs others: it hands the model back as
    it is, and guarded repair, for which it stores labels, does the forgetting.
    """
    retained, validation = session.retained_samples(), session.data.validation
    if method.requires_retain and len(retained) == 0:
        logger.warning(
            "client %s: %s needs samples that are kept and there are none here; left to guarded repair",
            session.client_id,
            instruction.method,
        )
        return methods.Outcome(model, False, 0, 0.0, 0, 0, None), 0
    seed_parts = (
        instruction.seed,
        "unlearn",
        instruction.request_id,
        instruction.attempt,
        instruction.step,
        session.client_id,
    )
    with isolated_random(derive_seed(*seed_parts)):
        outcome = method.unlearn(
            model,
            forget,
            retained if len(retained) else None,
            excluded_classes=instruction.excluded_classes,
            generator=seeded_generator(*seed_parts),
            unseen=validation if len(validation) else None,
        )
    return outcome, outcome.forward_passes


@_action
def repair(message: Message, session: ClientSession) -> Message:
    """``train.repair``: train on retained data, mixed with guarded samples under their guard labels."""
    instruction = protocol.RepairInstruction.from_message(message)
    guards = [
        guard for request_id, attempt in instruction.guarded for guard in _guarded_samples(session, request_id, attempt)
    ]
    samples = guard_retained(
        session.retained_samples(), guards, weight=instruction.guard_weight, margin=instruction.guard_margin
    )
    if len(samples) == 0:
        return protocol.reply(message, MetricRecord({protocol.WEIGHT: 0}), ArrayRecord())
    model = session.model_with(protocol.arrays_of(message))
    seed_parts = (instruction.seed, "repair", instruction.round, session.client_id)
    with isolated_random(derive_seed(*seed_parts)):
        passes = session.task.train(model, samples, protocol.config_of(message), seeded_generator(*seed_parts))
    metrics = MetricRecord(
        {
            protocol.WEIGHT: len(samples),
            protocol.FORWARD_PASSES: passes.forward,
            protocol.BACKWARD_PASSES: passes.backward,
        }
    )
    return protocol.reply(message, metrics, pack(model.state_dict()))


@_action
def confirm(message: Message, session: ClientSession) -> Message:
    """``train.confirm``: the request was committed; its samples are tombstoned, on disk, before the reply."""
    instruction = protocol.SettleInstruction.from_message(message)
    session.store.confirm(instruction.request_id, instruction.retention_days)
    session.task.forget_cached_state(session.context)
    return protocol.reply(message, MetricRecord())


@_action
def discard(message: Message, session: ClientSession) -> Message:
    """``train.discard``: the attempt was rolled back; its guard labels go, quarantine stays unless released."""
    instruction = protocol.SettleInstruction.from_message(message)
    session.store.discard(instruction.request_id, instruction.attempt)
    if instruction.release:
        session.store.release(instruction.request_id)
    return protocol.reply(message, MetricRecord())


@_action
def audit(message: Message, session: ClientSession) -> Message:
    """``evaluate.audit``: count what the given model gets right here."""
    instruction = protocol.AuditInstruction.from_message(message)
    model = session.model_with(protocol.arrays_of(message))
    passes = 0

    def logits_of(samples: ImageSet) -> Tensor:
        nonlocal passes
        passes += len(samples)
        return predict_logits(model, samples)

    class_count = session.data.class_count
    parts: dict[protocol.Part, ClassCounts] = {}
    unseen: dict[protocol.Part, tuple[ImageSet, Tensor]] = {}
    for part in instruction.parts:
        samples = _samples_of(part, session, instruction)
        logits = logits_of(samples)
        parts[part] = ClassCounts.of(logits, samples.labels, class_count)
        unseen[part] = (samples, logits)
    targets = {target.request_id: _request_counts(target, session, unseen, logits_of) for target in instruction.targets}
    answer = protocol.AuditReply(parts=parts, targets=targets, forward_passes=passes)
    return protocol.reply(message, answer.to_record())


@_action
def identify(message: Message, session: ClientSession) -> Message:
    """``query.identify``: who this node is; the answer is the stamp that every reply carries, and the class count."""
    return protocol.reply(message, MetricRecord({"class-count": session.data.class_count}))


@_action
def requests(message: Message, session: ClientSession) -> Message:
    """``query.requests``: forget requests that this client's owner has queued; none can be queued here yet."""
    return protocol.reply(message, MetricRecord({"queued": 0}))


ACTIONS: Mapping[str, Handler] = {
    protocol.UNLEARN: unlearn,
    protocol.REPAIR: repair,
    protocol.CONFIRM: confirm,
    protocol.DISCARD: discard,
    protocol.AUDIT: audit,
    protocol.IDENTIFY: identify,
    protocol.REQUESTS: requests,
}
"""Handler by message type, as :func:`fed_unlearn.client.install` registers them."""


def _forget_set(instruction: protocol.UnlearnInstruction, session: ClientSession) -> ImageSet:
    """This client's samples of the request: those quarantined for it, else found now."""
    train = session.data.train
    stored = session.store.get(instruction.request_id)
    if stored is not None:
        if stored.tombstoned:
            raise FedUnlearnError(f"request {instruction.request_id} is committed here already")
        return train.only(stored.sample_ids)
    available = session.retained_samples()
    if instruction.scope == "class":
        return available.of_classes(instruction.classes)
    if instruction.sample_ids:
        forget = available.only(instruction.sample_ids)
        if len(forget) < len(instruction.sample_ids):
            missing = len(instruction.sample_ids) - len(forget)
            raise InvalidRequestError(
                f"{missing} of the {len(instruction.sample_ids)} sample ids of request {instruction.request_id} are"
                " unknown here or forgotten already"
            )
        return forget
    if instruction.sample_class is not None and instruction.sample_count < len(available):
        available = available.of_classes({instruction.sample_class})
        enough = instruction.sample_count <= len(available)
    else:
        enough = instruction.sample_count < len(available)
    if not enough:
        raise InvalidRequestError(
            f"request {instruction.request_id} asks for {instruction.sample_count} samples; {len(available)} such"
            " samples are left here to train on: ask for fewer, or for the whole client"
        )
    generator = seeded_generator(instruction.seed, "draw", instruction.request_id, session.client_id)
    drawn = torch.randperm(len(available), generator=generator)[: instruction.sample_count]
    return available.subset(drawn.sort().values)


def _guarded_samples(session: ClientSession, request_id: str, attempt: int) -> list[Guard]:
    stored = session.store.get(request_id)
    if stored is None or stored.tombstoned or stored.attempt != attempt or not stored.guard_labels:
        return []
    samples = session.data.train.only(stored.sample_ids)
    return [Guard(samples, torch.tensor(stored.guard_labels, dtype=torch.int64))]


def _samples_of(part: protocol.Part, session: ClientSession, instruction: protocol.AuditInstruction) -> ImageSet:
    if part == "validation":
        return session.data.validation
    if part == "test":
        return session.data.test
    samples = session.retained_samples()
    if 0 < instruction.retain_limit < len(samples):
        generator = seeded_generator(instruction.seed, "audit", session.client_id)
        chosen = torch.randperm(len(samples), generator=generator)[: instruction.retain_limit]
        samples = samples.subset(chosen.sort().values)
    return samples


def _request_counts(
    target: protocol.AuditTarget,
    session: ClientSession,
    unseen: Mapping[protocol.Part, tuple[ImageSet, Tensor]],
    logits_of: Callable[[ImageSet], Tensor],
) -> protocol.RequestCounts:
    """Hits on this client's share of D_f, and the two sides of the membership attack.

    Outsiders of a class request are all test samples of its classes. Those of a sample request are the holder's own
    unseen samples of the same classes, so that no label of a forget sample leaves it.
    """
    stored = session.store.get(target.request_id)
    forget = session.data.train.subset(torch.empty(0, dtype=torch.int64))
    if stored is not None and stored.may_be_audited():
        forget = session.data.train.only(stored.sample_ids)
    logits = logits_of(forget)
    classes = target.classes or (forget.labels.unique().tolist() if len(forget) else ())
    parts: tuple[protocol.Part, ...] = ("test",) if target.classes else ("validation", "test")
    outsiders = [0] * len(confidence_histogram(torch.empty(0, 0), torch.empty(0)))
    for part in parts:
        if part in unseen and classes:
            samples, part_logits = unseen[part]
            chosen = torch.isin(samples.labels, torch.tensor(classes))
            counted = confidence_histogram(part_logits[chosen], samples.labels[chosen])
            outsiders = [left + right for left, right in zip(outsiders, counted, strict=True)]
    return protocol.RequestCounts(
        correct=int((logits.argmax(1) == forget.labels).sum()) if len(forget) else 0,
        total=len(forget),
        member_histogram=confidence_histogram(logits, forget.labels),
        outsider_histogram=outsiders,
    )
