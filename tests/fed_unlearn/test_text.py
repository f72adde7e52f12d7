"""What is printed of text from outside: no character that moves a cursor, and never more than was asked for."""

from __future__ import annotations

import ast
import doctest

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fed_unlearn import text as text_module
from fed_unlearn.text import printable, quoted


@pytest.mark.parametrize(
    ("given_text", "expected"),
    [
        ("", ""),
        ("Client 7: é, 日本, C:\\temp", "Client 7: é, 日本, C:\\temp"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
        ("\x00\x7f\x85\xa0", "\\x00\\x7f\\x85\\xa0"),
        ("txt\u202egpj", "txt\\u202egpj"),
        ("\u2028\u200b\ufeff", "\\u2028\\u200b\\ufeff"),
        ("\ud800", "\\ud800"),
        ("\U000e0001", "\\U000e0001"),
    ],
)
def test_escapes(given_text: str, expected: str) -> None:
    assert printable(given_text) == expected


@pytest.mark.parametrize(
    ("given_text", "limit", "expected"),
    [
        ("abcdef", 6, "abcdef"),
        ("abcdefg", 6, "abc..."),
        ("ab\x1bcdef", 9, "ab\\x1b..."),
        ("ab\x1bcdef", 8, "ab..."),
        ("\n" * 4, 6, "\\n..."),
        ("abcdef", 2, ".."),
        ("abcdef", 0, ""),
    ],
)
def test_cuts_between_escapes(given_text: str, limit: int, expected: str) -> None:
    assert printable(given_text, limit) == expected


def test_megabytes_are_cut_at_200() -> None:
    assert printable("\x00" * 2_000_000) == "\\x00" * 49 + "..."


@settings(derandomize=True, database=None)
@given(st.text(st.characters()), st.integers(0, 40))
def test_every_text_is_printable_and_short(given_text: str, limit: int) -> None:
    shown = printable(given_text, limit)
    assert shown.isprintable()
    assert len(shown) <= limit
    shown.encode()


@settings(derandomize=True, database=None)
@given(st.text(st.characters(exclude_characters="\\'"), max_size=20))
def test_python_reads_the_escapes_as_the_text(given_text: str) -> None:
    assert ast.literal_eval(f"'{printable(given_text)}'") == given_text


@pytest.mark.parametrize("value", ["many", "it's", 'a "b"', 1.5, None, True, ["a", {"b": (1, 2)}], b"\xff"])
def test_short_values_are_quoted_as_python_writes_them(value: object) -> None:
    assert quoted(value) == repr(value)


def test_values_that_python_cannot_write_or_that_are_long() -> None:
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    assert quoted(nested) == "a value that is nested too deeply"
    assert quoted([10**5000]) == "a number of too many digits"
    assert quoted("a" * 1000) == f"'{'a' * 195}...'"
    assert quoted([1] * 1000) == f"{str([1] * 1000)[:197]}..."
    assert quoted("\x1b[31m") == "'\\x1b[31m'"


def test_examples() -> None:
    assert doctest.testmod(text_module).failed == 0
