"""The step of a client that leaves: whether it can be asked, what it answers, and how far it may move the model."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fed_unlearn import protocol
from fed_unlearn.arrays import Arrays, difference, norm, pack
from fed_unlearn.requests import ClientScope, ForgetRequest, ParameterValue
from fed_unlearn.strategies.server_methods.base import MethodFailedError, ServerWork
from fed_unlearn.strategies.server_methods.parts import ClientModel, usable_model

logger = logging.getLogger("fed_unlearn.strategies")


@dataclass(frozen=True)
class LeavingModel(ClientModel):
    """What the leaving client made of the model that it was sent.

    Attributes
    ----------
    steps : int
        Optimizer steps taken; 0 where the model met the method's aim as it was sent.
    converged : bool
        Whether the aim was met.
    """

    steps: int
    converged: bool


def leaving_clients(work: ServerWork) -> list[str]:
    """The clients that leave, one for each request."""
    return [request.scope.client for request in work.requests if isinstance(request.scope, ClientScope)]


def cannot_reach(work: ServerWork) -> str | None:
    """Why a method cannot do without the leaving clients here; None where they are reachable."""
    if work.leaving is None or not work.leaving_is_reachable:
        names = " or ".join(leaving_clients(work))
        return f"the leaving client takes a step of its own, and client {names} is not reachable"
    return None


def unbounded(work: ServerWork) -> str | None:
    """Why nothing bounds what the leaving client changes; None where something does, or the plan asks for no bound."""
    if work.request_norm is not None and work.clip_norm is None:
        return "nothing was trained here yet, so that nothing bounds its change: set max_update_norm in the plan"
    return None


def longest_of_leaving(work: ServerWork, unlearned: LeavingModel, client: str | None = None) -> float:
    """How long the leaving client's change may be; that its own is longer is said in the log.

    Parameters
    ----------
    work : ServerWork
    unlearned : LeavingModel
        What it made of the served model.
    client : str, optional
        The leaving client, where several leave. By default that of the first request.
    """
    if work.request_norm is None or work.clip_norm is None:
        return np.inf
    longest, length = work.request_norm * work.clip_norm, norm(difference(unlearned.arrays, work.served))
    if length > longest:
        logger.warning(
            "client %s: its change of %.3g is scaled down to %.3g; max_request_norm (max-request-norm in [unlearning]"
            " of a scenario) allows more",
            client or work.leaving,
            length,
            longest,
        )
    return longest


def unlearn_at_leaving(
    work: ServerWork,
    base: Arrays,
    step: int,
    method: str,
    parameters: Mapping[str, ParameterValue],
    request: ForgetRequest | None = None,
) -> LeavingModel:
    """The leaving client's step.

    Parameters
    ----------
    work : ServerWork
    base : dict of ndarray
    step : int
        Step of the method.
    method : str
        Name of a method of :mod:`fed_unlearn.methods`.
    parameters : mapping
        Hyper-parameters of that method.
    request : ForgetRequest, optional
        Request of the client, where several leave. By default the first one.

    Raises
    ------
    MethodFailedError
        If the client does not answer, or its answer cannot be used.
    """
    request = request or work.request
    client = request.scope.client if isinstance(request.scope, ClientScope) else ""
    instruction = _unlearn_instruction(work, request, step, method, parameters)
    content = protocol.content(instruction, pack(base), work.train_config)
    answers = work.grid.ask(protocol.UNLEARN, content, work.timeout, [client])
    if client not in answers.replies:
        reasons = [*answers.refused.values(), *answers.failed.values(), *answers.silent.values()]
        raise MethodFailedError("; ".join(reasons) or f"client {client} did not answer")
    message = answers.replies[client]
    model = usable_model(client, message, base)
    if model is None:
        raise MethodFailedError(f"client {client} holds no sample of its own, or sent a model that cannot be used")
    return LeavingModel(
        model.arrays,
        model.weight,
        steps=protocol.read_count(message, "steps"),
        converged=bool(protocol.read_count(message, "converged")),
    )


def _unlearn_instruction(
    work: ServerWork, request: ForgetRequest, step: int, method: str, parameters: Mapping[str, ParameterValue]
) -> protocol.UnlearnInstruction:
    return protocol.UnlearnInstruction(
        targets=(protocol.Target.of(request, work.attempt),),
        step=step,
        method=method,
        parameters=dict(parameters),
        excluded_classes=work.excluded_classes,
        seed=work.seed,
        arrived=work.arrived,
    )
