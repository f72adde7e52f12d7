"""The cost of something, divided among several; its parts add up."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from fed_unlearn.strategies.clients.messages.exchange import Traffic


def some() -> Traffic:
    traffic = Traffic(messages=5, bytes_sent=7)
    traffic.note_passes("unlearn", 4, 3)
    traffic.note_passes("audit", 6, 0)
    traffic.note_passes("unlearn", 1, 0)
    return traffic


def test_parts_are_counted_beside_the_whole() -> None:
    assert (some().forward_passes, some().backward_passes, some().passes) == (11, 3, 17)
    assert some().passes_by_part == {"unlearn": 5 + 2 * 3, "audit": 6}


def test_three_shares_of_eleven_passes() -> None:
    shares = some().divided(3)
    # Forward passes 0 to 4 are of "unlearn" and 5 to 10 of "audit"; share k has those that leave k when divided by 3.
    assert [share.parts for share in shares] == [
        {"unlearn": (2, 1), "audit": (2, 0)},
        {"unlearn": (2, 1), "audit": (2, 0)},
        {"unlearn": (1, 1), "audit": (2, 0)},
    ]
    assert [share.messages for share in shares] == [2, 2, 1]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 20])
def test_shares_add_up_by_share_and_by_part(count: int) -> None:
    shares, whole = some().divided(count), Traffic()
    for share in shares:
        assert sum(share.passes_by_part.values()) == share.passes
        whole.add(share)
    assert whole == some()


def test_parts_go_through_json_and_what_older_versions_wrote_is_read() -> None:
    assert Traffic(**json.loads(json.dumps(asdict(some())))) == some()
    older = Traffic(messages=1, forward_passes=10, backward_passes=2)
    assert older.passes_by_part == {"other": 14}
    older.add(some())
    assert older.passes_by_part == {"unlearn": 11, "audit": 6, "other": 14}
