"""Which kind of attempt serves requests: at the holders, at the server, or by a reset of the last blocks."""

from __future__ import annotations

from fed_unlearn.strategies.context import CallContext
from fed_unlearn.strategies.methods_by_name import is_server_method
from fed_unlearn.strategies.serving.attempts.attempt import Attempt
from fed_unlearn.strategies.serving.attempts.deep_attempt import DeepAttempt
from fed_unlearn.strategies.serving.attempts.holder_attempt import HolderAttempt
from fed_unlearn.strategies.serving.attempts.order import Order
from fed_unlearn.strategies.serving.attempts.server_attempt import ServerAttempt


def attempt_at(context: CallContext, order: Order) -> Attempt:
    """The attempt at an order, not begun."""
    if is_server_method(order.method):
        return ServerAttempt(context, order)
    if context.plan.resets(order.scope, order.method):
        return DeepAttempt(context, order)
    return HolderAttempt(context, order)
