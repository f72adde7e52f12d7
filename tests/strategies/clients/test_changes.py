"""Which changes of a round the others' changes bound."""

from __future__ import annotations

import numpy as np
import pytest

from fed_unlearn.arrays import Arrays
from fed_unlearn.strategies.clients.bounds.changes import (
    against_others,
    bounds_by_others,
    bounds_in_training,
    longest_of_others,
)


def change(*values: float) -> Arrays:
    return {"weight": np.array(values[:2], np.float32), "bias": np.array(values[2:], np.float32)}


AGREEING = {"0": change(1, 0, 0.2), "1": change(1, 0.2, 0), "2": change(2, -0.2, 0)}


def test_a_change_against_all_others_that_agree_is_found() -> None:
    assert against_others({**AGREEING, "3": change(-20, 0, 0)}, {}) == ["3"]
    assert against_others({**AGREEING, "3": change(-1e-3, 1e-4, 0)}, {}) == ["3"]


@pytest.mark.parametrize(
    "own",
    [
        pytest.param(change(0, 5, 0), id="across"),
        pytest.param(change(-1, 20, 0), id="hardly against them"),
        pytest.param(change(0, 0, 0), id="none"),
        pytest.param(change(-1, 0, -10), id="along nobody, and against only some"),
    ],
)
def test_a_change_that_is_only_another_one_is_none(own: Arrays) -> None:
    assert against_others({**AGREEING, "3": own}, {}) == []


@pytest.mark.parametrize(("samples", "found"), [((9, 0, 30), ["3"]), ((9, 0, 31), []), ((0, 1, 0), []), ((), ["3"])])
def test_a_client_that_brings_a_class_may_lead_elsewhere(samples: tuple[int, ...], found: list[str]) -> None:
    """It has more than the 30 samples of the last class that the others have together, or the only one of another."""
    held = {**dict.fromkeys(AGREEING, (20, 0, 10)), "3": samples}
    assert against_others({**AGREEING, "3": change(-20, 0, 0)}, held) == found


def test_clients_of_disjoint_classes_are_all_against_each_other() -> None:
    """Each raises its own bias and lowers the others': all cosines are -0.5, and nobody is in the wrong."""
    changes = {str(own): change(*(2.0 if index == own else -1.0 for index in range(3))) for own in range(3)}
    assert against_others(changes, {}) == []


def test_two_clients_cannot_tell_who_is_wrong() -> None:
    assert against_others({"0": change(1, 0, 0), "1": change(-1, 0, 0)}, {}) == []


def test_one_long_change_is_bounded_by_the_longest_of_all_others() -> None:
    assert bounds_by_others([1, 5, 2], 3) == [15, 6, 15]
    assert bounds_by_others([1, 5], 3) == [float("inf")] * 2


def test_late_in_a_training_the_changes_of_earlier_rounds_tell_what_is_usual() -> None:
    longest = 0.0
    assert bounds_in_training([4, 3, 500], longest) == [3000, 3000, 24]
    for norms in ([4, 3, 5], [0.1, 0.2, 0.3]):
        longest = longest_of_others(norms, longest)
    assert longest == 4
    assert bounds_in_training([0.1, 8, 0.2], longest) == [24, 12, 24]
    assert bounds_in_training([0.1, 13, 0.2], longest) == [39, 0.2, 39]
    assert longest_of_others([9, 9], longest) == 4
