import copy
import pickle
from dataclasses import dataclass, field, replace
from typing import Annotated

import pytest
from annotated_types import Interval

from fed_unlearn.errors import FedUnlearnError, InvalidParameterError, collected, problems_of
from fed_unlearn.gate import Gate, Thresholds
from fed_unlearn.local import LocalPlan
from fed_unlearn.plan import History, HolderTurn, Holds, Repair, Retry
from fed_unlearn.settings import (
    AboveZero,
    Bounds,
    Flat,
    Fraction,
    FromOne,
    FromZero,
    Settings,
    bounds_of,
    takes_flat_keywords,
)
from fed_unlearn.training import TrainingSettings


def problems_with(make, **given: object) -> tuple[str, ...]:
    with pytest.raises(InvalidParameterError) as caught:
        make(**given)
    return caught.value.problems


@dataclass(frozen=True, kw_only=True)
class Wheel(Settings, prefix="bicycle: wheel."):
    spokes: Annotated[FromOne, Flat("spokes", "spoke_count")] = 32
    pressure: Annotated[AboveZero | None, Flat("pressure")] = None
    tilt: Annotated[float, Interval(gt=-1, lt=1)] = 0.0


@takes_flat_keywords
@dataclass(frozen=True, kw_only=True)
class Bicycle(Settings, prefix="bicycle: "):
    wheel: Wheel = field(default_factory=lambda: Wheel(spokes=36))
    gears: FromZero = 1
    grip: Fraction | None = None
    name: str = ""


def test_bounds_are_read_from_the_annotations_of_the_fields() -> None:
    assert bounds_of(Bicycle) == {
        "gears": Bounds(int, {"ge": 0}),
        "grip": Bounds(float, {"ge": 0, "le": 1}, or_none=True),
    }
    assert bounds_of(Wheel) == {
        "spokes": Bounds(int, {"ge": 1}),
        "pressure": Bounds(float, {"gt": 0}, or_none=True),
        "tilt": Bounds(float, {"gt": -1, "lt": 1}),
    }


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"spokes": 0}, "wheel.spokes = 0; expected a whole number from 1"),
        ({"spokes": 1.5}, "wheel.spokes = 1.5; expected a whole number from 1"),
        ({"spokes": None}, "wheel.spokes = None; expected a whole number from 1"),
        ({"spoke_count": "many"}, "wheel.spokes = 'many'; expected a whole number from 1"),
        ({"pressure": 0.0}, "wheel.pressure = 0.0; expected a number above 0 or None"),
        ({"pressure": float("nan")}, "wheel.pressure = nan; expected a number above 0 or None"),
        ({"gears": -1}, "gears = -1; expected a whole number from 0"),
        ({"grip": 1.5}, "grip = 1.5; expected a fraction in [0, 1] or None"),
        ({"wheel": 3}, "wheel = 3; expected Wheel(...)"),
    ],
)
def test_an_error_quotes_the_bounds(given: dict[str, object], expected: str) -> None:
    assert problems_with(Bicycle, **given) == (f"bicycle: {expected}",)


def test_an_interval_is_quoted_with_both_ends() -> None:
    assert problems_with(Wheel, tilt=1) == ("bicycle: wheel.tilt = 1; expected a number above -1 below 1",)


def test_all_values_out_of_bounds_are_named_at_once() -> None:
    assert problems_with(Bicycle, spokes=0, pressure=-1, gears=-1, grip=2) == (
        "bicycle: wheel.spokes = 0; expected a whole number from 1",
        "bicycle: wheel.pressure = -1; expected a number above 0 or None",
        "bicycle: gears = -1; expected a whole number from 0",
        "bicycle: grip = 2; expected a fraction in [0, 1] or None",
    )
    with pytest.raises(InvalidParameterError, match=r"(?s)spokes.*\n.*pressure"):
        Wheel(spokes=0, pressure=0)


def test_flat_names_change_what_a_group_would_be_otherwise() -> None:
    assert Bicycle(pressure=2.5) == Bicycle(wheel=Wheel(spokes=36, pressure=2.5))
    assert Bicycle(wheel=Wheel(spokes=8), pressure=2.5).wheel == Wheel(spokes=8, pressure=2.5)
    assert replace(Bicycle(spoke_count=20, gears=3), pressure=1.0) == Bicycle(spokes=20, pressure=1.0, gears=3)
    with pytest.raises(TypeError, match="tilt"):
        Bicycle(tilt=0.5)  # has no flat name


def test_settings_are_copied_and_pickled() -> None:
    bicycle = Bicycle(spokes=20)
    assert copy.deepcopy(bicycle) == bicycle
    plan = LocalPlan(repair_rounds=3)
    assert pickle.loads(pickle.dumps(plan)) == plan


def test_the_groups_of_plans_say_where_they_belong() -> None:
    assert problems_with(Repair, rounds=-1, alternations=-1, guard_weight=0, guard_margin=-0.5) == (
        "unlearning: repair.rounds = -1; expected a whole number from 0",
        "unlearning: repair.alternations = -1; expected a whole number from 0",
        "unlearning: repair.guard_weight = 0; expected a whole number from 1",
        "unlearning: repair.guard_margin = -0.5; expected a number from 0",
    )
    assert problems_with(HolderTurn, max_steps=0)[0].startswith("unlearning: holder_turn.max_steps = 0; ")
    assert problems_with(Retry, count=-1)[0].startswith("unlearning: retry.count = -1; ")
    assert problems_with(History, every=-1)[0].startswith("unlearning: history.every = -1; ")
    assert problems_with(Holds, data=1.5, of_client=-1) == (
        "unlearning: holds.data = 1.5; expected a fraction in [0, 1] or None",
        "unlearning: holds.of_client = -1; expected a fraction in [0, 1] or None",
    )
    assert problems_with(Repair, config=3) == ("unlearning: repair.config = 3; expected a mapping of settings",)


def test_thresholds_and_gates_name_everything_out_of_bounds() -> None:
    assert problems_with(Thresholds, max_forget_accuracy=2, max_retain_drop=-1, max_total_retain_drop=None) == (
        "gate: max_forget_accuracy = 2; expected a fraction in [0, 1] or None",
        "gate: max_retain_drop = -1; expected a fraction in [0, 1] or None",
    )
    assert problems_with(Gate, max_repair_rounds=-1, max_attempts=0, max_training_drop=1.5, class_thresholds=0.1) == (
        "gate: max_repair_rounds = -1; expected a whole number from 0",
        "gate: max_attempts = 0; expected a whole number from 1",
        "gate: max_training_drop = 1.5; expected a fraction in [0, 1]",
        "gate: class_thresholds = 0.1; expected Thresholds(...)",
    )
    assert Gate().validate() == []


def test_a_local_plan_takes_flat_keywords_and_training_settings_for_repair() -> None:
    settings = TrainingSettings(local_epochs=3, learning_rate=0.01)
    plan = LocalPlan(repair=settings, repair_rounds=2, guard_margin=4.0, max_steps=5, max_update_norm=0.5)
    assert plan.repair_training() == settings
    assert (plan.repair.rounds, plan.repair.guard_margin, plan.repair.guard_weight) == (2, 4.0, 1)
    assert plan.holder_turn == HolderTurn(max_steps=5, max_norm=0.5)
    assert LocalPlan(repair=Repair(config={"local-epochs": 3, "learning-rate": 0.01})).repair_training() == settings
    assert LocalPlan().repair_training() == TrainingSettings()


def test_a_local_plan_names_all_that_is_wrong() -> None:
    found = problems_with(
        LocalPlan,
        repair=Repair(config={"epochs": 3}),
        max_steps=0,
        class_method="fedquit",
        sample_method="scrab",
        client_method="boundary-shrink",
        parameters={"scrub": {"size": 1}},
    )
    starts = ["unlearning: holder_turn.max_steps = 0", "unlearning: repair.config: epochs unknown; expected some of"]
    starts += ["'fedquit' does not serve class requests; it serves client requests"]
    starts += [
        "method 'scrab' is unknown; did you mean scrub? known are bad-teacher,",
        "method 'scrub' has no parameter 'size'",
    ]
    assert [start for start in starts if not any(line.startswith(start) for line in found)] == []


def test_problems_are_collected_from_errors_of_the_library_alone() -> None:
    def fails(*problems: str) -> None:
        raise FedUnlearnError(*problems)

    assert problems_of(fails, "one", "two") == ["one", "two"]
    found: list[str] = []
    with collected(found):
        fails("three")
    assert found == ["three"]
    with pytest.raises(ZeroDivisionError):
        problems_of(lambda: 1 / 0)
    assert str(FedUnlearnError("one", "two")) == "one\ntwo"
