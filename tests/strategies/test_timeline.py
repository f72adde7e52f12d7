"""Which entry of a timeline is next, from nothing but what the ledger says."""

from __future__ import annotations

from dataclasses import replace

import pytest
from flwr.app import ConfigRecord

from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies.timeline import Forget, LedgerView, Step, Train, last_begun, next_step

OWN = ConfigRecord({"learning-rate": 0.5})


def forget(*ids: str, config: ConfigRecord | None = None) -> Forget:
    return Forget(tuple(ForgetRequest.for_class(3, id=name) for name in ids), config)


def view(finished: int = 0, *, known: str = "", waiting: str = "", **more: bool) -> LedgerView:
    """A ledger with these requests, one letter each, and those of them that are not at their end."""
    return LedgerView(finished=finished, known=frozenset(known), open=frozenset(waiting), **more)


TIMELINE = (Train(rounds=3), forget("a", "b"), Train(rounds=0), forget("c", config=OWN))


def test_a_new_timeline_is_run_entry_by_entry() -> None:
    start = view()
    first = next_step(TIMELINE, None, start, start)
    assert first == Step(0, 0, TIMELINE[0], None)
    second = next_step(TIMELINE, first, start, view(1))
    assert second == Step(1, 1, None, None)
    third = next_step(TIMELINE, second, start, view(1, known="ab"))
    assert third == Step(2, 2, TIMELINE[2], TIMELINE[2].train_config)
    fourth = next_step(TIMELINE, third, start, view(2, known="ab"))
    assert fourth == Step(3, 3, None, OWN)
    assert next_step(TIMELINE, fourth, start, view(2, known="abc")) is None


def test_nothing_is_left_of_one_that_came_to_its_end() -> None:
    end = view(2, known="abc")
    assert next_step(TIMELINE, None, end, end) is None
    assert next_step((), None, view(), view()) is None


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        (view(training_is_open=True), Step(0, 0, TIMELINE[0], None)),
        (view(1, known="a"), Step(1, 1, None, None)),
        (view(1, known="ab", waiting="b", is_amid_requests=True), Step(1, 1, None, None)),
        (view(1, known="ab"), Step(2, 2, TIMELINE[2], TIMELINE[2].train_config)),
        (view(2, known="abc", is_look_due=True), Step(4, None, None, None)),
        (view(2, known="abc", is_amid_requests=True), Step(3, None, None, OWN)),
    ],
)
def test_it_goes_on_where_a_crash_has_cut_it(left: LedgerView, expected: Step) -> None:
    assert next_step(TIMELINE, None, left, left) == expected


def test_requests_of_earlier_entries_that_wait_are_tried_with_the_one_that_it_goes_on_with() -> None:
    """They have no step of their own before it; after the last entry they are tried by themselves."""
    left = view(1, known="ab", waiting="a")
    assert next_step(TIMELINE, None, left, left) == Step(1, 1, None, None), "its own entry was the last that was begun"
    left = view(2, known="ab", waiting="a")
    step = next_step(TIMELINE, None, left, left)
    assert step == Step(3, 3, None, OWN), "the training after it was run already"
    left = view(2, known="abc", waiting="a")
    assert next_step(TIMELINE, None, left, left) == Step(4, 1, None, OWN)


def test_a_request_that_waits_is_not_tried_twice_in_one_run() -> None:
    start = view(1, known="ab")
    last = Step(3, 3, None, OWN)
    assert next_step(TIMELINE, last, start, view(2, known="abc", waiting="a")) is None
    assert next_step(TIMELINE, last, start, view(2, known="abc", is_look_due=True)) == Step(4, None)
    assert next_step(TIMELINE, Step(4, None), start, view(2, known="abc", is_look_due=True)) is None


def test_an_entry_that_repeats_requests_does_not_tell_how_far_it_has_come() -> None:
    timeline = (forget("a"), Train(rounds=1), forget("a"), Train(rounds=1))
    assert last_begun(timeline, view(known="a")) == 0
    assert last_begun(timeline, view(1, known="a")) == 1
    assert last_begun(timeline, replace(view(1, known="a"), training_is_open=True)) == 3
    assert last_begun(timeline, view()) == -1
    reopened = view(1, known="a", waiting="a")
    assert next_step(timeline, None, reopened, reopened) == Step(2, 2, None, None)
