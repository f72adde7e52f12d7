"""Figures as numbers and as percentages: what counts as one, and how it is written."""

from __future__ import annotations

import math

from fed_unlearn.rounding import percent_text


def finite_number(value: object) -> float | None:
    """A value that a file, a ledger or a client gave as a figure; None where it is no number, or not finite.

    Parameters
    ----------
    value : object
        Whole numbers and floats are numbers; a bool, a text or a whole number too large for a float is none.

    Examples
    --------
    >>> finite_number(1), finite_number(float("nan")), finite_number(True), finite_number("1")
    (1.0, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def percent(fraction: float | None, *, missing: str) -> str:
    """A fraction of 1 as a percentage with one decimal, or more where it would read as 0 or 100.

    Parameters
    ----------
    fraction : float or None
        Usually in [0, 1].
    missing : str
        What is written for None.

    Examples
    --------
    >>> percent(0.9841, missing="-"), percent(None, missing="-")
    ('98.4 %', '-')
    """
    return missing if fraction is None else percent_text(fraction)
