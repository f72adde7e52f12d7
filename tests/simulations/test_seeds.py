from __future__ import annotations

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from fed_unlearn.simulations.seeds import MOST_SEEDS, parsed_names, parsed_seeds, shown_seeds

SEEDS = st.integers(0, 10**6)
PARTS = st.lists(st.tuples(SEEDS, st.integers(0, 20)), min_size=1, max_size=8)


def test_seeds_are_numbers_and_ranges_each_once() -> None:
    assert parsed_seeds("100-104") == (100, 101, 102, 103, 104)
    assert parsed_seeds("7, 0-2,1") == (7, 0, 1, 2)
    assert parsed_seeds("0 - 2") == (0, 1, 2)


@pytest.mark.parametrize(
    "text",
    ["", "a", "3-", "-3", "1,,2", "5-4", "1-2-3", "0-10000", "0-9000,9001-10001", "1_0", "+3", "٣", "1.0", "9" * 99],
)
def test_what_is_no_seed_is_named(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="was given; expected"):
        parsed_seeds(text)


@given(PARTS)
def test_a_list_names_the_union_of_its_parts_in_their_order(parts: list[tuple[int, int]]) -> None:
    text = ",".join(str(low) if not more else f"{low}-{low + more}" for low, more in parts)
    union = [seed for low, more in parts for seed in range(low, low + more + 1)]
    found = parsed_seeds(text)
    assert len(found) == len(set(found)) <= MOST_SEEDS
    assert list(found) == sorted(set(union), key=union.index)


@given(st.lists(SEEDS, min_size=1, max_size=30, unique=True).map(tuple))
def test_what_is_shown_can_be_typed(seeds: tuple[int, ...]) -> None:
    assert parsed_seeds(shown_seeds(seeds)) == seeds


@given(st.text(max_size=12))
def test_any_text_is_seeds_or_is_refused(text: str) -> None:
    try:
        found = parsed_seeds(text)
    except typer.BadParameter:
        return
    assert found and all(type(seed) is int and seed >= 0 for seed in found)


def test_names_are_taken_once() -> None:
    assert parsed_names(" delete, scrub,,delete") == ("delete", "scrub")
    assert parsed_names(" , ") == ()
