"""Commands whose options are the fields of a dataclass."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import click
import pytest
import typer
from typer import Argument, Option
from typer.testing import CliRunner

from fed_unlearn.simulations.cli.orders.options import with_options


@dataclass(frozen=True, kw_only=True)
class Paint:
    coats: Annotated[int, Option(min=1, help="How many.")] = 2
    finish: Annotated[Literal["matt", "glossy"], Option()] = "matt"


@dataclass(frozen=True, kw_only=True)
class Order:
    house: Annotated[str, Argument()]
    plan: Annotated[Path | None, Option()] = None
    rooms: Annotated[tuple[int, ...], Option("--room")] = ()
    colours: Annotated[tuple[str, ...], Option(parser=lambda text: tuple(text.split("+")))] = ()
    floors: Annotated[tuple[int, ...], Option(parser=lambda text: tuple(map(int, text.split(","))))] = (0, 2)
    roof: Annotated[Literal["flat", "steep"] | None, Option()] = None
    paint: Annotated[Paint | None, Option("--paint/--no-paint")] = None


def answer(*arguments: str) -> tuple[list[object], str]:
    """What the command was called with, and what it printed."""
    calls: list[object] = []
    app = typer.Typer()

    @app.command()
    @with_options
    def build(order: Order, helpers: Annotated[tuple[str, ...], Option("--helper")] = ("one",)) -> None:
        """Build a house."""
        calls.extend([order, helpers])

    return calls, CliRunner().invoke(app, list(arguments)).output


def test_what_is_left_out_has_the_default_of_its_field() -> None:
    calls, _ = answer("mine")
    assert calls == [Order(house="mine"), ("one",)]


def test_every_kind_of_field_is_an_option() -> None:
    calls, _ = answer(
        *(
            "mine",
            "--plan",
            "a/b",
            "--room",
            "3",
            "--room",
            "1",
            "--colours",
            "red+blue",
            "--floors",
            "4",
            "--roof",
            "steep",
        ),
        *("--paint", "--paint-coats", "3", "--paint-finish", "glossy", "--helper", "two"),
    )
    paint = Paint(coats=3, finish="glossy")
    order = Order(
        house="mine", plan=Path("a/b"), rooms=(3, 1), colours=("red", "blue"), floors=(4,), roof="steep", paint=paint
    )
    assert calls == [order, ("two",)]
    assert isinstance(order.roof, str) and type(calls[0].roof) is str  # type: ignore[attr-defined]


def test_options_of_a_group_count_only_with_its_flag() -> None:
    assert answer("mine", "--paint-coats", "3")[0][0] == Order(house="mine")
    assert answer("mine", "--paint")[0][0] == Order(house="mine", paint=Paint())


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ((), "Missing argument 'HOUSE'"),
        (("mine", "--paint", "--paint-coats", "0"), "'--paint-coats': 0 is not in the range x>=1"),
        (("mine", "--roof", "round"), "'round' is not one of 'flat', 'steep'"),
    ],
)
def test_bounds_and_choices_of_a_field_are_checked(arguments: tuple[str, ...], problem: str) -> None:
    calls, printed = answer(*arguments)
    assert calls == [] and problem in " ".join(click.unstyle(printed).replace("│", "").split())


def test_help_has_the_text_and_the_default_of_a_field() -> None:
    printed = " ".join(click.unstyle(answer("--help")[1]).split())
    assert (
        "Build a house." in printed
        and "How many." in printed
        and "default: 2" in printed
        and "[matt|glossy]" in printed
    )
