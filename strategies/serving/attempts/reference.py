"""The reference of a batch of sample requests: a model like the served one that never saw their samples."""

from __future__ import annotations

from typing import Any

from fed_unlearn import methods
from fed_unlearn.arrays import Arrays
from fed_unlearn.methods.instance_wise.levels import LEAST_OF_MODEL
from fed_unlearn.strategies.clients.audit import Auditor
from fed_unlearn.strategies.context import CallContext
from fed_unlearn.strategies.server_methods.base import MethodFailedError, ServerMethod, ServerWork
from fed_unlearn.strategies.server_methods.registry import SERVER_METHODS
from fed_unlearn.strategies.serving.attempts.order import Order
from fed_unlearn.strategies.state import MethodState
from fed_unlearn.strategies.training.trainers import fresh_trainer

METHOD = "reset-and-relearn"
"""The server method whose rounds train a reference; the plan's parameters for it count here too."""

_REFERENCE = {"own_training": True, "blocks": 1, "rounds": 5}
"""A reference is as sure of its samples as a trained model is: by the app's own training, and for as long."""


def reads_reference(order: Order) -> bool:
    """Whether the holders' method measures the samples by a reference."""
    return methods.create(order.method, **order.parameters).reads_reference


def train_reference(context: CallContext, order: Order) -> Arrays | str:
    """Train the last layers of the served model anew, at all clients, on samples that nobody wants forgotten.

    The holders must have taken the samples of the requests out of training before. The served model stays as it is.

    Parameters
    ----------
    context : CallContext
    order : Order
        Order for all requests of the batch.

    Returns
    -------
    dict of ndarray, or str
        The reference; in words, why there is none. There is none where it is far worse than the served model, as where
        the last layers cannot be trained by themselves, or a client has spoiled it.

    Raises
    ------
    NobodyAnsweredError
        If no client answers.
    """
    if context.kind.is_private:
        return "its rounds would go past the noise of the differential-privacy wrapper"
    parameters = {**_REFERENCE, **context.plan.parameters.get(METHOD, {})}
    method: ServerMethod[Any] = SERVER_METHODS.create(METHOD, **parameters)
    work = ServerWork(
        request=order.requests[0],
        attempt=order.number,
        seed=context.seed,
        served=context.served.arrays,
        initial=context.state.initial(),
        experiences=context.state.trained(),
        history=None,
        grid=context.grid,
        timeout=context.timeout,
        trainer=fresh_trainer(context),
        train_config=context.repair_config,
        excluded_classes=order.excluded_classes,
    )
    try:
        found = _run(method, work)
    except MethodFailedError as error:
        return str(error)
    return _why_unusable(context, found) or found


def _run(method: ServerMethod[Any], work: ServerWork) -> Arrays:
    state: MethodState = method.begin(work)
    while not state.done:
        state = method.advance(work, state)
    return state.arrays


def _why_unusable(context: CallContext, reference: Arrays) -> str:
    """In words, why holders must not go by a reference; empty where they may, or where no sample tells it."""
    auditor, served = Auditor(context), context.served
    if served.audit is None:
        served.audit = auditor.audit_committed(served.arrays).without_targets()
    audit = auditor.audit(reference, (), ("validation",))
    auditor.keep_comparable(audit)
    clients, forgotten = set(audit.replies) & set(served.audit.replies), context.ledger.forgotten_classes()
    found, before = (
        None if counts is None else counts.accuracy(without=forgotten)
        for counts in (each.validation(clients, by_server=audit.server is not None) for each in (audit, served.audit))
    )
    if found is None or before is None or found >= LEAST_OF_MODEL * before:
        return ""
    return f"its accuracy on validation samples is {found:.3f}, and the served model's {before:.3f}"
