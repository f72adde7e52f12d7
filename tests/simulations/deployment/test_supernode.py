"""The pauses of Flower's loop in a SuperNode: short while there is work, and Flower's own when there is none."""

from __future__ import annotations

import ast
import inspect
import time

from flwr.supernode import start_client_internal as loop

from fed_unlearn.simulations.deployment.nodes.supernode import ShortPauses

EMPTY, ANSWERING = 3.0, 0.5


class Clock:
    """A clock that a sleep moves on."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def elsewhere(self) -> str:
        return "passed on"


def waits(pauses: ShortPauses, clock: Clock, seconds: float, until: float) -> list[float]:
    """The waits that Flower's loop makes of one kind, until so many seconds have passed."""
    first, end = len(clock.slept), clock.now + until
    while clock.now < end:
        pauses.sleep(seconds)
    return clock.slept[first:]


def test_a_message_that_comes_soon_is_found_soon_and_one_that_is_late_costs_few_looks() -> None:
    clock = Clock()
    pauses = ShortPauses(clock)
    found = waits(pauses, clock, EMPTY, 10.0)
    assert found[0] == 0.2 and found == sorted(found) and max(found) <= 3.0
    assert len(found) < 25


def test_an_idle_supernode_waits_as_long_as_flowers_own() -> None:
    clock = Clock()
    pauses = ShortPauses(clock)
    waits(pauses, clock, EMPTY, 10.0)
    assert waits(pauses, clock, EMPTY, 600.0) == [EMPTY] * 200


def test_a_message_makes_the_pauses_short_again() -> None:
    clock = Clock()
    pauses = ShortPauses(clock)
    waits(pauses, clock, EMPTY, 100.0)
    answered = waits(pauses, clock, ANSWERING, 60.0)
    assert answered[0] == 0.2 and max(answered) == ANSWERING
    assert waits(pauses, clock, EMPTY, 1.0)[0] == 0.2


def test_everything_else_of_the_module_is_passed_on() -> None:
    assert ShortPauses().time is time.time
    assert ShortPauses(Clock()).elsewhere() == "passed on"


def test_flowers_loop_sleeps_as_it_is_taken_to() -> None:
    """A version of Flower that sleeps otherwise has to be looked at."""
    assert loop.time is time
    slept = {
        ast.literal_eval(call.args[0])
        for call in ast.walk(ast.parse(inspect.getsource(loop)))
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "time.sleep"
    }
    assert slept == {3, 0.5}
