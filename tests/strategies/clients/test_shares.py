"""One client's part of a sum is at most its share, and scaled counts keep their proportions."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_unlearn.strategies.clients.bounds.shares import SHARE_OF_TWO, bounded_parts, scaled_counts, scaled_hits

PARTS = st.dictionaries(st.text(min_size=1, max_size=2), st.integers(0, 2**62), max_size=8)


@pytest.mark.parametrize(
    ("parts", "share", "expected"),
    [
        ({"a": 10, "b": 20, "c": 15}, 0.5, {"a": 10, "b": 20, "c": 15}),
        ({"a": 10, "b": 10**12, "c": 15}, 0.5, {"a": 10, "b": 25, "c": 15}),
        ({"a": 10, "b": 10**12, "c": 15}, 1.0, {"a": 10, "b": 10**12, "c": 15}),
        ({"a": 100, "b": 20}, 0.5, {"a": 100, "b": 20}),
        ({"a": 10**12, "b": 20}, 0.5, {"a": 180, "b": 20}),
        ({"a": 10**12}, 0.5, {"a": 10**12}),
        ({"a": 10**12, "b": 0}, 0.5, {"a": 10**12, "b": 0}),
        ({"a": 7, "b": 8, "c": 9}, 0.2, {"a": 7, "b": 7, "c": 7}),
    ],
)
def test_what_is_over_the_share_is_lowered(parts: dict[str, int], share: float, expected: dict[str, int]) -> None:
    assert bounded_parts(parts, share) == expected


@given(PARTS, st.sampled_from([0.3, 0.5, 0.8]))
def test_no_part_is_over_its_share_where_that_can_be(parts: dict[str, int], share: float) -> None:
    bounded = bounded_parts(parts, share)
    assert all(bounded[client] <= part for client, part in parts.items())
    present = [part for part in bounded.values() if part]
    allowed = max(share, SHARE_OF_TWO) if len([part for part in parts.values() if part]) == 2 else share
    if len(present) * allowed > 1 and min(present) > 1000:
        assert max(present) <= Fraction(allowed) * sum(present) * Fraction(1001, 1000)


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=20), st.integers(0, 10**9))
def test_scaled_counts_add_up(counts: list[int], total: int) -> None:
    scaled = scaled_counts(counts, total)
    assert sum(scaled) == min(total, sum(counts))
    assert all(0 <= new <= old for new, old in zip(scaled, counts, strict=True))
    if total >= sum(count > 0 for count in counts):
        assert [new > 0 for new in scaled] == [old > 0 for old in counts]


@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 1000))
def test_scaled_hits_keep_the_accuracy(correct: int, wrong: int, total: int) -> None:
    hits = scaled_hits(correct, correct + wrong, total)
    if correct + wrong:
        assert abs(hits - Fraction(correct * total, correct + wrong)) <= Fraction(1, 2)
        assert 0 <= hits <= total
