"""One message's view of its client: what the handlers of an installed app share."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextvars import ContextVar
from functools import cached_property

from flwr.app import ArrayRecord, Context, Message
from torch import nn

import fed_unlearn
from fed_unlearn import protocol
from fed_unlearn.arrays import to_state_dict
from fed_unlearn.client.store import ClientStore
from fed_unlearn.data.images import ClientData, ImageSet
from fed_unlearn.errors import FedUnlearnError, InvalidRequestError, ProtocolError
from fed_unlearn.protocol.arrivals import arriving
from fed_unlearn.task import Task

Handler = Callable[[Message, Context], Message]


class ClientSession:
    """One message's view of its client: task, data, durable memory and model, each opened when first asked for.

    Parameters
    ----------
    task : Task
    context : Context
        Of the message.
    models : dict
        The process's model, by device and run; shared by all messages of one app.
    message : Message, optional
        It may say in which experiences the client's training samples arrive.
    """

    def __init__(
        self, task: Task, context: Context, models: dict[str, nn.Module], message: Message | None = None
    ) -> None:
        self.task = task
        self.context = context
        self.took_retained_view = False
        self._models = models
        self._message = message

    @cached_property
    def data(self) -> ClientData:
        """The client's samples; its training samples in the experiences that the message names, where it does.

        Raises
        ------
        ProtocolError
            If what the message says of them is malformed, or speaks of other data.
        """
        data = self._loaded
        experiences = protocol.arrivals_of(self._message) if self._message is not None else None
        return data if experiences is None else arriving(data, experiences)

    @cached_property
    def _loaded(self) -> ClientData:
        return self.task.load_data(self.context)

    @cached_property
    def store(self) -> ClientStore:
        """The client's durable memory."""
        return ClientStore.open(self.task.store_folder(self.context), self._loaded.fingerprint)

    @property
    def client_id(self) -> str:
        """The client's stable name."""
        return self.task.client_id(self.context)

    def retained_samples(self, arrived: int = 0) -> ImageSet:
        """The client's training samples without quarantined and tombstoned ones.

        Parameters
        ----------
        arrived : int
            Only those of so many training experiences; 0 for all.
        """
        return self.data.arrived(arrived or None).without(self.store.excluded_ids())

    def model_with(self, arrays: ArrayRecord) -> nn.Module:
        """The process's model with the given weights, on the task's device."""
        device = self.task.device()
        key = f"{device} {self.context.run_id} {sorted(self.context.run_config.items())}"
        model = self._models.get(key)
        if model is None:
            self._models.clear()
            model = self._models[key] = self.task.build_model(self.context).to(device)
        model.load_state_dict(to_state_dict(arrays))
        return model

    def stamp(self, answers: str) -> protocol.Stamp:
        """What a reply says of this client, and which configuration it answers."""
        return protocol.Stamp(
            answers=answers,
            client_id=self.client_id,
            tombstones=self.store.tombstone_digest(),
            retained=self.took_retained_view,
            version=fed_unlearn.__version__,
            device=str(self.task.device()),
            cuda_visible_devices=os.environ.get("CUDA_VISIBLE_DEVICES", ""),
        )


def describe(error: Exception) -> str:
    """What a server may learn of an error at a client: its kind, and the words of those errors that hold no data."""
    if type(error) in (FedUnlearnError, InvalidRequestError, ProtocolError):
        return str(error)
    return f"{type(error).__name__} at the client; its own log has the details"


active_session: ContextVar[ClientSession | None] = ContextVar("fed_unlearn_session", default=None)
"""Set while a message of an installed app is being handled."""


def current_session() -> ClientSession:
    """The session of the message that is being handled.

    Raises
    ------
    FedUnlearnError
        Outside the handlers of an app that :func:`install` was called for.
    """
    session = active_session.get()
    if session is None:
        raise FedUnlearnError(
            "no message of an installed app is being handled; call fed_unlearn.client.install(app, task) where the"
            " ClientApp is made, and retained() only inside its handlers"
        )
    return session
