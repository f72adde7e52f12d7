"""The newest audit that says anything of a request decides whether its forgetting has worn off."""

import pytest

from fed_unlearn.simulations.run.results import RelapseResult
from fed_unlearn.strategies.outcomes import RelapseRow
from fed_unlearn.strategies.worn_off import worn_off_at


def look(after: str, accuracy: float | None, *, relapsed: bool = False, other: bool = False) -> RelapseRow:
    return RelapseRow(
        after,
        {"r1": accuracy, **({"r2": 0.5} if other else {})},
        {"r1": None},
        (*(("r1",) if relapsed else ()), *(("r2",) if other else ())),
    )


FINE, WORN, UNREAD = look("train:1", 0.0), look("train:2", 0.5, relapsed=True), look("train:3", None, other=True)


@pytest.mark.parametrize(
    ("looks", "place"),
    [
        ([], None),
        ([FINE], None),
        ([FINE, WORN], 1),
        ([WORN, FINE], None),
        ([WORN, FINE, WORN], 2),
        ([FINE, WORN, UNREAD], 1),
        ([WORN, look("r1", None)], None),
        ([WORN, look("r2+r1", None), UNREAD], None),
        ([WORN, look("r11", None)], 0),
        ([look("r1", 0.5, relapsed=True)], 0),
    ],
)
def test_the_newest_look_that_measured_the_request_decides(looks: list[RelapseRow], place: int | None) -> None:
    assert worn_off_at(looks, "r1") == place


def test_what_results_keep_of_a_look_is_judged_alike() -> None:
    rows = [
        RelapseResult(after="train:2", forget_accuracy={}, test_forget_accuracy={"r1": 0.5}, relapsed=("r1",)),
        RelapseResult(after="train:3", forget_accuracy={}, test_forget_accuracy={"r2": 0.5}, relapsed=("r2",)),
    ]
    assert worn_off_at(rows, "r1") == 0
    assert worn_off_at(rows, "r2") == 1
    assert worn_off_at(rows, "r3") is None
