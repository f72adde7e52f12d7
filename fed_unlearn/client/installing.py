"""Installation of the unlearning actions in a Flower ClientApp."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import Mod

from fed_unlearn import protocol
from fed_unlearn.client.actions import ACTIONS
from fed_unlearn.client.mods import (
    HandlerCheck,
    Handlers,
    StatisticsRefused,
    ThroughMods,
    mods_of_models,
    privacy_mod_among,
)
from fed_unlearn.client.owner_side import OWNER_ASKS, hear, out_of_training, tell
from fed_unlearn.client.session import ClientSession, Handler, active_session
from fed_unlearn.client.told_errors import describe
from fed_unlearn.client.working_model import WorkingModel
from fed_unlearn.errors import FedUnlearnError, InvalidRequestError, NothingRetainedError, ProtocolError
from fed_unlearn.shapes import misfit, shapes_of
from fed_unlearn.task import Task
from fed_unlearn.text import quoted

logger = logging.getLogger("fed_unlearn.client")

_OWN_RECORDS = (protocol.LEDGER_KEY, protocol.ANSWERS_KEY, protocol.ARRIVALS_KEY)


class _InSession:
    """The mod that opens a session for every message and stamps the reply.

    It is a class because Ray copies the ClientApp to its workers for every message. A function that is defined inside
    another function would be copied with everything that it refers to, including the session variable.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._models: dict[str, WorkingModel] = {}
        self._is_named = False

    def __getstate__(self) -> dict[str, object]:
        return {"_task": self._task, "_models": {}, "_is_named": self._is_named}

    def __call__(self, message: Message, context: Context, call_next: Handler) -> Message:
        is_bundled = protocol.is_bundled(message.content)
        if is_bundled:
            message.content = protocol.unbundled(message.content)
        session = ClientSession(self._task, context, self._models, message)
        token = active_session.set(session)
        answers = protocol.digest_of(message)
        is_ours = message.metadata.message_type in ACTIONS
        heard: list[str] = []
        try:
            try:
                if protocol.SECURE_AGGREGATION_KEY in message.content:
                    raise FedUnlearnError(f"the server asks for secure aggregation; {protocol.HIDDEN_REPLIES}")
                if is_ours:
                    _check_versions(message)
                session.kept.open()
                if is_ours:
                    session.load()
                elif session.is_training and not protocol.attempts_of(message):
                    session.kept.end_all()
                    session.kept_activations.drop()
                heard = hear(message, session)
                # An app's own handlers, and the mods of Flower, count the records of a message.
                told = message if is_ours else protocol.without_records(message, *_OWN_RECORDS)
                if not is_ours and session.is_out_of_training and session.is_training:
                    answer = out_of_training(message, session, OWNER_ASKS)
                else:
                    if message.metadata.message_type == protocol.TRAIN:
                        self._task.check_config(protocol.config_of(message), context)
                    answer = call_next(told, context)
                    if not is_ours:
                        _check_training(message, answer)
                        self._look_at_state(context)
            except NothingRetainedError as error:
                answer = out_of_training(message, session, f"{error}; it takes part in no training")
            except FedUnlearnError as error:
                if not is_ours:
                    raise
                answer = _refusal(message, session, error)
            session.kept.put_by_trained()
            if answer.has_content():
                if session.kept.has_records or session.kept_activations.is_there:
                    protocol.write_put_by(answer)  # so that the client is told how the attempt ends
                protocol.write_stamp(answer, session.stamp(answers))
                tell(answer, session, heard)
                if is_bundled:
                    answer.content = protocol.bundled(answer.content)
            return answer
        except Exception as error:
            logger.exception("%s failed", message.metadata.message_type)
            raise FedUnlearnError(f"{message.metadata.message_type}: {describe(error)}") from None
        finally:
            session.kept.close()
            active_session.reset(token)

    def _look_at_state(self, context: Context) -> None:
        """Warn, once in a process, of arrays in the client's state that no audit sees."""
        if self._is_named or not context.state.array_records or self._task.has_personal:
            return
        self._is_named = True
        logger.warning(
            "client %s keeps arrays in its context.state (%s), which audits do not see and requests do not renew; if"
            " its model uses them, override Task.personal and Task.forget_personal",
            self._task.client_id(context),
            ", ".join(map(quoted, context.state.array_records)),
        )


def _check_versions(message: Message) -> None:
    problem = protocol.Versions.own().problem_with(protocol.Versions.of_server(message))
    if problem is not None:
        raise ProtocolError(f"the server cannot be understood: {problem}")


def _check_training(message: Message, answer: Message) -> None:
    """Refuse a training reply whose arrays are not those that came: no server could serve a request with them."""
    is_training = message.metadata.message_type == protocol.TRAIN and bool(protocol.ledger_of(message))
    if not is_training or not answer.has_content():
        return
    sent, made = list(message.content.array_records.values()), list(answer.content.array_records.values())
    problem = misfit(shapes_of(made[0]), shapes_of(sent[0])) if len(sent) == len(made) == 1 else None
    if problem is not None:
        raise ProtocolError(
            f"the app's training sends back another model than came: it {problem}; send the same part both ways:"
            " Task.arrays_of names it, and start() begins with initial_arrays=ArrayRecord(dict(task.arrays_of(model)))"
        )


def _refusal(message: Message, session: ClientSession, error: FedUnlearnError) -> Message:
    """The reply that says why an unlearning action was not done."""
    logger.warning("client %s: %s: %s", session.client_id, message.metadata.message_type, error)
    reason = f"client {session.client_id}: {describe(error)}"
    invalid = isinstance(error, InvalidRequestError)
    return protocol.refuse(message, protocol.Refusal(reason=reason, invalid_request=invalid))


def install(app: ClientApp, task: Task, *, mods: Sequence[Mod] = ()) -> None:
    """Add the unlearning actions to a Flower ClientApp.

    The app's own ``@app.train()`` and ``@app.evaluate()`` stay, whether they are registered before or after. Their
    replies carry a stamp with the digest of the client's tombstones.

    Mods of the app, ``ClientApp(mods=[...])``, and those given here act on the messages whose replies carry a model,
    ``train.unlearn``, ``train.repair`` and ``train.relearn``, as on training. The library's other messages reach no
    mod.

    Parameters
    ----------
    app : ClientApp
        The app. It must be made with ``ClientApp()``, not with a ``client_fn``.
    task : Task
        The user's model, data and training.
    mods : sequence of callable
        Mods for models of the library's own messages: those that the app has at its handlers,
        ``@app.train(mods=[...])``. One that the whole app has too acts once.

    Raises
    ------
    FedUnlearnError
        If the app was made with a ``client_fn``, has the actions already, has a mod for secure aggregation, or has a
        mod of Flower's that clips or noises models at a handler of training alone. A handler that is registered later
        with such a mod is refused then.
    """
    if app._call is not None:
        raise FedUnlearnError(
            "the ClientApp was made with a client_fn; unlearning needs the Message API: app = ClientApp() with"
            " @app.train() and @app.evaluate()"
        )
    if protocol.UNLEARN in app._registered_funcs:
        raise FedUnlearnError("the unlearning actions are installed in this ClientApp already; install them once")
    if any(protocol.is_secure_aggregation(mod) for mod in [*app._mods, *mods]):
        raise FedUnlearnError(f"the ClientApp has a mod for secure aggregation; {protocol.HIDDEN_REPLIES}")
    of_models, in_session = mods_of_models(app._mods, mods), _InSession(task)
    check = HandlerCheck(of_models, in_session)
    for name, handler in app._registered_funcs.items():
        check(name, handler)
    _install_actions(app, in_session, of_models)
    app._registered_funcs = Handlers(app._registered_funcs, check)


def _install_actions(app: ClientApp, in_session: _InSession, of_models: Sequence[Mod]) -> None:
    """Wrap the app's present and future handlers, and add the actions, which the app's own mods do not see.

    Flower itself takes mods only when an app is made.
    """
    own = list(app._mods)
    for name, handler in app._registered_funcs.items():
        app._registered_funcs[name] = _wrapped(in_session, handler)
    app._mods = [in_session]
    for message_type, action in ACTIONS.items():
        category, name = message_type.split(".")
        replies_with_model = message_type in protocol.REPLIES_WITH_MODEL
        if message_type == protocol.STATISTICS and (mod := privacy_mod_among(of_models)) is not None:
            action = StatisticsRefused(mod)
        getattr(app, category)(name)(ThroughMods(action, of_models) if replies_with_model else action)
    app._mods = [in_session, *own]


def _wrapped(mod: _InSession, handler: Handler) -> Handler:
    return lambda message, context: mod(message, context, handler)
