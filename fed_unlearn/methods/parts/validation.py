"""Checks of hyper-parameters: their types and ranges."""

from __future__ import annotations

import math
from collections.abc import Collection
from numbers import Integral, Real

from fed_unlearn.errors import InvalidParameterError

_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def require(
    name: str,
    method: str,
    value: object,
    kind: type,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> None:
    """Raise if a parameter has the wrong type or is out of range.

    Parameters
    ----------
    name, method : str
        Names of the parameter and of its owner, for the message.
    value : object
        The given value. Whole numbers pass for ``float``. Truth values pass only for ``bool``.
    kind : type
        ``bool``, ``int``, ``float`` or ``str``. Numbers must be finite.
    minimum, maximum : float, optional
        Bounds that the value may equal.
    above, below : float, optional
        Bounds that the value may not equal.

    Raises
    ------
    InvalidParameterError
        The message names the parameter, the value and what is allowed.
    """
    limits = [
        text
        for bound, text in (
            (minimum, f"at least {minimum}"),
            (above, f"above {above}"),
            (maximum, f"at most {maximum}"),
            (below, f"below {below}"),
        )
        if bound is not None
    ]
    allowed = " ".join([_KINDS.get(kind, kind.__name__), " and ".join(limits)]).strip()
    accepted = {float: (Integral, Real), int: (Integral,)}.get(kind, (kind,))  # includes NumPy's numbers
    fits = isinstance(value, accepted) and (kind is bool or not isinstance(value, bool))
    if fits and isinstance(value, Real) and kind is not bool:
        number = float(value)
        fits = (
            math.isfinite(number)
            and (minimum is None or number >= minimum)
            and (maximum is None or number <= maximum)
            and (above is None or number > above)
            and (below is None or number < below)
        )
    if not fits:
        raise InvalidParameterError(f"{method}: {name} = {value!r} was given; allowed is {allowed}")


def require_choice(name: str, method: str, value: object, choices: Collection[str]) -> None:
    """Raise if a parameter is not one of the given texts.

    Raises
    ------
    InvalidParameterError
        The message names the parameter, the value and the choices.
    """
    if not isinstance(value, str) or value not in choices:
        listed = ", ".join(repr(choice) for choice in choices)
        raise InvalidParameterError(f"{method}: {name} = {value!r} was given; allowed is one of {listed}")
