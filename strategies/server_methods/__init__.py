"""Server-side unlearning methods by name: what the server does round by round, one method a file.

A method registers itself with :func:`register`; another package offers one through the entry point group
``fed_unlearn.server_methods``, as :class:`fed_unlearn.registry.Registry` describes.
"""

from typing import Any

from fed_unlearn.registry import Registry
from fed_unlearn.strategies.server_methods import registry
from fed_unlearn.strategies.server_methods.base import MethodFailedError, ServerMethod, ServerWork
from fed_unlearn.strategies.server_methods.registry import register
from fed_unlearn.strategies.state import MethodState

SERVER_METHODS: Registry[ServerMethod[Any]] = registry.SERVER_METHODS
available = SERVER_METHODS.available
"""Every server-side method by its name, sorted."""
create = SERVER_METHODS.create
"""``create(name, **parameters)``: a method with the given hyper-parameters, the others at their defaults."""
distribution_of = SERVER_METHODS.distribution_of
"""The installed distribution whose entry point gives a method; None for built-in ones."""
method_class = SERVER_METHODS.find
"""The class of a server-side method."""
unavailable = SERVER_METHODS.unavailable
"""Entry points that cannot be loaded, with the reason."""

__all__ = [
    "SERVER_METHODS",
    "MethodFailedError",
    "MethodState",
    "ServerMethod",
    "ServerWork",
    "available",
    "create",
    "distribution_of",
    "method_class",
    "register",
    "unavailable",
]
