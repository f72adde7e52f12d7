from __future__ import annotations

import pytest

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.simulations.scenario import Scenario, load_scenario
from fed_unlearn.simulations.sweep.record import OWN, KeptRequest
from fed_unlearn.simulations.sweep.substitution import on_one_thread, with_method


def methods_of(scenario: Scenario) -> dict[str, str]:
    """The method of each request by its id."""
    return {str(step.id): scenario.method_of(step)[0] for _, steps in scenario.forget_entries() for step in steps}


@pytest.fixture(scope="module")
def digits() -> Scenario:
    return load_scenario("digits")


def test_a_method_takes_the_place_of_all_it_serves(digits: Scenario) -> None:
    changed, served = with_method(digits, "delete")
    own = methods_of(digits)
    assert own["r2"] == "boundary-expanding"  # its own, not the scenario's
    assert methods_of(changed) == {**own, "r1": "delete", "r2": "delete", "r3": "delete"}
    assert served.scopes == ("class",)
    assert {item.id: item.method for item in served.kept} == {name: own[name] for name in own if name > "r3"}
    assert KeptRequest(id="r4", scope="client", method="fedosd") in served.kept
    assert served.keeps_in("client") and not served.keeps_in("class")


def test_a_method_of_several_scopes_serves_them_all(digits: Scenario) -> None:
    changed, served = with_method(digits, "instance-wise")
    assert {name for name, method in methods_of(changed).items() if method == "instance-wise"} == set(
        methods_of(digits)
    ) - {"r4"}
    assert served.scopes == ("class", "sample") and [item.id for item in served.kept] == ["r4"]


def test_a_goal_that_a_method_does_not_take_leaves_the_request_its_own(digits: Scenario) -> None:
    """finetune serves sample requests, but not towards a goal."""
    _, served = with_method(digits, "finetune")
    assert served.scopes == ("class",)
    plain = load_scenario("digits", ["timeline.5.forget={client = 3, samples = 8}"])
    changed, served = with_method(plain, "finetune")
    assert methods_of(changed)["r5"] == "finetune" and served.scopes == ("class", "sample")
    assert served.keeps_in("sample") and methods_of(changed)["r6"] == "instance-wise"


def test_parameters_go_with_the_method_that_they_were_of() -> None:
    changes = [
        'timeline.1.forget={class = 3, method = "boundary-shrink", parameters = {epochs = 3}}',
        "unlearning.parameters.delete.max-steps=7",
    ]
    scenario = load_scenario("digits", changes)
    [(_, (step,)), *_] = with_method(scenario, "boundary-shrink")[0].forget_entries()
    assert step.parameters == {"epochs": 3}
    changed, _ = with_method(scenario, "delete")
    [(_, (step,)), *_] = changed.forget_entries()
    assert changed.method_of(step) == ("delete", {"max_steps": 7})


def test_depth_does_not_put_another_method_in_its_place(digits: Scenario) -> None:
    deep = load_scenario("digits", ["unlearning.depth=deep"])
    assert with_method(deep, "delete")[0].unlearning.depth == "shallow"
    assert with_method(deep, OWN)[0].unlearning.depth == "deep"
    assert with_method(deep, "fedosd")[0].unlearning.depth == "deep"


def test_own_changes_nothing(digits: Scenario) -> None:
    changed, served = with_method(digits, OWN)
    assert changed.to_toml() == digits.to_toml()
    assert served.scopes == ("class", "client", "sample") and not served.kept


@pytest.mark.parametrize(
    ("method", "told"),
    [("delte", "delte"), ("lira", "lira"), ("frozen-head", "it needs the strategy FrozenHead")],
)
def test_what_cannot_serve_is_refused(digits: Scenario, method: str, told: str) -> None:
    with pytest.raises(InvalidParameterError, match=told):
        with_method(digits, method)


def test_a_method_that_serves_nothing_is_refused() -> None:
    with pytest.raises(InvalidParameterError, match=r"serves none of its requests \(class requests\)"):
        with_method(load_scenario("cifar10", ["timeline=[{train={rounds=1}}, {forget={class=1}}]"]), "fedosd")


def test_clients_have_one_thread_unless_the_scenario_says_how_many() -> None:
    assert on_one_thread(load_scenario("digits", ["run.threads=3"])).run.threads == 3
    plain = load_scenario("digits").model_copy(
        update={"run": load_scenario("digits").run.model_copy(update={"threads": None})}
    )
    assert on_one_thread(plain).run.threads == 1
