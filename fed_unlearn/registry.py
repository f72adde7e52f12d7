"""Callables that a user names by ``package.module:callable``."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from fed_unlearn.errors import InvalidParameterError


def imported_callable(name: str) -> Callable[..., Any]:
    """The callable of a name such as ``package.module:callable``; its module is imported.

    Raises
    ------
    InvalidParameterError
        If the name has another form, the module cannot be imported, or it has no such callable.
    """
    place, _, attribute = name.partition(":")
    if not place or not attribute:
        raise InvalidParameterError(f"{name!r} was given; expected 'package.module:callable'")
    try:
        module = importlib.import_module(place)
    except Exception as error:  # the user's own module: whatever it raises as it is imported
        reason = str(error) if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
        raise InvalidParameterError(f"{place} cannot be imported ({reason})") from error
    found = getattr(module, attribute, None)
    if not callable(found):
        raise InvalidParameterError(f"{place} has no callable {attribute!r}")
    return found  # type: ignore[no-any-return]
