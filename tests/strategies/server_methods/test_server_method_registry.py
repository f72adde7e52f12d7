from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import pytest

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.strategies import server_methods
from fed_unlearn.strategies.server_methods import (
    MethodState,
    ServerMethod,
    ServerWork,
    available,
    create,
    method_class,
    register,
)


@pytest.fixture
def clean_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(server_methods.SERVER_METHODS, "_classes", server_methods.available())
    yield


@dataclass(frozen=True, kw_only=True)
class Nothing(ServerMethod):
    paper = "none"
    scopes = ("client",)
    needs = "nothing"

    amount: int = 1

    def begin(self, work: ServerWork) -> MethodState:
        return MethodState(step=0, arrays=work.served, done=True)

    def advance(self, work: ServerWork, state: MethodState) -> MethodState:
        return state

    def stronger(self) -> Self:
        return self


def test_built_in_methods_describe_themselves() -> None:
    found = available()
    assert list(found) == [
        "federaser",
        "fedosd",
        "fedquit",
        "fresh-head",
        "frozen-head",
        "negated-update",
        "projected-ascent",
        "reset-and-relearn",
        "retrain",
        "weight-negation",
    ]
    for name, cls in found.items():
        assert cls.name == name
        assert cls.paper and cls.needs and cls.scopes
        assert "client" in cls.scopes
    assert [name for name, cls in found.items() if cls.is_retraining] == ["frozen-head", "retrain"]
    for name in ("retrain", "reset-and-relearn"):
        assert found[name].scopes == ("class", "sample", "client")


def test_a_new_method_is_found_by_its_name_and_a_name_is_taken_once(clean_registry: None) -> None:
    register("nothing")(Nothing)
    assert create("nothing", amount=3) == Nothing(amount=3)
    register("nothing")(Nothing)
    with pytest.raises(InvalidParameterError) as caught:
        register("fedosd")(Nothing)
    assert "FedOSD" in str(caught.value) and "Nothing" in str(caught.value)


def test_a_class_that_is_no_whole_method_is_refused_when_it_registers(clean_registry: None) -> None:
    class Half(ServerMethod):
        paper, scopes, needs = "none", ("client",), "nothing"

        def stronger(self) -> Self:
            return self

    with pytest.raises(InvalidParameterError, match=r"'half': .*Half does not implement advance, begin"):
        register("half")(Half)

    class Scoped(Nothing):
        scopes = "client"  # type: ignore[assignment]

    with pytest.raises(InvalidParameterError, match=r"'scoped': .*Scoped has scopes = 'client'; expected a tuple"):
        register("scoped")(Scoped)

    class Silent(ServerMethod):
        pass

    with pytest.raises(InvalidParameterError, match=r"'silent': .*Silent has no 'paper'"):
        register("silent")(Silent)
    assert not {"half", "scoped", "silent"} & set(available())


@pytest.mark.parametrize(
    ("name", "parameters", "said"),
    [
        (
            "fedoss",
            {},
            r"server-side method 'fedoss' is unknown; did you mean fedosd\? known are federaser, fedosd, fedquit, fresh-head, frozen-head,"
            r" negated-update, projected-ascent, reset-and-relearn, retrain, weight-negation",
        ),
        ("retrain", {"rounds": 3}, r"'retrain' has no parameter 'rounds'; it has none"),
        ("federaser", {"rounds": 3}, r"'federaser' has no parameter 'rounds'; it has recovery_rounds"),
        ("federaser", {"recovery_rounds": -1}, r"federaser: recovery_rounds = -1"),
        ("projected-ascent", {"recovery_rounds": 0}, r"projected-ascent: recovery_rounds = 0"),
        ("projected-ascent", {"radius_fraction": 0}, r"projected-ascent: radius_fraction = 0"),
        ("projected-ascent", {"epochs": "many"}, r"projected-ascent: epochs = 'many'"),
        ("fedosd", {"unlearn_rounds": 0}, r"fedosd: unlearn_rounds = 0"),
        ("fedosd", {"recovery_rounds": 1.5}, r"fedosd: recovery_rounds = 1.5"),
        ("fedosd", {"orthogonal_share": 1.1}, r"fedosd: orthogonal_share = 1.1"),
        ("fedosd", {"learning_rate": 0.0}, r"fedosd: learning_rate = 0.0"),
        (
            "fresh-head",
            {"scale": 1e300},
            r"fresh-head: scale = 1e\+300 was given; allowed is a number above 0 and at most",
        ),
        (
            "fresh-head",
            {"batch_size": 2**70},
            r"fresh-head: batch_size = 11805\d* was given; .* at least 1 and at most",
        ),
        ("fresh-head", {"rounds": 10**400}, r"fresh-head: rounds = 1000.* was given; .* at most 100000"),
        ("fresh-head", {"final_learning_rate": 1e300}, r"fresh-head: final_learning_rate = 1e\+300 .* at most 100"),
        ("negated-update", {"scale": 1e300}, r"negated-update: scale = 1e\+300"),
        ("weight-negation", {"layers": 2**70}, r"weight-negation: layers = 1180"),
        ("fedquit", {"learning_rate": 1e300}, r"fedquit: learning_rate = 1e\+300"),
    ],
)
def test_unknown_names_and_parameters_out_of_range_are_refused(
    name: str, parameters: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidParameterError, match=said):
        create(name, **parameters)


def test_a_stronger_setting_is_one_that_can_be_made_again() -> None:
    for name in available():
        method = create(name)
        stronger = method.stronger()
        assert type(stronger) is method_class(name)
        assert (stronger == method) == (name in ("frozen-head", "retrain"))
        assert create(name, **vars(stronger)) == stronger
        assert stronger.stronger().stronger().stronger()


def test_a_method_becomes_stronger_as_often_as_its_bounds_allow() -> None:
    method = create("fresh-head", rounds=40_000)
    assert method.strengthened(0) == method
    assert method.strengthened(1) == create("fresh-head", rounds=80_000)
    assert method.strengthened(5) == create("fresh-head", rounds=80_000)


@pytest.mark.parametrize("name", sorted(available()))
def test_no_parameter_may_be_absurdly_large(name: str) -> None:
    for field in dataclasses.fields(method_class(name)):
        for absurd in (1e300, 2**70):
            with pytest.raises(InvalidParameterError, match=f"^{name}: {field.name} = "):
                create(name, **{field.name: absurd})
