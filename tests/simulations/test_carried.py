"""What one message's process hands to the next of the same run."""

from __future__ import annotations

from fed_unlearn.simulations.carried import Carrier


def made(calls: list[int]) -> list[int]:
    calls.append(1)
    return [3]


def test_a_value_is_made_once_and_carried_on() -> None:
    calls: list[int] = []
    first, second = Carrier(), Carrier()
    first.receive(b"")
    assert first.value("data", lambda: made(calls)) == first.value("data", lambda: made(calls)) == [3]
    second.receive(first.parcel() or b"")
    assert second.value("data", lambda: made(calls)) == [3]
    assert len(calls) == 1
    assert second.parcel() is None


def test_a_process_that_no_executor_forked_carries_nothing() -> None:
    calls: list[int] = []
    carrier = Carrier()
    carrier.value("data", lambda: made(calls))
    carrier.value("data", lambda: made(calls))
    assert len(calls) == 2
    assert carrier.parcel() is None


def test_what_was_dropped_is_carried_no_further() -> None:
    first, second = Carrier(), Carrier()
    first.receive(b"")
    first.value("data", lambda: [3])
    second.receive(first.parcel() or b"")
    second.drop()
    assert second.parcel() == b""


def test_what_cannot_be_packed_is_made_again() -> None:
    carrier = Carrier()
    carrier.receive(b"")
    carrier.value("data", lambda: lambda: None)
    assert carrier.parcel() is None
