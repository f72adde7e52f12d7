"""The client's handlers of ``query.blocks`` and ``train.relearn``: its model's last blocks, trained by themselves."""

from __future__ import annotations

import math

from flwr.app import ArrayRecord, Context, Message, MetricRecord
from torch import nn

from fed_unlearn import protocol
from fed_unlearn.arrays import pack
from fed_unlearn.client.last_blocks import divided, last_blocks, upper_of
from fed_unlearn.client.session import ClientSession, current_session
from fed_unlearn.client.working_model import sent_arrays
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import InvalidModelError
from fed_unlearn.methods.parts.upper_arrays import UpperArrays
from fed_unlearn.methods.parts.upper_batches import UpperBatches
from fed_unlearn.methods.parts.upper_training import UpperTraining, alone_trained, train_upper
from fed_unlearn.model_wrappers import unwrapped
from fed_unlearn.pass_counter import PassCounter
from fed_unlearn.seeding import seeded_generator


def blocks(message: Message, context: Context) -> Message:
    """``query.blocks``: which arrays the last blocks of this client's model have, or why it cannot be divided."""
    session = current_session()
    instruction = protocol.BlocksInstruction.from_message(message)
    answer = protocol.reply(message, MetricRecord())
    protocol.write_blocks(answer, _told(session, instruction.blocks))
    return answer


def _told(session: ClientSession, count: int) -> protocol.UpperBlocks:
    if not session.sends_whole_model or session.task.has_personal:
        return protocol.UpperBlocks(reason="a part of the model is the client's own, or has other names in messages")
    model = session.model
    try:
        division = divided(session, model, _any_samples(session), count)
    except InvalidModelError as error:
        return protocol.UpperBlocks(reason=str(error)[:1000])
    if division.lower is None:
        return protocol.UpperBlocks(reason=f"the computation of {type(model).__name__} cannot be traced")
    upper = upper_of(session, model, division)
    return protocol.UpperBlocks(
        blocks=tuple(block.name for block in division.reset), arrays=upper.names, frozen=upper.frozen
    )


def relearn(message: Message, context: Context) -> Message:
    """``train.relearn``: train the last blocks on retained samples, above what the first round has computed and kept.

    The reply has the arrays of these blocks alone. Where nothing is kept of the model before, and the message does not
    carry it, the reply says so.
    """
    session = current_session()
    instruction = protocol.RelearnInstruction.from_message(message)
    samples = session.retained_samples(instruction.arrived)
    if len(samples) == 0:
        return protocol.reply(message, MetricRecord({protocol.WEIGHT: 0}), ArrayRecord())
    passes = PassCounter()
    last = last_blocks(session, samples, message, instruction.kept_below(), passes)
    if last is None:
        answer = protocol.reply(message, MetricRecord({protocol.WEIGHT: 0}), ArrayRecord())
        protocol.write_lacks_served(answer)
        return answer
    model, upper, found = last.model, last.upper, last.kept
    activations, answers = (None, None) if found is None else (found.activations, found.answers)
    batches = UpperBatches(unwrapped(model), last.division, samples, activations, answers, last.original, passes)
    parameters = _trained(session, model, upper)
    with alone_trained(model, parameters):
        train_upper(
            f"client {session.client_id}",
            batches,
            parameters,
            _training(instruction),
            epochs=instruction.epochs,
            forgotten=sorted(set(instruction.forgotten).difference(samples.labels.tolist())),
            generator=seeded_generator(instruction.seed, "relearn", instruction.round, session.client_id),
            rounds=(instruction.position, instruction.positions),
        )
    _count(passes, instruction.epochs * len(samples), None if found is None else found.upper_share)
    metrics = MetricRecord(
        {
            protocol.WEIGHT: len(samples),
            protocol.FORWARD_PASSES: passes.forward,
            protocol.BACKWARD_PASSES: passes.backward,
        }
    )
    sent = sent_arrays(session.task, model)
    return protocol.reply(message, metrics, pack({name: sent[name] for name in protocol.arrays_of(message)}))


def _count(passes: PassCounter, read: int, share: float | None) -> None:
    """Count passes through the last blocks by their share of the operations; whole ones where nothing is kept."""
    passes.add(forward=read if share is None else math.ceil(share * read), backward=math.ceil((share or 1.0) * read))


def _any_samples(session: ClientSession) -> SampleSet:
    """Samples of which the first shows how inputs look; its values do not matter."""
    data = session.data
    return next((part for part in (data.validation, data.test) if len(part)), data.train)


def _trained(session: ClientSession, model: nn.Module, upper: UpperArrays) -> list[nn.Parameter]:
    named = dict(model.named_parameters())
    parameters = [named[name] for name in upper.names if name in named and named[name].requires_grad]
    if not parameters:
        raise InvalidModelError(
            f"client {session.client_id}: all of the last blocks is frozen; expected a parameter that may be trained"
        )
    return parameters


def _training(instruction: protocol.RelearnInstruction) -> UpperTraining:
    return UpperTraining(
        distillation=instruction.distillation,
        temperature=instruction.temperature,
        learning_rate=instruction.learning_rate,
        momentum=instruction.momentum,
        weight_decay=instruction.weight_decay,
        batch_size=instruction.batch_size,
        max_gradient_norm=instruction.max_gradient_norm,
    )
