from decimal import ROUND_HALF_UP, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_unlearn.rounding import percent_text, rounded_text


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [
        (0.0625, 3, "0.063"),  # a tie: Python's own format would write 0.062, the page's scripts 0.063
        (-0.0625, 3, "-0.063"),
        (0.9996, 3, "0.9996"),
        (0.9995, 3, "0.9995"),
        (0.00049, 3, "0.0005"),
        (0.99999999, 3, "0.9999"),
        (0.00000001, 3, "0.0001"),
        (-0.0001, 3, "-0.0001"),
        (-0.0, 3, "0.000"),
        (-1e-17, 3, "0.000"),
        (1 - 1e-16, 3, "1.000"),
        (1.0004, 3, "1.000"),
        (0.04, 1, "0.04"),
        (999.96, 1, "1,000.0"),
        (1000.5, 1, "1,001"),
        (1e300, 1, f"{1e300:,.0f}"),
        (1234567, 3, "1,234,567"),
        (0, 3, "0"),
    ],
)
def test_numbers_are_written(value: float, decimals: int, text: str) -> None:
    assert rounded_text(value, decimals) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "100.0 %"), (0.0, "0.0 %"), (-0.0, "0.0 %"), (0.9996, "99.96 %"), (0.9995, "99.95 %"),
        (0.0004, "0.04 %"), (0.0625, "6.3 %"), (0.9999999, "99.9999 %"), (0.1875, "18.8 %"), (10.5, "1,050 %"),
    ],
)  # fmt: skip
def test_percentages_are_written(value: float, text: str) -> None:
    assert percent_text(value) == text


@given(st.integers(1, 20_000).flatmap(lambda of: st.tuples(st.integers(0, of), st.just(of))))
def test_a_share_reads_as_nothing_or_all_only_where_it_is(share: tuple[int, int]) -> None:
    part, whole = share
    for text in (rounded_text(part / whole), percent_text(part / whole)):
        number = Decimal(text.removesuffix(" %").replace(",", ""))
        assert (number == 0) == (part == 0)
        assert (number == (100 if "%" in text else 1)) == (part == whole)
    usual = Decimal(part / whole).quantize(Decimal("0.001"), ROUND_HALF_UP)
    if usual not in (0, 1):
        assert rounded_text(part / whole) == str(usual)
