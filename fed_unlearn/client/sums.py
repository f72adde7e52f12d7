"""The client's handler of ``train.statistics``: sums over what the output layer reads of retained samples."""

from __future__ import annotations

import math

from flwr.app import ArrayRecord, Context, Message, MetricRecord
from torch import Tensor

from fed_unlearn import protocol
from fed_unlearn.client.last_blocks import last_blocks
from fed_unlearn.client.session import ClientSession, current_session
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import NothingRetainedError
from fed_unlearn.methods.parts.frozen_features import check_replaceable, features_above, frozen_features
from fed_unlearn.methods.parts.heads import Head, find_head
from fed_unlearn.methods.parts.ridge import RidgeStatistics
from fed_unlearn.pass_counter import PassCounter


def statistics(message: Message, context: Context) -> Message:
    """``train.statistics``: add up what the output layer reads of all retained samples; the model stays as it is."""
    session = current_session()
    instruction = protocol.StatisticsInstruction.from_message(message)
    samples = session.retained_samples(instruction.arrived)
    if len(samples) == 0 and instruction.may_be_none:
        return protocol.reply(message, MetricRecord({protocol.WEIGHT: 0}), ArrayRecord())
    if len(samples) == 0:
        raise NothingRetainedError(f"client {session.client_id} has no sample left that it may train on")
    if (below := instruction.kept_below()) is not None:
        return _above_kept(session, message, instruction, below, samples)
    model, user = session.model_with(protocol.arrays_of(message)), f"client {session.client_id}"
    head = find_head(user, model, samples, instruction.head)
    check_replaceable(user, head)
    if instruction.anew:
        features, passes = frozen_features(user, model, head, samples), len(samples)
    else:
        features, passes = session.kept_features.of(user, model, head, samples, instruction.step)
        session.kept_features.save(session.store.unreadable_ids())
    return _answer(message, instruction, head, features, samples, passes)


def _above_kept(
    session: ClientSession,
    message: Message,
    instruction: protocol.StatisticsInstruction,
    below: protocol.KeptBelow,
    samples: SampleSet,
) -> Message:
    """The sums of a model that differs in its last blocks alone from one of which activations are kept."""
    passes, user = PassCounter(), f"client {session.client_id}"
    last = last_blocks(session, samples, message, below, passes, trains=False)
    if last is None:
        answer = protocol.reply(message, MetricRecord({protocol.WEIGHT: 0}), ArrayRecord())
        protocol.write_lacks_served(answer)
        return answer
    head = find_head(user, last.model, samples, instruction.head)
    check_replaceable(user, head)
    if last.kept is None:
        features = frozen_features(user, last.model, head, samples)
        passes.add(forward=len(samples))
    else:
        features = features_above(user, last.division.upper.eval(), head, last.kept.activations, session.device)
        passes.add(forward=math.ceil(last.kept.upper_share * len(samples)))
    return _answer(message, instruction, head, features, samples, passes.forward)


def _answer(
    message: Message,
    instruction: protocol.StatisticsInstruction,
    head: Head,
    features: Tensor,
    samples: SampleSet,
    passes: int,
) -> Message:
    sums = RidgeStatistics.of(features, samples.labels, len(head.layer.weight), instruction.step)
    metrics = MetricRecord(
        {protocol.WEIGHT: len(samples), protocol.FORWARD_PASSES: passes, protocol.BACKWARD_PASSES: 0}
    )
    answer = protocol.reply(message, metrics, ArrayRecord())
    protocol.write_statistics(answer, sums)
    return answer
