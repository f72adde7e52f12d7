"""Words of a drawing that would cover each other."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from fed_unlearn.simulations.report.charts.placing import Place, apart

SIDE = 300.0


def covered(words: list[str], places: list[Place]) -> list[tuple[str, str]]:
    """The pairs of words that overlap, with letters of 7 by 14 pixels."""
    found = []
    for (one, (left, low)), (other, (right, high)) in itertools.combinations(zip(words, places, strict=True), 2):
        if abs(left - right) < 3.5 * (len(one) + len(other)) and abs(low - high) < 13.9:
            found.append((one, other))
    return found


def test_words_that_do_not_overlap_stay() -> None:
    wanted = [(50.0, 100.0), (200.0, 100.0), (50.0, 120.0)]
    assert apart(["deer", "automobile", "cat"], wanted, SIDE) == wanted


def test_two_words_at_one_place_part_by_half_a_line_each() -> None:
    assert apart(["deer", "dog"], [(100.0, 100.0), (100.0, 100.0)], SIDE) == [(100.0, 93.0), (100.0, 107.0)]


def test_words_at_the_edge_stay_inside() -> None:
    places = apart(["deer", "dog", "cat"], [(100.0, 1.0), (100.0, 1.0), (100.0, 1.0)], SIDE)
    assert not covered(["deer", "dog", "cat"], places)
    assert all(6.9 < along < SIDE for _, along in places)


@pytest.mark.parametrize("seed", range(20))
def test_ten_words_in_a_crowd_are_readable_and_near(seed: int) -> None:
    words = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    wanted = [(float(x), float(y)) for x, y in np.random.default_rng(seed).normal(150, 20, (10, 2))]
    places = apart(words, wanted, SIDE)
    assert not covered(words, places)
    assert all(x == was for (x, _), (was, _) in zip(places, wanted, strict=True))
    assert max(abs(y - was) for (_, y), (_, was) in zip(places, wanted, strict=True)) < 10 * 14
    assert places == apart(words, wanted, SIDE)
