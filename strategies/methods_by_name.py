"""The methods that requests of a federation can name: those of holders, and those that the server runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flwr.serverapp.strategy import Strategy

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.methods.registry import METHODS
from fed_unlearn.requests import ScopeKind
from fed_unlearn.strategies.server_methods.base import ServerMethod
from fed_unlearn.strategies.server_methods.registry import SERVER_METHODS


def known_methods() -> dict[str, type[Any]]:
    """Every method that a request can name, by its name: those of holders, then those of the server.

    Where a holders' method and one of the server have the same name, the name means the server's. The steps that a
    leaving client takes for a method of the server are left out: no request can name them.
    """
    of_server = SERVER_METHODS.available()
    others = {name: cls for name, cls in METHODS.available().items() if name not in of_server}
    return {name: cls for name, cls in others.items() if set(cls.scopes) - {"client"}} | of_server


def method_named(name: str) -> type[Any]:
    """The class of a method that a request names.

    Raises
    ------
    InvalidParameterError
        If there is no such method, where all that can be named are listed; or if its entry point cannot be loaded.
    """
    if is_server_method(name):
        return SERVER_METHODS.find(name)
    known = known_methods()
    if name in METHODS.available() and name not in known:
        raise METHODS.unknown(name, known)
    return METHODS.find(name, expected=known)


def served_scopes(method: type[Any]) -> tuple[ScopeKind, ...]:
    """The scopes of the requests that can name a method: clients are forgotten by methods of the server alone.

    Parameters
    ----------
    method : type
        Class of the method.
    """
    return tuple(scope for scope in method.scopes if scope != "client" or issubclass(method, ServerMethod))


def is_server_method(name: str) -> bool:
    """Whether a method is run by the server over rounds, and not by the holders alone."""
    return name in SERVER_METHODS


def shares_rounds(name: str) -> bool:
    """Whether one pass of a method serves several requests."""
    return not is_server_method(name) or SERVER_METHODS.find(name).shares_rounds


def needs_history(name: str) -> bool:
    """Whether a method replays training rounds that the server has kept."""
    return is_server_method(name) and "history" in SERVER_METHODS.find(name).needs


def check_suits(name: str, strategy: type[Strategy]) -> None:
    """Refuse a method of the server that can serve no request where such a strategy trains.

    Other names pass, unknown ones too: :func:`method_named` refuses these.

    Raises
    ------
    InvalidParameterError
        If it cannot, or its entry point cannot be loaded.
    """
    problem = SERVER_METHODS.find(name).unsuited_to(strategy) if is_server_method(name) else None
    if problem is not None:
        raise InvalidParameterError(f"{name}: {problem}")


def new_method(name: str, parameters: Mapping[str, object]) -> object:
    """A method of either kind, by name.

    Raises
    ------
    InvalidParameterError
        If it or one of its parameters is unknown or out of range.
    """
    method_named(name)
    return SERVER_METHODS.create(name, **parameters) if is_server_method(name) else METHODS.create(name, **parameters)


def check_serves(name: str, scope: ScopeKind) -> None:
    """Refuse a method that does not serve a scope.

    Raises
    ------
    InvalidParameterError
        Naming the scopes that it serves; or if there is no such method.
    """
    scopes = served_scopes(method_named(name))
    if scope not in scopes:
        raise InvalidParameterError(
            f"{name!r} does not serve {scope} requests; it serves {' and '.join(scopes)} requests"
        )
