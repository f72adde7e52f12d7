"""The ``start()`` of a strategy, Flower's or one of the user's own, run with its hooks in other hands."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from types import MethodType, new_class
from typing import Any, Final, Protocol

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from fed_unlearn.errors import InvalidParameterError

_HOOKS: Final = ("configure_train", "aggregate_train", "configure_evaluate", "aggregate_evaluate")
_NEEDED: Final = ("grid", "initial_arrays", "num_rounds")
_PASSED: Final = (*_NEEDED, "timeout", "train_config", "evaluate_config", "evaluate_fn")
_LOST: Final = "its start() would not run, nor what it logs and saves"


class Hooks(Protocol):
    """What a ``start()`` calls in place of the strategy's own hooks."""

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """As in Flower."""

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """As in Flower."""

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """As in Flower."""

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """As in Flower."""


def has_own_start(inner: Strategy) -> bool:
    """Whether a strategy overrides Flower's ``start()``."""
    return type(inner).start is not Strategy.start or "start" in vars(inner)


def why_start_refused(inner: Strategy) -> str | None:
    """Why a strategy's ``start()`` cannot run the rounds; None where it can.

    A ``start()`` is called with the parameters of Flower's that it has. It needs the first three, and what else it has
    must have a default.
    """
    try:
        _with_hooks(inner, inner)
    except Exception as error:  # what a class of the user's own raises when a class is derived from it
        return f"{_LOST}: no class can be derived from its class: {type(error).__name__}: {error}"
    if not has_own_start(inner):
        return None
    own = vars(inner).get("start")
    if own is not None and getattr(own, "__self__", None) is not inner:
        return f"{_LOST}: a function was put in the place of start; make it a method of a class of your own"
    start = type(inner).start if own is None else own.__func__
    if inspect.iscoroutinefunction(start) or inspect.isgeneratorfunction(start):
        return f"{_LOST}: start is no plain method; expected one that returns when all rounds are done"
    parameters = dict(list(inspect.signature(start).parameters.items())[1:])
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    lacks = [] if takes_all else [name for name in _NEEDED if not _by_name(parameters, name)]
    if lacks:
        return f"{_LOST}: it has no parameter {lacks[0]!r}; expected those of Flower's Strategy.start"
    for name, parameter in parameters.items():
        is_one = parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        if is_one and parameter.default is parameter.empty and name not in _PASSED:
            return f"{_LOST}: its parameter {name!r} has no default, and nobody would give it; give it a default"
    return None


def run_start(inner: Strategy, hooks: Hooks, settings: Mapping[str, object]) -> object:
    """Run a strategy's ``start()`` from its first line to its last, with other hooks, and return what it returns.

    The strategy's own hooks stay what they are. What ``start()`` sets on ``self`` is set on the strategy.

    Parameters
    ----------
    inner : Strategy
    hooks : Hooks
        What ``self.configure_train`` and the three others are within ``start()``.
    settings : mapping
        Arguments of ``start()``, by the names that Flower has for them.

    Raises
    ------
    InvalidParameterError
        If something is to be given that this ``start()`` does not take.
    """
    shown = _with_hooks(inner, hooks)
    own = vars(inner).get("start")
    start: Callable[..., object] = shown.start if own is None else MethodType(own.__func__, shown)
    parameters = inspect.signature(start).parameters
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    taken = {name: value for name, value in settings.items() if takes_all or _by_name(parameters, name)}
    lost = [name for name in settings.keys() - taken.keys() if name != "timeout" and settings[name]]
    if lost:
        raise InvalidParameterError(
            f"{', '.join(sorted(lost))} was given, and start() of {type(inner).__name__} does not take it; leave it out"
        )
    return start(**taken)


def _by_name(parameters: Mapping[str, inspect.Parameter], name: str) -> bool:
    parameter = parameters.get(name)
    return parameter is not None and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)


def _with_hooks(inner: Strategy, hooks: Hooks) -> Strategy:
    """The same strategy under other hooks: of a subclass of its class, with the very attributes that it has.

    ``super().configure_train`` in a method of the user's own is the strategy's own all the same, and copies are of the
    strategy itself.
    """
    kind = type(inner)

    def find(self: Any, name: str) -> Any:
        return getattr(hooks, name) if name in _HOOKS else kind.__getattribute__(self, name)

    def fill(namespace: dict[str, Any]) -> None:
        namespace |= {
            "__getattribute__": find,
            "__reduce_ex__": lambda self, protocol: (_itself, (inner,)),
            "__module__": kind.__module__,
            "__qualname__": kind.__qualname__,
            "__doc__": kind.__doc__,
        }

    shown: Strategy = object.__new__(new_class(kind.__name__, (kind,), exec_body=fill))
    object.__setattr__(shown, "__dict__", vars(inner))
    return shown


def _itself(strategy: Strategy) -> Strategy:
    """What copies and pickles of a strategy under other hooks are made by."""
    return strategy
