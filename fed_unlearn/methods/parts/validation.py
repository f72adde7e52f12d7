"""Checks of hyper-parameters: their types and ranges, which fields declare in their annotations."""

from __future__ import annotations

import inspect
import math
from collections.abc import Collection
from numbers import Integral, Real
from typing import Annotated, Any, Literal, get_args, get_origin

from annotated_types import Interval

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.text import quoted

BelowOne = Annotated[float, Interval(ge=0, lt=1)]
PositiveShare = Annotated[float, Interval(gt=0, le=1)]

_LIMITS = {"ge": "minimum", "gt": "above", "le": "maximum", "lt": "below"}
_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def require_fields(owner: str, instance: object) -> None:
    """Check the fields of a dataclass whose annotations are bounded numbers, ``bool`` or ``Literal``.

    A bounded number is ``Annotated`` with bounds of ``annotated_types``. A subclass that repeats a field with a plain
    type keeps the bounds of its base.

    Parameters
    ----------
    owner : str
        Name of the owner, for the message.
    instance : object
        The dataclass instance.

    Raises
    ------
    InvalidParameterError
        The message names the field, the value and what is allowed.
    """
    for name, (kind, limits) in _declared(type(instance)).items():
        if isinstance(kind, type):
            require(name, owner, getattr(instance, name), kind, **limits)
        else:
            require_choice(name, owner, getattr(instance, name), kind)


def _declared(cls: type) -> dict[str, tuple[type | tuple[str, ...], dict[str, float]]]:
    """For each declared field its type and limits, or its choices."""
    found: dict[str, tuple[type | tuple[str, ...], dict[str, float]]] = {}
    for base in reversed(cls.__mro__):
        try:
            hints: dict[str, Any] = inspect.get_annotations(base, eval_str=True)
        except NameError:  # names that are imported for type checkers only
            continue
        for name, hint in hints.items():
            if get_origin(hint) is Annotated:
                bounds = [bound for item in get_args(hint)[1:] for bound in _bounds(item)]
                found[name] = (get_args(hint)[0], dict(bounds))
            elif get_origin(hint) is Literal:
                found[name] = (get_args(hint), {})
            elif hint is bool:
                found[name] = (bool, {})
    return found


def _bounds(item: object) -> list[tuple[str, float]]:
    return [(_LIMITS[key], value) for key in _LIMITS if (value := getattr(item, key, None)) is not None]


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
        number = _as_float(value)
        fits = (
            math.isfinite(number)
            and (minimum is None or number >= minimum)
            and (maximum is None or number <= maximum)
            and (above is None or number > above)
            and (below is None or number < below)
        )
    if not fits:
        raise InvalidParameterError(f"{method}: {name} = {quoted(value)} was given; allowed is {allowed}")


def _as_float(value: Real) -> float:
    try:
        return float(value)
    except OverflowError:  # a whole number beyond all floats
        return math.inf


def require_choice(name: str, method: str, value: object, choices: Collection[str]) -> None:
    """Raise if a parameter is not one of the given texts.

    Raises
    ------
    InvalidParameterError
        The message names the parameter, the value and the choices.
    """
    if not isinstance(value, str) or value not in choices:
        listed = ", ".join(repr(choice) for choice in choices)
        raise InvalidParameterError(f"{method}: {name} = {quoted(value)} was given; allowed is one of {listed}")
