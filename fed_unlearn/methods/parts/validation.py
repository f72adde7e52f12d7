"""Checks of hyper-parameters: wrong type or out of range, said in one line."""

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
    """Refuse a parameter of the wrong type or out of range.

    Parameters
    ----------
    name, method : str
        The parameter and whose it is, for the message.
    value : object
        As it was given. Whole numbers pass for ``float``; truth values pass only for ``bool``.
    kind : type
        ``bool``, ``int``, ``float`` or ``str``. Numbers must be finite.
    minimum, maximum : float, optional
        Bounds that the value may reach.
    above, below : float, optional
        Bounds that the value may not reach.

    Raises
    ------
    InvalidParameterError
        Naming the parameter, the value and what is allowed.
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
    accepted = {float: (Integral, Real), int: (Integral,)}.get(kind, (kind,))  # also those of NumPy
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
    """Refuse a parameter that is none of the given texts.

    Raises
    ------
    InvalidParameterError
        Naming the parameter, the value and the choices.
    """
    if not isinstance(value, str) or value not in choices:
        listed = ", ".join(repr(choice) for choice in choices)
        raise InvalidParameterError(f"{method}: {name} = {value!r} was given; allowed is one of {listed}")
