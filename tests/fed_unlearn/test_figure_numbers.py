"""What counts as a number of a figure, and how it is written."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_unlearn.figure_numbers import finite_number, percent


@given(st.floats() | st.integers() | st.booleans() | st.none() | st.text())
def test_a_number_is_what_json_can_hold_as_one(value: object) -> None:
    number = finite_number(value)
    try:
        written = json.dumps(value, allow_nan=False)
        expected = float(written) if written[0] in "-0123456789" else None
    except ValueError:
        expected = None
    expected = None if expected is None or math.isinf(expected) else expected
    assert (number, type(number)) == (expected, type(expected))


def test_a_whole_number_that_no_float_holds_is_none() -> None:
    assert finite_number(10**400) is None


@pytest.mark.parametrize(
    ("fraction", "text"), [(0.0, "0.0 %"), (0.98412, "98.4 %"), (1.0, "100.0 %"), (-0.05, "-5.0 %"), (None, "-")]
)
def test_a_fraction_is_a_percentage_with_one_decimal(fraction: float | None, text: str) -> None:
    assert percent(fraction, missing="-") == text
