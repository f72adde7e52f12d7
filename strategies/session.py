"""One call of the strategy: the parts that work together, put together."""

from __future__ import annotations

from dataclasses import dataclass

from fed_unlearn.strategies.context import CallContext
from fed_unlearn.strategies.inner.kinds import innermost
from fed_unlearn.strategies.learning import Learning
from fed_unlearn.strategies.serving.presence import Presence, leaving_clients
from fed_unlearn.strategies.serving.relapse import RelapseWatch
from fed_unlearn.strategies.serving.service import RequestService


@dataclass(frozen=True)
class Session:
    """The parts of one call.

    Attributes
    ----------
    context : CallContext
        What the call works with.
    service : RequestService
        Serves requests.
    learning : Learning
        Trains experiences.
    """

    context: CallContext
    service: RequestService
    learning: Learning

    @classmethod
    def of(cls, context: CallContext) -> Session:
        """Identify the clients, and put the parts together.

        Raises
        ------
        NobodyThereError
            If no node can say which client it is, and none ever could.
        """
        context.grid.roster.leaving = leaving_clients(context.ledger)
        presence = Presence(context)
        presence.identify(int(getattr(innermost(context.inner), "min_available_nodes", 1)))
        service = RequestService(context, presence, RelapseWatch(context))
        return cls(context, service, Learning(context, service))
