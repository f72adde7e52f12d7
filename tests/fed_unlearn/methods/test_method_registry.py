from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import pytest

from fed_unlearn import methods
from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.methods import available, create, method_class, register
from fed_unlearn.methods.base import Applied, Method, Workspace
from fed_unlearn.methods.boundary_shrink import BoundaryShrink


@pytest.fixture
def clean_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(methods.METHODS, "_classes", methods.available())
    yield


@dataclass(frozen=True, kw_only=True)
class Nothing(Method):
    paper = "none"
    scopes = ("class",)
    needs = "forget"

    amount: int = 1

    def _apply(self, work: Workspace) -> Applied:
        return Applied(converged=False, steps=0, guard_labels=None)

    def stronger(self) -> Self:
        return self


def test_a_name_taken_twice_raises_naming_both(clean_registry: None) -> None:
    with pytest.raises(InvalidParameterError) as caught:
        register("boundary-shrink")(Nothing)
    assert "BoundaryShrink" in str(caught.value) and "Nothing" in str(caught.value)
    assert method_class("boundary-shrink") is BoundaryShrink


def test_a_new_method_is_found_by_its_name(clean_registry: None) -> None:
    register("nothing")(Nothing)
    assert available()["nothing"] is Nothing
    assert create("nothing", amount=3) == Nothing(amount=3)
    register("nothing")(Nothing)


def test_a_class_that_is_no_whole_method_is_refused_when_it_registers(clean_registry: None) -> None:
    class Half(Method):
        paper, scopes, needs = "none", ("class",), "forget"

        def _apply(self, work: Workspace) -> Applied:
            return Applied(converged=False, steps=0, guard_labels=None)

    with pytest.raises(InvalidParameterError, match=r"method 'half': .*Half does not implement stronger"):
        register("half")(Half)

    class Scoped(Nothing):
        scopes = "class"  # type: ignore[assignment]

    with pytest.raises(
        InvalidParameterError, match=r"method 'scoped': .*Scoped has scopes = 'class'; expected a tuple"
    ):
        register("scoped")(Scoped)
    assert not {"half", "scoped"} & set(available())


def test_built_in_methods_describe_themselves() -> None:
    found = available()
    assert {"boundary-shrink", "boundary-expanding", "mask-output"} <= set(found)
    assert list(found) == sorted(found)
    for name, cls in found.items():
        assert cls.name == name
        assert cls.paper and cls.needs and cls.scopes
    assert [name for name, cls in found.items() if cls.is_control] == ["mask-output"]


def test_unknown_names_and_parameters_are_refused_with_the_known_ones() -> None:
    with pytest.raises(
        InvalidParameterError,
        match=r"method 'boundary-shrunk' is unknown; did you mean boundary-shrink\? known are .*boundary-shrink",
    ):
        create("boundary-shrunk")
    with pytest.raises(
        InvalidParameterError, match=r"'boundary-shrink' has no parameter 'rate'; it has .*learning_rate"
    ):
        create("boundary-shrink", rate=1)
    with pytest.raises(InvalidParameterError, match=r"epochs = 'many'"):
        create("boundary-shrink", epochs="many")
