"""The client's handlers of ``query.blocks`` and ``train.relearn``: its model's last blocks, trained by themselves."""

from __future__ import annotations

import math

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord
from torch import Tensor, nn

from fed_unlearn import protocol
from fed_unlearn.arrays import pack
from fed_unlearn.client.kept_activations import Kept
from fed_unlearn.client.session import ClientSession, current_session
from fed_unlearn.client.working_model import sent_arrays
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import FedUnlearnError, InvalidModelError
from fed_unlearn.methods.base import PassCounter
from fed_unlearn.methods.parts.blocks import Division, divide
from fed_unlearn.methods.parts.operations import upper_share
from fed_unlearn.methods.parts.upper_arrays import UpperArrays, upper_arrays
from fed_unlearn.methods.parts.upper_batches import UpperBatches, answers_above
from fed_unlearn.methods.parts.upper_training import UpperTraining, alone_trained, train_upper
from fed_unlearn.model_copies import copied
from fed_unlearn.model_inputs import model_inputs
from fed_unlearn.model_wrappers import unwrapped
from fed_unlearn.seeding import seeded_generator
from fed_unlearn.wrapped_names import bare_name


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
    upper = _upper_of(session, model, division)
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
    fresh, served = protocol.arrays_of(message), protocol.served_of(message)
    samples = session.retained_samples(instruction.arrived)
    if len(samples) == 0:
        return protocol.reply(message, MetricRecord({protocol.WEIGHT: 0}), ArrayRecord())
    asks_model, kept = instruction.distillation > 0, session.kept_activations
    key = kept.key_of(instruction.base, list(fresh), samples, asks_model=asks_model)
    found = kept.find(key)
    if found is None and served is None:
        answer = protocol.reply(message, MetricRecord({protocol.WEIGHT: 0}), ArrayRecord())
        protocol.write_lacks_served(answer)
        return answer
    model = session.model_with_some(fresh) if served is None else session.model_with(served)
    division = divided(session, model, samples, instruction.blocks)
    upper, passes = _upper_of(session, model, division), PassCounter()
    if division.lower is None or set(upper.names) != set(fresh):
        raise FedUnlearnError(
            f"the message has {len(fresh)} arrays, and the last {instruction.blocks} blocks of this client's model are"
            f" {len(upper.names)} other ones; build the same model at all clients"
        )
    original: nn.Module | None = None
    if found is None:
        share = upper_share(unwrapped(model), division, _first_input(session, model, samples))
        activations = kept.fill(unwrapped(model), division.lower.eval(), samples, session.device)
        if activations is None:
            original = copied(model).eval() if asks_model else None
        else:
            passes.add(forward=len(samples))
            answers = answers_above(division.upper.eval(), activations, session.device) if asks_model else None
            found = Kept(activations, answers, share)
            kept.keep(key, found)
    session.model_with_some(fresh)
    activations, answers = (None, None) if found is None else (found.activations, found.answers)
    batches = UpperBatches(unwrapped(model), division, samples, activations, answers, original, passes)
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
    return protocol.reply(message, metrics, pack({name: sent[name] for name in fresh}))


def _count(passes: PassCounter, read: int, share: float | None) -> None:
    """Count passes through the last blocks by their share of the operations; whole ones where nothing is kept."""
    passes.add(forward=read if share is None else math.ceil(share * read), backward=math.ceil((share or 1.0) * read))


def _any_samples(session: ClientSession) -> SampleSet:
    """Samples of which the first shows how inputs look; its values do not matter."""
    data = session.data
    return next((part for part in (data.validation, data.test) if len(part)), data.train)


def divided(session: ClientSession, model: nn.Module, samples: SampleSet, count: int) -> Division:
    """The client's model divided below its last blocks.

    Parameters
    ----------
    session : ClientSession
    model : nn.Module
        Of it.
    samples : SampleSet
        The first shows how inputs look.
    count : int
        Blocks beside the head.

    Raises
    ------
    InvalidModelError
        If the model cannot be divided.
    """
    return divide(f"client {session.client_id}", unwrapped(model), _first_input(session, model, samples), count)


def _first_input(session: ClientSession, model: nn.Module, samples: SampleSet) -> Tensor:
    inputs, _ = samples.evaluated().batch(torch.tensor([0], device=samples.labels.device))
    return model_inputs(unwrapped(model), inputs.to(session.device))


def _upper_of(session: ClientSession, model: nn.Module, division: Division) -> UpperArrays:
    """The arrays of the last blocks, by the names that they have in messages."""
    upper = upper_arrays(unwrapped(model), division.reset)
    sent = {bare_name(name): name for name in sent_arrays(session.task, model)}
    return UpperArrays(*(tuple(sent[name] for name in names) for names in (upper.names, upper.frozen)))


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
