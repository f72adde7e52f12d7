"""Bounds that the fields of a method declare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import pytest
from annotated_types import Gt, Interval

from fed_unlearn.errors import InvalidParameterError, problems_of
from fed_unlearn.methods.parts.validation import require_fields
from fed_unlearn.text import quoted

if TYPE_CHECKING:
    from collections.abc import Sized


@dataclass(frozen=True)
class Base:
    rate: Annotated[float, Interval(gt=0, le=1)] = 0.5
    steps: Annotated[int, Gt(0)] = 1
    kind: Literal["hard", "soft"] = "hard"
    stops: bool = True
    free: float = 0.0


@dataclass(frozen=True)
class Faster(Base):
    rate: float = 0.9


@dataclass(frozen=True)
class ForTypeCheckers(Base):
    own: Sized | None = None


@pytest.mark.parametrize("cls", [Base, Faster, ForTypeCheckers])
@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("rate", 0, "a number above 0 and at most 1"),
        ("rate", 1.5, "a number above 0 and at most 1"),
        ("rate", float("nan"), "a number above 0 and at most 1"),
        ("steps", 0, "a whole number above 0"),
        ("steps", 2.5, "a whole number above 0"),
        ("steps", -(10**400), "a whole number above 0"),
        ("rate", 10**400, "a number above 0 and at most 1"),
        ("kind", "other", "one of 'hard', 'soft'"),
        ("stops", 1, "true or false"),
    ],
)
def test_a_value_out_of_bounds_is_named_with_what_is_allowed(
    cls: type[Base], field: str, value: object, allowed: str
) -> None:
    with pytest.raises(InvalidParameterError) as caught:
        require_fields("mine", cls(**{field: value}))  # type: ignore[arg-type]
    assert str(caught.value) == f"mine: {field} = {quoted(value)} was given; allowed is {allowed}"


@pytest.mark.parametrize("cls", [Base, Faster, ForTypeCheckers])
def test_values_within_bounds_and_fields_without_bounds_pass(cls: type[Base]) -> None:
    assert problems_of(require_fields, "mine", cls(rate=1, steps=3, kind="soft", stops=False, free=-7.0)) == []
