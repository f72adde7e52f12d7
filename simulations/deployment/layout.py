"""What a federation is made of: how many nodes, on which GPUs, behind which port, and how they are protected."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from fed_unlearn.errors import InvalidParameterError

HOST = "127.0.0.1"
"""Where everything listens that runs on this machine."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What a federation on one machine is made of.

    Parameters
    ----------
    nodes : int
        Number of nodes. Node k has the data of client k.
    gpus : tuple of int
        GPUs by number. Node k has the one at position k, counted on from the beginning when there are more nodes.
    tls : bool
        Whether the SuperLink's connections are encrypted.
    auth : bool
        Whether the SuperLink takes the nodes alone that it was given the keys of. It needs `tls`.
    port : int, optional
        The SuperLink's port. Default: a free one.

    Raises
    ------
    InvalidParameterError
        If they do not fit each other.
    """

    nodes: int
    gpus: tuple[int, ...] = ()
    tls: bool = False
    auth: bool = False
    port: int | None = None

    def __post_init__(self) -> None:
        if self.nodes < 1:
            raise InvalidParameterError(f"--nodes {self.nodes}: expected at least 1")
        if self.auth and not self.tls:
            raise InvalidParameterError("--auth without --tls: a SuperLink takes keys over TLS alone; give both")

    def check_port(self) -> None:
        """Raise if somebody listens on the port already.

        Raises
        ------
        InvalidParameterError
        """
        if self.port is None:
            return
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, self.port))
            except OSError as error:
                raise InvalidParameterError(
                    f"--port {self.port}: {error.strerror}; give another, or leave it out for a free one"
                ) from None

    def gpu_of(self, node: int) -> int:
        """The GPU of a node, where there are any."""
        return self.gpus[node % len(self.gpus)]
