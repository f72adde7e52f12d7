import dataclasses
from dataclasses import dataclass
from typing import Literal

import pytest

from fed_unlearn.methods import METHODS, available
from fed_unlearn.methods.descent import ForgetDescent
from fed_unlearn.simulations.cli import run_command
from fed_unlearn.simulations.report.method_details import ParameterDetails, parameter_details, plain
from fed_unlearn.strategies.server_methods import SERVER_METHODS


@dataclass(frozen=True, kw_only=True)
class Example(ForgetDescent):
    """One line.

    Parameters
    ----------
    mode : {"slow", "fast"}, default "slow"
        Two lines
        of ``text``.
    head : str or None, default None
        A layer.
    learning_rate, momentum
        As in :class:`~fed_unlearn.methods.descent.ForgetDescent`. Small ones are safer.
    epochs : int
        Of this method.

    Notes
    -----
    secret : int
        Is no parameter.
    """

    name = "example"
    mode: Literal["slow", "fast"] = "slow"
    head: str | None = None
    secret: bool = False
    sizes: tuple[int, ...] = (1, 2)
    learning_rate: float = 0.00025
    epochs: int = 7


def test_parameters_are_told_by_the_class_and_its_bases() -> None:
    found = {item.name: item for item in parameter_details(Example)}  # type: ignore[type-abstract]
    assert list(found)[:5] == ["mode", "head", "secret", "sizes", "learning_rate"]
    assert set(found) == {field.name for field in dataclasses.fields(Example)}

    def details(name: str, kind: str, default: str, description: str) -> ParameterDetails:
        return ParameterDetails(name=name, kind=kind, default=default, description=description)

    assert found["mode"] == details("mode", '{"slow", "fast"}', '"slow"', "Two lines of text.")
    assert found["head"] == details("head", "str or None", "none", "A layer.")
    assert found["secret"] == details("secret", "bool", "false", "")
    assert found["sizes"] == details("sizes", "tuple[int, ...]", "[1, 2]", "")
    assert found["epochs"] == details("epochs", "int", "7", "Of this method.")
    assert found["learning_rate"] == details(
        "learning_rate", "float", "0.00025", "Learning rate and momentum of SGD. Small ones are safer."
    )
    assert found["momentum"].description == "Learning rate and momentum of SGD. Small ones are safer."


def test_markup_is_taken_off() -> None:
    assert plain("As ``x`` in :class:`~a.b.Thing`\n    and :func:`go`.") == "As x in Thing and go."


def test_every_parameter_of_every_method_is_described() -> None:
    silent = [
        (name, item.name)
        for name, cls in available().items()
        for item in parameter_details(cls)
        if not item.description
    ]
    assert silent == []


def test_one_method_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["methods", "boundary-shrink"]) == 0
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "boundary-shrink"
    assert "paper   Chen et al., Boundary Unlearning, CVPR 2023" in lines
    assert "serves  class, sample requests" in lines and "needs   forget" in lines
    where = lines.index('  search : {"fgsm", "pgd"}, default "fgsm"')
    assert lines[where + 1] == "      The attack that searches for the nearest class."
    assert "  momentum : float, default 0.9" in lines
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("name", ["frozen-head", "reset-and-relearn"])
def test_a_method_of_the_server_that_also_runs_without_one_is_shown_twice(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["methods", name]) == 0
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    runs = [line for line in lines if line.startswith("runs ")]
    assert runs == ["runs    at the server, over rounds", "runs    without a federation"]
    shown = {line.split(" : ")[0].strip() for line in lines if " : " in line}
    for registry in (METHODS, SERVER_METHODS):
        assert {field.name for field in dataclasses.fields(registry.find(name))} <= shown


def test_a_control_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["methods", "mask-output"]) == 0
    assert "A control: it only looks like forgetting." in capsys.readouterr().out


def test_an_unknown_method_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["methods", "amnesia"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("fed-unlearn: method 'amnesia' is unknown; known are ") and captured.out == ""
    assert captured.err.count("\n") == 1
