"""Numbers as people read them: rounded the same way in tables, sentences and texts of charts."""

from __future__ import annotations

import math
from decimal import ROUND_DOWN, ROUND_HALF_UP, ROUND_UP, Decimal

_MOST_DECIMALS = 4
_THOUSAND = 1000
_NOTHING = Decimal("1e-9")
"""Differences that the computation alone can make. They are not shown."""
_LONGEST = 1e15


def rounded_text(value: float, decimals: int = 3) -> str:
    """Write a number.

    Ties are rounded away from zero, as the scripts of the page do. A number that is not 0 never reads as 0, and one
    under 1 never as 1: it gets further decimals, four in all at most. What then still would be 0 or 1 is rounded away
    from it.

    Parameters
    ----------
    value : float or int
        A count, which has separators and no decimals, or another number.
    decimals : int
        Decimals, 0 to 4. Numbers from 1,000 on have none.

    Returns
    -------
    str
        The number, never with a minus before zero.

    Examples
    --------
    >>> rounded_text(0.0625), rounded_text(0.9996), rounded_text(0.00001), rounded_text(-0.0)
    ('0.063', '0.9996', '0.0001', '0.000')
    >>> rounded_text(12345), rounded_text(1234.5)
    ('12,345', '1,235')
    """
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value) or abs(value) >= _LONGEST:
        return f"{value:,.0f}"
    return _written(Decimal(value), decimals, Decimal(1))


def percent_text(value: float) -> str:
    """Write a fraction as a percentage with one decimal, or more where it would read as 0 or 100.

    Parameters
    ----------
    value : float
        Fraction, usually in [0, 1].

    Examples
    --------
    >>> percent_text(0.9846), percent_text(0.9996), percent_text(1.0)
    ('98.5 %', '99.96 %', '100.0 %')
    """
    if not math.isfinite(value):
        return f"{value} %"
    return f"{_written(Decimal(value) * 100, 1, Decimal(100))} %"


def _written(exact: Decimal, decimals: int, whole: Decimal) -> str:
    if abs(exact) >= _THOUSAND:
        decimals = 0
    for count in range(decimals, _MOST_DECIMALS + 1):
        rounded = exact.quantize(Decimal(1).scaleb(-count), ROUND_HALF_UP)
        if abs(exact - rounded) < _NOTHING or not _hides(exact, rounded, whole):
            return f"{abs(rounded) if rounded == 0 else rounded:,f}"
    away = ROUND_UP if abs(exact) < whole / 2 else ROUND_DOWN
    return f"{exact.quantize(Decimal(1).scaleb(-_MOST_DECIMALS), away):,f}"


def _hides(exact: Decimal, rounded: Decimal, whole: Decimal) -> bool:
    """Whether something reads as nothing, or a part as the whole."""
    return rounded == 0 or (abs(rounded) == whole and abs(exact) < whole)
