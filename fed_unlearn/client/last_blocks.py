"""The last blocks of a client's model as a message gives them, above what the client has kept of its samples."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from flwr.app import Message
from torch import Tensor, nn

from fed_unlearn import protocol
from fed_unlearn.client.kept_activations import Kept
from fed_unlearn.client.session import ClientSession
from fed_unlearn.client.working_model import sent_arrays
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.methods.parts.blocks import Division, divide
from fed_unlearn.methods.parts.operations import upper_share
from fed_unlearn.methods.parts.upper_arrays import UpperArrays, upper_arrays
from fed_unlearn.methods.parts.upper_batches import answers_above
from fed_unlearn.model_copies import copied
from fed_unlearn.model_inputs import model_inputs
from fed_unlearn.model_wrappers import unwrapped
from fed_unlearn.pass_counter import PassCounter
from fed_unlearn.wrapped_names import bare_name


@dataclass(frozen=True)
class LastBlocks:
    """A model whose last blocks are as a message gives them.

    Attributes
    ----------
    model : nn.Module
        The process's model. Below the division its weights are those of the model before where nothing is kept; where
        something is, they do not matter.
    division : Division
        Division of the model into what is kept and the last blocks.
    upper : UpperArrays
        The arrays of the last blocks, by the names that they have in messages.
    kept : Kept or None
        What the model before gives below the division; None where it is too large to be kept.
    original : nn.Module or None
        The model before, where nothing is kept and its answers are asked for.
    """

    model: nn.Module
    division: Division
    upper: UpperArrays
    kept: Kept | None
    original: nn.Module | None


def last_blocks(
    session: ClientSession,
    samples: SampleSet,
    message: Message,
    below: protocol.KeptBelow,
    passes: PassCounter,
    *,
    trains: bool = True,
) -> LastBlocks | None:
    """The last blocks that a message carries, above what is kept; computed and kept now where nothing is.

    Parameters
    ----------
    session : ClientSession
    samples : SampleSet
        The client's retained samples, at least one.
    message : Message
        Message with the arrays of the last blocks, and with the model before or without it.
    below : KeptBelow
        What is to be found below them.
    passes : PassCounter
        Passes that are made to keep something are counted there.
    trains : bool
        Whether the last blocks are to be trained, for which the model before is asked where nothing can be kept.

    Returns
    -------
    LastBlocks or None
        None where nothing is kept and the message does not carry the model before.

    Raises
    ------
    FedUnlearnError
        If the message has other arrays than the last blocks of this client's model.
    """
    arrays, served, kept = protocol.arrays_of(message), protocol.served_of(message), session.kept_activations
    key = kept.key_of(below.base, list(arrays), samples, asks_model=below.asks_model)
    found = kept.find(key)
    if found is None and served is None:
        return None
    model = session.model_with_some(arrays) if served is None else session.model_with(served)
    division = divided(session, model, samples, below.blocks)
    upper, original = upper_of(session, model, division), None
    if division.lower is None or set(upper.names) != set(arrays):
        raise FedUnlearnError(
            f"the message has {len(arrays)} arrays, and the last {below.blocks} blocks of this client's model are"
            f" {len(upper.names)} other ones; build the same model at all clients"
        )
    if found is None:
        share = upper_share(unwrapped(model), division, _first_input(session, model, samples))
        activations = kept.fill(unwrapped(model), division.lower.eval(), samples, session.device)
        if activations is None:
            original = copied(model).eval() if below.asks_model and trains else None
        else:
            passes.add(forward=len(samples))
            answers = answers_above(division.upper.eval(), activations, session.device) if below.asks_model else None
            found = Kept(activations, answers, share)
            kept.keep(key, found)
    session.model_with_some(arrays)
    return LastBlocks(model, division, upper, found, original)


def divided(session: ClientSession, model: nn.Module, samples: SampleSet, count: int) -> Division:
    """The client's model divided below its last blocks.

    Parameters
    ----------
    session : ClientSession
    model : nn.Module
        The client's model.
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


def upper_of(session: ClientSession, model: nn.Module, division: Division) -> UpperArrays:
    """The arrays of the last blocks, by the names that they have in messages."""
    upper = upper_arrays(unwrapped(model), division.reset)
    sent = {bare_name(name): name for name in sent_arrays(session.task, model)}
    return UpperArrays(*(tuple(sent[name] for name in names) for names in (upper.names, upper.frozen)))


def _first_input(session: ClientSession, model: nn.Module, samples: SampleSet) -> Tensor:
    inputs, _ = samples.evaluated().batch(torch.tensor([0], device=samples.labels.device))
    return model_inputs(unwrapped(model), inputs.to(session.device))
