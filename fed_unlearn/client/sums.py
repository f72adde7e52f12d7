"""The client's handler of ``train.statistics``: sums over what the output layer reads of retained samples."""

from __future__ import annotations

from flwr.app import ArrayRecord, Context, Message, MetricRecord

from fed_unlearn import protocol
from fed_unlearn.client.session import current_session
from fed_unlearn.errors import NothingRetainedError
from fed_unlearn.methods.parts.frozen_features import check_replaceable, frozen_features
from fed_unlearn.methods.parts.heads import find_head
from fed_unlearn.methods.parts.ridge import RidgeStatistics


def statistics(message: Message, context: Context) -> Message:
    """``train.statistics``: add up what the output layer reads of all retained samples; the model stays as it is."""
    session = current_session()
    instruction = protocol.StatisticsInstruction.from_message(message)
    samples = session.retained_samples(instruction.arrived)
    if len(samples) == 0 and instruction.may_be_none:
        return protocol.reply(message, MetricRecord({protocol.WEIGHT: 0}), ArrayRecord())
    if len(samples) == 0:
        raise NothingRetainedError(f"client {session.client_id} has no sample left that it may train on")
    model, user = session.model_with(protocol.arrays_of(message)), f"client {session.client_id}"
    head = find_head(user, model, samples, instruction.head)
    check_replaceable(user, head)
    if instruction.anew:
        features, passes = frozen_features(user, model, head, samples), len(samples)
    else:
        features, passes = session.kept_features.of(user, model, head, samples, instruction.step)
        session.kept_features.save(session.store.unreadable_ids())
    sums = RidgeStatistics.of(features, samples.labels, len(head.layer.weight), instruction.step)
    metrics = MetricRecord(
        {protocol.WEIGHT: len(samples), protocol.FORWARD_PASSES: passes, protocol.BACKWARD_PASSES: 0}
    )
    answer = protocol.reply(message, metrics, ArrayRecord())
    protocol.write_statistics(answer, sums)
    return answer
