"""The mods of a ClientApp: which protect what leaves a client, and how they act on the library's own messages."""

from __future__ import annotations

import copy
import inspect
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import FunctionType

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MessageType, RecordDict
from flwr.clientapp.typing import ClientAppCallable, Mod

from fed_unlearn import protocol
from fed_unlearn.arrays import norm, pack, unpack
from fed_unlearn.errors import FedUnlearnError

logger = logging.getLogger("fed_unlearn.client")

_PRIVACY_MODS = frozenset({"LocalDpMod", "fixedclipping_mod", "adaptiveclipping_mod"})
_SIZE_MODS = frozenset({"message_size_mod", "arrays_size_mod"})
_REGISTERED = "make_ffn.<locals>.wrap_ffn.<locals>.new_ffn"
_DEEPEST = 4
_LEAST_STEP = 1e-6


class Handlers(dict[str, ClientAppCallable]):
    """The handlers of a ClientApp, by message type. One that is registered is looked at before it is taken.

    It is a class, since Ray copies the ClientApp to its workers.

    Parameters
    ----------
    handlers : mapping of str to callable
        Handlers that are registered and checked already, by message type.
    check : callable
        Given the message type and the handler. It raises where the handler may not be registered.
    """

    def __init__(
        self, handlers: Mapping[str, ClientAppCallable], check: Callable[[str, ClientAppCallable], None]
    ) -> None:
        super().__init__(handlers)
        self._check = check

    def __setitem__(self, name: str, handler: ClientAppCallable) -> None:
        self._check(name, handler)
        super().__setitem__(name, handler)

    def __reduce__(self) -> tuple[type[dict[str, ClientAppCallable]], tuple[dict[str, ClientAppCallable]]]:
        return dict, (dict(self),)


class HandlerCheck:
    """Refuses handlers whose mods would protect training and not what unlearning sends.

    Parameters
    ----------
    given : sequence of callable
        The mods that act on the models of ``train.unlearn`` and ``train.repair``.
    own : callable
        The library's own mod.
    """

    def __init__(self, given: Sequence[Mod], own: Mod) -> None:
        self._given = [found for mod in given for found in _privacy_mods_in(mod)]
        self._known = [*given, own]

    def __call__(self, name: str, handler: ClientAppCallable) -> None:
        """Look at a handler that is registered, or that is about to be.

        Raises
        ------
        FedUnlearnError
            If a mod of it clips or noises models, and none of its kind was given; or if one is of secure aggregation.
        """
        mods = [mod for mod in _mods_of(handler) if not any(mod is known for known in self._known)]
        if any(protocol.is_secure_aggregation(mod) for mod in mods):
            raise FedUnlearnError(f"the handler {name} has a mod for secure aggregation; {protocol.HIDDEN_REPLIES}")
        if name.partition(".")[0] != MessageType.TRAIN:
            return
        for mod in mods:
            known = list(_privacy_mods_in(mod))
            missing = [found for found in known if not any(_acts_like(found, given) for given in self._given)]
            if missing:
                raise FedUnlearnError(
                    f"{_name_of(missing[0])} is a mod of the handler {name} alone, or has other settings there, and"
                    " models would leave train.unlearn and train.repair without it: give it to them too,"
                    " install(app, task, mods=[...])"
                )
            if not known and _name_of(mod) not in _SIZE_MODS:
                logger.warning(
                    "%s is a mod of the handler %s alone; if it changes what leaves the client, give it to"
                    " train.unlearn and train.repair too: install(app, task, mods=[...])",
                    _name_of(mod),
                    name,
                )


class ThroughMods:
    """An action that replies with a model, inside the mods of the app, which see a training message and its reply.

    They are shown the model and the configuration, and of the reply the whole model and the metrics. The library's own
    records pass them by. Where the client has no model to send, nothing of what they make of the unchanged one is used.

    Parameters
    ----------
    action : callable
        The handler. Its replies have the whole model, if any.
    mods : sequence of callable
        Mods of the app, the outermost first.
    """

    def __init__(self, action: ClientAppCallable, mods: Sequence[Mod]) -> None:
        self._action, self._mods = action, tuple(mods)

    def __call__(self, message: Message, context: Context) -> Message:
        """Handle a message. Arrays that equal those of the message are left out of the reply."""
        answer = self._through(message, context) if self._mods else self._action(message, context)
        model = answer.content.get(protocol.ARRAYS_KEY) if answer.has_content() else None
        if isinstance(model, ArrayRecord) and model:
            answer.content[protocol.ARRAYS_KEY] = protocol.changed_arrays(message, model)
        return answer

    def _through(self, message: Message, context: Context) -> Message:
        whole, sent = message.content, protocol.arrays_of(message)
        config = protocol.config_of(message)
        answers: list[Message] = []

        def handle(told: Message, context: Context) -> Message:
            full = copy.copy(told)
            full.content = RecordDict({**whole, **told.content})
            answers.append(answer := self._action(full, context))
            model = answer.content.get(protocol.ARRAYS_KEY)
            made = model if isinstance(model, ArrayRecord) and model else sent
            metrics = answer.content.metric_records.get(protocol.METRICS_KEY)
            shown = RecordDict({protocol.ARRAYS_KEY: _as_trained(sent, made)})
            if metrics is not None:
                shown[protocol.METRICS_KEY] = metrics
            return Message(shown, reply_to=told)

        call: ClientAppCallable = handle
        for mod in reversed(self._mods):
            call = partial(_called, mod, call)
        message.content = RecordDict({protocol.ARRAYS_KEY: sent, protocol.CONFIG_KEY: config})
        try:
            reply = call(message, context)
        finally:
            message.content = whole
        if not reply.has_content():
            return reply
        if not answers:
            raise FedUnlearnError(
                f"a mod of the app answered {message.metadata.message_type} by itself; let it pass on"
            )
        answer = answers[-1]
        model = answer.content.get(protocol.ARRAYS_KEY)
        if isinstance(model, ArrayRecord) and model:
            [left, *more] = reply.content.array_records.values() or [None]
            if left is None or more:
                raise FedUnlearnError("the mods of the app left no model, or several, in a reply; expected one")
            answer.content[protocol.ARRAYS_KEY] = left
            metrics = reply.content.metric_records.get(protocol.METRICS_KEY)
            if metrics is not None:
                answer.content[protocol.METRICS_KEY] = metrics
        return answer


@dataclass(frozen=True)
class StatisticsRefused:
    """In place of ``train.statistics`` where a mod clips or noises models: sums would leave without that.

    Attributes
    ----------
    mod : str
        Name of the mod.
    """

    mod: str

    def __call__(self, message: Message, context: Context) -> Message:
        """Refuse.

        Raises
        ------
        FedUnlearnError
            Always.
        """
        raise FedUnlearnError(
            f"the app has the mod {self.mod}, and sums over samples would leave without its clipping and noise; train"
            " with another strategy than FrozenHead, or set closed_form = false of reset-and-relearn"
        )


def privacy_mod_among(mods: Sequence[Mod]) -> str | None:
    """The name of a mod that clips or noises models; None where there is none."""
    return next((_name_of(found) for mod in mods for found in _privacy_mods_in(mod)), None)


def mods_of_models(app_mods: Sequence[Mod], mods: Sequence[Mod]) -> list[Mod]:
    """The app's mods, then those that ``install`` was given; what is in both acts once."""
    return [*app_mods, *(mod for mod in mods if not any(mod is known for known in app_mods))]


def _called(mod: Mod, call_next: ClientAppCallable, message: Message, context: Context) -> Message:
    return mod(message, context, call_next)


def _as_trained(sent: ArrayRecord, model: ArrayRecord) -> ArrayRecord:
    """A model as mods expect it of training: with its arrays in the order in which they came, and not unchanged.

    Flower's clipping divides by the length of the change. Where that is 0, one number is moved by about as little as
    rounding does.
    """
    if model.keys() != sent.keys():
        return model
    arrays, base = unpack(model), unpack(sent)
    ordered = {name: arrays[name] for name in base}
    if norm({name: np.subtract(value, base[name], dtype=np.float64) for name, value in ordered.items()}) == 0:
        for value in ordered.values():
            if value.size and np.issubdtype(value.dtype, np.floating):
                first = value.reshape(-1)[:1]
                first += np.maximum(np.abs(first), 1) * _LEAST_STEP
                break
    return pack(ordered)


def _mods_of(handler: object) -> Iterator[Mod]:
    """The mods that Flower has wrapped around a handler, outermost first."""
    while isinstance(handler, FunctionType) and handler.__qualname__.endswith(_REGISTERED):
        around = inspect.getclosurevars(handler).nonlocals
        if "_mod" not in around:
            return
        yield around["_mod"]
        handler = around.get("_ffn")


def _privacy_mods_in(mod: object) -> Iterator[object]:
    """The mods known to clip or noise models: the mod itself, or those that it is made of, calls or holds."""
    level, seen = [mod], {id(mod)}
    for _ in range(_DEEPEST):
        yield from (part for part in level if _is_of(part, _PRIVACY_MODS))
        inner = [found for part in level if not _is_of(part, _PRIVACY_MODS) for found in _parts_of(part)]
        level = []
        for part in inner:
            if callable(part) and not inspect.isclass(part) and id(part) not in seen:
                seen.add(id(part))
                level.append(part)


def _parts_of(mod: object) -> list[object]:
    """What a mod is made of, calls or holds."""
    if isinstance(mod, partial):
        return [mod.func, *mod.args, *mod.keywords.values()]
    if inspect.ismethod(mod):
        return [mod.__self__, mod.__func__]
    if isinstance(mod, FunctionType):
        used = inspect.getclosurevars(mod)
        return [*used.nonlocals.values(), *used.globals.values()]
    return list(getattr(mod, "__dict__", {}).values())


def _is_of(mod: object, names: frozenset[str]) -> bool:
    """Whether a mod is one of Flower's own of these names, or derives from one."""
    kinds = [mod] if isinstance(mod, FunctionType) else list(type(mod).__mro__)
    return any(
        kind.__name__ in names and str(kind.__module__).startswith("flwr.")
        for kind in kinds
        if isinstance(kind, FunctionType | type)
    )


def _acts_like(mod: object, other: object) -> bool:
    """Whether two mods known to clip or noise models are of one kind and have the same settings."""
    settings = [
        {name: value for name, value in getattr(each, "__dict__", {}).items() if isinstance(value, int | float)}
        for each in (mod, other)
    ]
    return _name_of(mod) == _name_of(other) and settings[0] == settings[1]


def _name_of(mod: object) -> str:
    for kind in [mod] if isinstance(mod, FunctionType) else type(mod).__mro__:
        if _is_of(mod, _PRIVACY_MODS) and kind.__name__ in _PRIVACY_MODS:
            return str(kind.__name__)
    return str(getattr(mod, "__name__", type(mod).__name__))
