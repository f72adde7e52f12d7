"""The client side: unlearning actions for any Flower ClientApp, and the view of its data that it may train on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import overload

from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset

from fed_unlearn import protocol
from fed_unlearn.client import actions as client_actions
from fed_unlearn.client.session import ClientSession, Handler, active_session, current_session, describe
from fed_unlearn.data.images import ImageSet
from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.task import Task

__all__ = ["ClientSession", "current_session", "install", "retained"]

logger = logging.getLogger("fed_unlearn.client")


class _InSession:
    """The mod that opens a session for every message and stamps the reply.

    A class rather than a function in a function: Ray copies the ClientApp to its workers for every message, and what is
    defined inside a function is copied with all that it refers to, the session variable included.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._models: dict[str, nn.Module] = {}

    def __getstate__(self) -> dict[str, object]:
        return {"_task": self._task, "_models": {}}

    def __call__(self, message: Message, context: Context, call_next: Handler) -> Message:
        session = ClientSession(self._task, context, self._models, message)
        token = active_session.set(session)
        answers = protocol.digest_of(message)
        try:
            answer = call_next(message, context)
            if answer.has_content():
                protocol.write_stamp(answer, session.stamp(answers))
            return answer
        except Exception as error:
            logger.exception("%s failed", message.metadata.message_type)
            raise FedUnlearnError(f"{message.metadata.message_type}: {describe(error)}") from None
        finally:
            active_session.reset(token)


def install(app: ClientApp, task: Task) -> None:
    """Add the unlearning actions to a Flower ClientApp.

    The app's own ``@app.train()`` and ``@app.evaluate()`` stay as they are, registered before or after; their replies
    are stamped with what the client has tombstoned.

    Parameters
    ----------
    app : ClientApp
        Made with ``ClientApp()``, not with a ``client_fn``.
    task : Task
        The user's model, data and training.

    Raises
    ------
    FedUnlearnError
        If the app was made with a ``client_fn``, or has the actions already.
    """
    if app._call is not None:
        raise FedUnlearnError(
            "the ClientApp was made with a client_fn; unlearning needs the Message API: app = ClientApp() with"
            " @app.train() and @app.evaluate()"
        )
    if protocol.UNLEARN in app._registered_funcs:
        raise FedUnlearnError("the unlearning actions are installed in this ClientApp already; install them once")
    _add_mod(app, _InSession(task))
    for message_type, action in client_actions.ACTIONS.items():
        category, name = message_type.split(".")
        getattr(app, category)(name)(action)


def _add_mod(app: ClientApp, mod: Callable[[Message, Context, Handler], Message]) -> None:
    """Wrap the handlers that an app has and those that it will have (Flower takes mods only at construction)."""

    def wrapped(handler: Handler) -> Handler:
        return lambda message, context: mod(message, context, handler)

    for name, handler in app._registered_funcs.items():
        app._registered_funcs[name] = wrapped(handler)
    app._mods.insert(0, mod)


@overload
def retained(dataset: ImageSet, context: Context) -> ImageSet: ...
@overload
def retained(dataset: Dataset[tuple[Tensor, int]], context: Context) -> Dataset[tuple[Tensor, int]]: ...


def retained(dataset: Dataset[tuple[Tensor, int]], context: Context) -> Dataset[tuple[Tensor, int]]:
    """The view of a client's training data that it may train on: without quarantined and tombstoned samples.

    Parameters
    ----------
    dataset : Dataset
        The client's training samples, or some of them. Sample ids are its ``ids`` where it has them; else it must be
        as long as the task's training set, and position i is that set's i-th sample.
    context : Context
        Of the message that is being handled.

    Returns
    -------
    Dataset
        An ImageSet where one was given, else a ``torch.utils.data.Subset``.

    Raises
    ------
    FedUnlearnError
        Outside a message handler, or if the samples cannot be told apart.
    """
    session = current_session()
    if context is not session.context and context.node_config != session.context.node_config:
        raise FedUnlearnError("retained() was given the context of another client; pass the handler's own")
    session.took_retained_view = True
    excluded = session.store.excluded_ids()
    if isinstance(dataset, ImageSet):
        return dataset.without(excluded)
    size = len(dataset)  # type: ignore[arg-type]
    ids = getattr(dataset, "ids", None)
    if ids is None:
        if size != len(session.data.train):
            raise FedUnlearnError(
                f"retained() was given {size} samples without ids, the task's training set has"
                f" {len(session.data.train)}; give the dataset an `ids` attribute, one id a sample"
            )
        ids = session.data.train.ids
    return Subset(dataset, [index for index, sample_id in enumerate(ids) if str(sample_id) not in excluded])
