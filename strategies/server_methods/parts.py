"""What server-side methods have in common: stored rounds, local training of those that stay, sums of changes."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from flwr.app import ConfigRecord, Message

from fed_unlearn import protocol
from fed_unlearn.arrays import Arrays, clipped, difference, longest_usual, norm, pack, weighted_average
from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.seeding import derive_seed
from fed_unlearn.strategies.clients.bounds.changes import (
    AGAINST,
    LONGEST_IN_REPAIR,
    against_others,
    bounds_by_others,
)
from fed_unlearn.strategies.clients.messages.exchange import NobodyAnsweredError
from fed_unlearn.strategies.clients.replies import read_reply, weight_of
from fed_unlearn.strategies.clients.weights import training_weights
from fed_unlearn.strategies.inner.statistics import bounded_statistics
from fed_unlearn.strategies.server_methods.base import MethodFailedError, ServerWork
from fed_unlearn.strategies.training.history import StoredRound

Key = TypeVar("Key")

logger = logging.getLogger("fed_unlearn.strategies")


@dataclass(frozen=True)
class ClientModel:
    """What a client made of the model that it was sent.

    Attributes
    ----------
    arrays : dict of ndarray
        The client's arrays, with the names, shapes and dtypes of what was sent; finite, read-only.
    weight : float
        Number of the client's samples, above 0.
    """

    arrays: Arrays
    weight: float


def stored_round(work: ServerWork, number: int) -> StoredRound:
    """A round of the history.

    Raises
    ------
    MethodFailedError
        If it is not there any more, or damaged.
    """
    if work.history is None:
        raise MethodFailedError(f"no history is kept; round {number} is needed")
    try:
        return work.history.load(number)
    except FedUnlearnError as error:
        raise MethodFailedError(str(error)) from error


def train_staying(
    work: ServerWork,
    base: Arrays,
    step: int,
    clients: Collection[str] | None = None,
    *,
    frozen: Collection[str] = (),
    config: ConfigRecord | None = None,
) -> dict[str, ClientModel]:
    """One round of local training on retained data, at clients that stay.

    Parameters
    ----------
    work : ServerWork
    base : dict of ndarray
    step : int
        Step of the method. With the request and the attempt it decides the round's randomness.
    clients : collection of str, optional
        Clients that train, among those that stay; all of them by default.
    frozen : collection of str
        Names of arrays that stay as they are, whatever a client makes of them.
    config : ConfigRecord, optional
        The training configuration; that of repair by default.

    Returns
    -------
    dict of str to ClientModel
        Models by client, sorted. Clients whose reply cannot be used are left out and named in the log. Changes that are
        absurdly long beside the others are scaled down, and so are those of statistics.

    Raises
    ------
    MethodFailedError
        If there is none.
    NobodyAnsweredError
        If no client answers at all.
    """
    instruction = protocol.RepairInstruction(
        guarded=(),
        guard_weight=1,
        guard_margin=0.0,
        seed=work.seed,
        round=derive_seed("server-method", work.request.id, work.attempt, step),
        arrived=work.arrived,
        frozen=tuple(frozen),
    )
    content = protocol.content(instruction, pack(base), work.train_config if config is None else config)
    answers = work.grid.ask(protocol.REPAIR, content, work.timeout, clients)
    if not answers.anything:
        raise NobodyAnsweredError(f"step {step}: no client that stays answered; try again when some are reachable")
    trained = {client: usable_model(client, message, base) for client, message in answers.replies.items()}
    kept = {name: base[name] for name in frozen}
    found = weighed(
        work,
        {
            client: replace(model, arrays={**model.arrays, **kept})
            for client, model in trained.items()
            if model is not None
        },
    )
    if not found:
        raise MethodFailedError(f"step {step}: no client that stays trained; their logs say why")
    factor = work.trainer.max_norm_factor
    return found if factor is None else within_usual(work, found, base, factor)


def weighed(work: ServerWork, models: Mapping[str, ClientModel]) -> dict[str, ClientModel]:
    """The models with the weights that count; without those that count for nothing."""
    weights = training_weights(work.grid.roster, {client: model.weight for client, model in models.items()})
    return {client: replace(model, weight=weights[client]) for client, model in models.items() if weights[client] > 0}


def within_usual(
    work: ServerWork, models: Mapping[str, ClientModel], base: Arrays, factor: float, longest: float = float("inf")
) -> dict[str, ClientModel]:
    """The models of a round whose changes lead where others do, each no longer than is usual in it.

    Parameters
    ----------
    work : ServerWork
    models : mapping of str to ClientModel
    base : dict of ndarray
        The model that the clients were sent.
    factor : float
        Greatest length of a change as a multiple of the median of all; longer ones are scaled down to it.
    longest : float
        Greatest length of a change, whatever the others are.
    """
    found = dict(models)
    changes = {client: difference(model.arrays, base) for client, model in found.items()}
    for client in against_others(changes, work.grid.roster.class_samples):
        logger.warning("client %s: %s", client, AGAINST)
        del found[client]
    norms = [norm(difference(model.arrays, base)) for model in found.values()]
    bounds = dict(zip(found, bounds_by_others(norms, LONGEST_IN_REPAIR), strict=True))
    usual = min(longest, longest_usual(norms, factor))
    bounded = {client: clipped(model.arrays, base, min(usual, bounds[client])) for client, model in found.items()}
    arrays = bounded_statistics(bounded, base, factor)
    return {client: replace(model, arrays=arrays[client]) for client, model in found.items()}


def averaged(models: Mapping[str, ClientModel]) -> Arrays:
    """Average of local models, weighted by samples."""
    return weighted_average([model.arrays for model in models.values()], [model.weight for model in models.values()])


def moved(base: Arrays, change: Arrays, models: Mapping[str, ClientModel]) -> Arrays:
    """A model whose trainable arrays are changed, with the other ones (statistics, counters) averaged over clients.

    Parameters
    ----------
    base : dict of ndarray
    change : dict of ndarray
        Change of the trainable arrays, from :func:`~fed_unlearn.arrays.difference`.
    models : mapping of str to ClientModel
        Models of clients that stay, by client.
    """
    average = averaged(models)
    return {
        name: np.asarray(value + change[name], dtype=value.dtype) if name in change else average[name]
        for name, value in base.items()
    }


def changes_of(models: Mapping[str, ClientModel], base: Arrays) -> dict[str, Arrays]:
    """What each client changed of the trainable arrays, in double precision."""
    return {client: doubled(difference(model.arrays, base)) for client, model in models.items()}


def doubled(change: Arrays) -> Arrays:
    """A change in double precision."""
    return {name: value.astype(np.float64) for name, value in change.items()}


def scaled(change: Arrays, scale: float) -> Arrays:
    """A change times a number."""
    return {name: np.asarray(scale * value) for name, value in change.items()}


def inner_product(first: Arrays, second: Arrays) -> float:
    """Sum of the products of two changes' numbers."""
    return float(sum(np.vdot(first[name], second[name]) for name in first))


def combined(changes: Mapping[Key, Arrays], weights: Mapping[Key, float]) -> Arrays:
    """Sum of changes, each times its weight.

    Parameters
    ----------
    changes : mapping to dict of ndarray
        Changes to add, at least one, all with the same names and shapes.
    weights : mapping to float
        Weight of each change.
    """
    names = next(iter(changes.values()))
    return {name: np.asarray(sum(weights[key] * change[name] for key, change in changes.items())) for name in names}


def usable_model(client: str, message: Message, base: Arrays) -> ClientModel | None:
    """A reply's model; None where it trained on nothing, or its model cannot be used, which the log says."""
    if protocol.read_metric(message, protocol.WEIGHT) == 0:
        return None
    arrays, reason = read_reply(message, base, protocol.WEIGHT)
    if reason is not None:
        logger.warning("client %s is left out: %s", client, reason)
        return None
    return ClientModel(arrays, weight_of(message, protocol.WEIGHT) or 0.0)
