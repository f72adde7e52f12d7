"""How a server that stays looks for work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Interval

from fed_unlearn.settings import AboveZero, Settings


@dataclass(frozen=True, kw_only=True)
class ServeSettings(Settings, prefix="serve: "):
    """How often a server that stays looks for work, and where it says how it is.

    Attributes
    ----------
    ledger_seconds : float
        The ledger and the order to stop are looked at once in so many seconds. This costs no message.
    node_seconds : float
        The runtime is asked once in so many seconds which nodes are connected. This costs no message.
    owner_seconds : float
        Every client is asked once in so many seconds whether its owner has queued a request. This is one message to
        each client.
    retry_seconds : float
        What could not be done is tried again after so many seconds, and after twice as many each further time, up to
        an hour.
    metrics_port : int or None
        The port on 127.0.0.1 where Prometheus reads figures. It needs the package prometheus-client. None for no
        endpoint.

    Examples
    --------
    >>> ServeSettings(owner_seconds=60.0).owner_seconds
    60.0
    """

    ledger_seconds: AboveZero = 0.5
    node_seconds: AboveZero = 5.0
    owner_seconds: AboveZero = 300.0
    retry_seconds: AboveZero = 60.0
    metrics_port: Annotated[int, Interval(ge=1, le=65535)] | None = None
