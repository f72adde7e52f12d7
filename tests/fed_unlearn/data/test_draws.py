"""Samples that a client draws for a request."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fed_unlearn.data.draws import drawn
from fed_unlearn.data.images import ImageSet
from fed_unlearn.errors import InvalidRequestError
from fed_unlearn.seeding import seeded_generator

LABELS = torch.arange(20) % 4


@given(st.integers(1, 5), st.sampled_from([None, 0, 3]), st.integers(0, 50))
def test_a_draw_is_that_of_the_images_of_the_class(count: int, of_class: int | None, seed: int) -> None:
    """The expected one goes by images: a permutation of the available ones, cut off, in their order."""
    available = ImageSet(torch.zeros(20, 1, 1, 1), LABELS)
    if of_class is not None:
        available = available.of_classes({of_class})
    order = torch.randperm(len(available), generator=seeded_generator(seed, "draw", "r1", "4"))
    expected = available.only([available.ids[index] for index in order[:count].tolist()])
    positions = drawn(LABELS, count, request_id="r1", client="4", seed=seed, of_class=of_class)
    assert tuple(map(str, positions.tolist())) == expected.ids and len(positions) == count


def test_each_request_client_and_seed_draws_its_own() -> None:
    asked = [("r1", "0", 1), ("r2", "0", 1), ("r1", "1", 1), ("r1", "0", 2)]
    draws = [
        tuple(drawn(torch.zeros(1000), 5, request_id=name, client=client, seed=seed).tolist())
        for name, client, seed in asked * 2
    ]
    assert draws[:4] == draws[4:] and len(set(draws)) == 4


@pytest.mark.parametrize(("count", "of_class", "left"), [(20, None, 20), (21, 1, 20), (6, 1, 5), (1, 9, 0)], ids=str)
def test_more_than_may_be_drawn_is_refused(count: int, of_class: int | None, left: int) -> None:
    with pytest.raises(InvalidRequestError, match=f"asks for {count} samples; {left} such samples are left"):
        drawn(LABELS, count, request_id="r1", client="0", seed=0, of_class=of_class)
