"""The client's handlers of unlearning messages."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from flwr.app import ArrayRecord, Context, Message, MetricRecord
from torch import Tensor, nn

from fed_unlearn import methods, protocol
from fed_unlearn.arrays import pack
from fed_unlearn.audits.accuracy import ClassCounts
from fed_unlearn.audits.asked import may_be_asked
from fed_unlearn.audits.base import Judged
from fed_unlearn.audits.counts import ClientCounts, Part, RequestCounts
from fed_unlearn.client.derived_answers import RowsSet
from fed_unlearn.client.judged_models import JudgedModels, for_classes
from fed_unlearn.client.queries import identify, requests
from fed_unlearn.client.relearning import blocks, relearn
from fed_unlearn.client.samples import forget_set, guarded_samples, observed, samples_of, stored_request
from fed_unlearn.client.session import ClientSession, Handler, current_session
from fed_unlearn.client.sums import statistics
from fed_unlearn.client.told_errors import describe
from fed_unlearn.client.working_model import frozen_rest, sent_arrays
from fed_unlearn.data.joined import concatenate
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import InvalidRequestError
from fed_unlearn.holder import recognises_any, repair_model, unlearn_samples
from fed_unlearn.methods.parts.labels import guard_labels_of
from fed_unlearn.methods.parts.workspace import SampleStanding

logger = logging.getLogger("fed_unlearn.client")


def unlearn(message: Message, context: Context) -> Message:
    """``train.unlearn``: quarantine this client's samples of the requests, and unlearn them."""
    session = current_session()
    instruction = protocol.UnlearnInstruction.from_message(message)
    session.kept_activations.drop()
    forget, refused = _quarantined(instruction, session)
    samples = concatenate(*forget.values()) if len(forget) > 1 else next(iter(forget.values()), None)
    counts = {request_id: len(part) for request_id, part in forget.items()}
    metrics, arrays = MetricRecord({protocol.WEIGHT: sum(counts.values())}), ArrayRecord()
    unlearned: nn.Module | None = None
    if samples is not None and len(samples) and instruction.method is not None:
        method = methods.create(instruction.method, **instruction.parameters)
        for _ in range(instruction.stronger):
            method = method.stronger()
        model = session.model_to_train(protocol.arrays_of(message))
        reference = session.model_beside(model, protocol.arrays_of(message), protocol.reference_of(message))
        if _hands_back(instruction, session, method, model, samples):
            outcome, passes = methods.Outcome(model, True, 0, 0.0, 0, 0, None), len(samples)
        else:
            with frozen_rest(session.task, model):
                outcome = unlearn_samples(
                    method,
                    model,
                    samples,
                    session.retained_samples(instruction.arrived),
                    session.data.validation,
                    excluded_classes=instruction.excluded_classes,
                    reference=reference,
                    seed=_seed_of(instruction, session),
                )
            passes = outcome.forward_passes
        if not method.is_control:
            if outcome.guard_labels is None:
                passes += len(samples)
            _keep_guards(instruction, session, forget, guard_labels_of(outcome, samples, instruction.excluded_classes))
        if outcome.standing is not None and outcome.standing.by == "reference":
            _keep_limits(instruction, session, forget, outcome.standing)
        arrays = pack(sent_arrays(session.task, outcome.model))
        unlearned = outcome.model
        metrics[protocol.FORWARD_PASSES] = passes
        metrics[protocol.BACKWARD_PASSES] = outcome.backward_passes
        metrics["steps"] = outcome.steps
        metrics["converged"] = int(outcome.converged)
        metrics["seconds"] = outcome.seconds
    if session.must_renew(instruction.targets, holds=bool(forget)):
        session.renew_personal(unlearned)
    answer = protocol.reply(message, metrics, arrays)
    protocol.write_forgotten(answer, counts, refused)
    return answer


def _quarantined(
    instruction: protocol.UnlearnInstruction, session: ClientSession
) -> tuple[dict[str, SampleSet], dict[str, str]]:
    """Quarantine this client's samples of each request.

    Returns the samples by request id, and the reason of each request that cannot be served here.
    """
    forget: dict[str, SampleSet] = {}
    refused: dict[str, str] = {}
    for target in instruction.targets:
        try:
            found = forget_set(target, session, instruction.seed, instruction.arrived)
        except InvalidRequestError as error:
            if target.scope == "class":
                raise
            refused[target.request_id] = f"client {session.client_id}: {describe(error)}"
            continue
        if len(found):
            session.store.quarantine(target.request_id, found.ids, target.attempt, target.digest)
            forget[target.request_id] = found
    return forget, refused


def _keep_guards(
    instruction: protocol.UnlearnInstruction, session: ClientSession, forget: Mapping[str, SampleSet], labels: Tensor
) -> None:
    attempts = {target.request_id: target.attempt for target in instruction.targets}
    parts = labels.split([len(samples) for samples in forget.values()])
    for request_id, part in zip(forget, parts, strict=True):
        session.store.set_guard(request_id, attempts[request_id], part.tolist())


def _keep_limits(
    instruction: protocol.UnlearnInstruction,
    session: ClientSession,
    forget: Mapping[str, SampleSet],
    standing: SampleStanding,
) -> None:
    attempts = {target.request_id: target.attempt for target in instruction.targets}
    sizes = [len(samples) for samples in forget.values()]
    for request_id, limits in zip(forget, standing.limits.split(sizes), strict=True):
        session.store.set_limits(request_id, attempts[request_id], limits.tolist())


def _hands_back(
    instruction: protocol.UnlearnInstruction,
    session: ClientSession,
    method: methods.Method,
    model: nn.Module,
    samples: SampleSet,
) -> bool:
    """Whether the model is handed back as it is, since none of the samples is recognised any more.

    It is too if the method needs retained samples and this client has none, which the method sees to. Guarded repair,
    for which the client stores labels, then does the forgetting.
    """
    if method.requires_retain and len(session.retained_samples(instruction.arrived)) == 0:
        logger.warning(
            "client %s: %s needs retained samples and there are none here; guarded repair does the forgetting",
            session.client_id,
            instruction.method,
        )
        return False
    return instruction.only_if_recognised and not recognises_any(model, samples)


def _seed_of(instruction: protocol.UnlearnInstruction, session: ClientSession) -> tuple[str | int, ...]:
    return (
        instruction.seed,
        "unlearn",
        "+".join(target.request_id for target in instruction.targets),
        max(target.attempt for target in instruction.targets),
        instruction.step,
        session.client_id,
    )


def repair(message: Message, context: Context) -> Message:
    """``train.repair``: train on retained data, mixed with guarded samples under their guard labels."""
    session = current_session()
    instruction = protocol.RepairInstruction.from_message(message)
    guards = [guard for guarded in instruction.guarded for guard in guarded_samples(session, guarded)]
    model = session.model_to_train(protocol.arrays_of(message))
    config = protocol.config_of(message)
    count, passes = repair_model(
        model,
        session.retained_samples(instruction.arrived),
        guards,
        lambda model, samples, generator: session.task.train(model, samples, config, generator),
        guard_weight=instruction.guard_weight,
        guard_margin=instruction.guard_margin,
        frozen=instruction.frozen,
        seed=(instruction.seed, "repair", instruction.round, session.client_id),
    )
    if count == 0:
        return protocol.reply(message, MetricRecord({protocol.WEIGHT: 0}), ArrayRecord())
    metrics = MetricRecord(
        {
            protocol.WEIGHT: count,
            protocol.FORWARD_PASSES: passes.forward,
            protocol.BACKWARD_PASSES: passes.backward,
        }
    )
    session.keep_personal(model)
    return protocol.reply(message, metrics, pack(sent_arrays(session.task, model)))


def confirm(message: Message, context: Context) -> Message:
    """``train.confirm``: write tombstones of committed requests to disk before the reply.

    The reply carries the digest of the earlier tombstones, by which the server sees that none is missing. A client that
    was offline when a class or client request was served finds its samples now, and renews what it keeps for itself.
    All of it may come again, since replies are lost and processes end.
    """
    session = current_session()
    instruction = protocol.SettleInstruction.from_message(message)
    earlier = session.store.tombstone_digest()
    for target in instruction.targets:
        if stored_request(target, session) is None and target.scope != "sample":
            found = forget_set(target, session, 0)
            if len(found):
                session.store.quarantine(target.request_id, found.ids, target.attempt, target.digest)
        holds = session.store.get(target.request_id) is not None
        if not session.kept.is_renewed(target) and session.must_renew((target,), holds=holds):
            session.renew_personal(None)
        is_lasting = target.request_id in instruction.lasting
        session.store.confirm(target.request_id, instruction.retention_days, keeps_guard=is_lasting)
        session.kept.confirm(target)
    for attempt in instruction.others:
        session.kept.confirm(attempt)
    session.kept.end_lost()
    session.known_answers.keep_last()
    session.known_answers.save(session.store.unreadable_ids())
    session.kept_features.save(session.store.unreadable_ids())
    session.kept_activations.drop()
    session.task.forget_cached_state(session.context)
    answer = protocol.reply(message, MetricRecord())
    protocol.write_earlier_tombstones(answer, earlier)
    return answer


def discard(message: Message, context: Context) -> Message:
    """``train.discard``: undo what attempts that were rolled back left here; lift quarantine if released.

    Guard labels are dropped, and what the client kept for itself before the attempts is put back.
    """
    session = current_session()
    instruction = protocol.SettleInstruction.from_message(message)
    session.kept_activations.drop()
    for target in instruction.targets:
        session.store.get(target.request_id, target.digest)
        session.store.discard(target.request_id, target.attempt)
        if instruction.release:
            session.store.release(target.request_id)
    for attempt in (*instruction.targets, *instruction.others):
        session.kept.discard(attempt)
    return protocol.reply(message, MetricRecord())


def audit(message: Message, context: Context) -> Message:
    """``evaluate.audit``: count what the given model gets right here."""
    session = current_session()
    instruction = protocol.AuditInstruction.from_message(message)
    used, shared = session.models_to_judge(protocol.arrays_of(message))
    rows_set = RowsSet(instruction.rows_set, instruction.rows_of) if instruction.rows_set else None
    judged = JudgedModels(used, shared, session.known_answers, session.attempts, rows_set)
    class_count = session.data.class_count
    forgotten = {item for target in instruction.targets if target.scope == "class" for item in target.classes}
    parts: dict[Part, ClassCounts] = {}
    read: dict[Part, Judged] = {}
    for part in instruction.parts:
        samples = samples_of(part, session, instruction)
        scored, of = bool(instruction.audits) and part != "retain", "train" if part == "retain" else part
        own, surest = judged.read(samples, scored=scored, part=of)
        logits = for_classes(forgotten, samples.labels, surest.logits, own)
        parts[part] = ClassCounts.of(logits, samples.labels, class_count)
        read[part] = surest
    targets = {
        target.request_id: RequestCounts.of(
            observed(target, session, judged, read, instruction), instruction.audits_of(target)
        )
        for target in instruction.targets
    }
    session.known_answers.save(session.store.unreadable_ids())
    answer = protocol.reply(message, protocol.audit_record(ClientCounts(parts, targets, judged.passes)))
    uncounted = {
        name
        for target in instruction.targets
        for name in instruction.audits_of(target)
        if name not in targets[target.request_id].extra and may_be_asked(name, target.scope)
    }
    if uncounted:
        protocol.write_uncounted(answer, sorted(uncounted))
    return answer


ACTIONS: Mapping[str, Handler] = {
    protocol.UNLEARN: unlearn,
    protocol.REPAIR: repair,
    protocol.RELEARN: relearn,
    protocol.STATISTICS: statistics,
    protocol.CONFIRM: confirm,
    protocol.DISCARD: discard,
    protocol.AUDIT: audit,
    protocol.IDENTIFY: identify,
    protocol.BLOCKS: blocks,
    protocol.REQUESTS: requests,
}
"""Handler by message type, as :func:`fed_unlearn.client.install` registers them."""
