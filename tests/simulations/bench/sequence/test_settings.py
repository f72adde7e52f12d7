from __future__ import annotations

import pytest
import typer

from fed_unlearn.simulations.bench.sequence.settings import parsed_seeds


def test_seeds_are_numbers_and_ranges_each_once() -> None:
    assert parsed_seeds("100-104") == (100, 101, 102, 103, 104)
    assert parsed_seeds("7, 0-2,1") == (7, 0, 1, 2)


@pytest.mark.parametrize("text", ["", "a", "3-", "-3", "1,,2", "5-4", "1-2-3", "0-10000"])
def test_what_is_no_seed_is_named(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="was given; expected"):
        parsed_seeds(text)
