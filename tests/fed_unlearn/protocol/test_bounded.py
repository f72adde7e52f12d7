"""Text, lists, JSON and counts of clients are read within bounds."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_unlearn.errors import ProtocolError
from fed_unlearn.protocol import bounded

REFUSED = {
    "no text": 7,
    "no JSON": "x",
    "too long": '"' + "x" * bounded.LONGEST_JSON + '"',
    "too deep": "[" * 5 + "]" * 5,
    "100,000 brackets": "[" * 100_000,
    "too many digits": "9" * 5000,
    "infinite": "Infinity",
    "not a number": "[NaN]",
    "a fraction": "0.5",
    "an exponent": "1e999",
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_json_out_of_bounds_is_refused(text: object) -> None:
    with pytest.raises(ProtocolError):
        bounded.bounded_json(text)


@given(
    st.recursive(st.none() | st.integers(0, 2**63 - 1) | st.text(max_size=20), lambda part: st.lists(part, max_size=3))
)
def test_what_is_within_the_bounds_is_read_as_json(body: object) -> None:
    text = json.dumps(body)
    try:
        assert bounded.bounded_json(text) == json.loads(text)
    except ProtocolError:
        depth, deepest = 0, 0
        for mark in json.dumps(body, ensure_ascii=True):
            depth += {"[": 1, "]": -1}.get(mark, 0)
            deepest = max(deepest, depth)
        assert deepest > bounded.DEEPEST_JSON


def test_brackets_in_texts_are_no_depth() -> None:
    assert bounded.texts('["[[[[[[[[", "\\"[[[["]') == ("[[[[[[[[", '"[[[[')


@given(st.one_of(st.integers(), st.floats(), st.booleans(), st.text(max_size=3), st.none()))
def test_a_count_is_a_whole_number_of_63_bits(value: object) -> None:
    count = bounded.whole_count(value)
    is_count = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 2**63
    assert count == (int(value) if is_count and value == int(value) else None)  # type: ignore[call-overload]


def test_lists_of_counts() -> None:
    assert bounded.whole_counts([1, 2.0, 3]) == [1, 2, 3]
    assert bounded.whole_counts([]) == []
    for wrong in ([1, -1], [0.5], [2**63], 7, [1] * (bounded.LONGEST_LIST + 1), ["1"]):
        assert bounded.whole_counts(wrong) is None


def test_texts_are_made_printable_and_cut() -> None:
    assert bounded.texts_by_name('{"r1": "\\u001b[31mno"}') == {"r1": "\\x1b[31mno"}
    [text] = bounded.texts(json.dumps(["a" * 1000]))
    assert len(text) == 200
    assert not bounded.is_name("") and not bounded.is_name("a\n") and not bounded.is_name("a" * 201)
    assert bounded.is_name("client 7")
