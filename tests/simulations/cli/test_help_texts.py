"""The help of commands, as a terminal of 80 columns shows it."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator

import click
import pytest
from typer import rich_utils
from typer.main import get_command
from typer.testing import CliRunner

from fed_unlearn.simulations.cli.commands import app

SEVERAL = ("sweep", "forget", "serve", "receipt verify", "ledger verify", "ledger backup")


@pytest.mark.parametrize("name", SEVERAL)
def test_paragraphs_are_wrapped_by_the_terminal_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERMINAL_WIDTH", "80")
    result = CliRunner().invoke(app, [*name.split(), "--help"])
    shown = [line.strip() for line in click.unstyle(result.output).splitlines()]
    command = get_command(app)
    for part in name.split():
        assert isinstance(command, click.Group)
        command = command.commands[part]
    paragraphs = (command.help or "").split("\n\n")
    assert len(paragraphs) == 2
    for paragraph in paragraphs:
        lines = textwrap.wrap(paragraph, 78, break_on_hyphens=False)
        first = shown.index(lines[0])
        assert shown[first : first + len(lines)] == lines


def commands(command: click.Command, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """A command and all commands within it, each with the words that it is called by."""
    yield path, command
    for name, inner in command.commands.items() if isinstance(command, click.Group) else ():
        yield from commands(inner, *path, name)


def in_one_line(text: str) -> str:
    return " ".join(re.sub("[│╭╰─╮╯]", " ", text).split())


@pytest.mark.parametrize("path", [path for path, _ in commands(get_command(app))], ids=" ".join)
def test_every_argument_and_option_is_told(path: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rich_utils, "MAX_WIDTH", 500)  # read once, when typer is imported
    result = CliRunner().invoke(app, [*path, "--help"])
    shown = in_one_line(click.unstyle(result.output))
    command = dict(commands(get_command(app)))[path]
    for parameter in command.params:
        told = getattr(parameter, "help", None)
        assert told, parameter.name
        assert getattr(parameter, "hidden", False) or in_one_line(told) in shown  # rich takes [words] for a style
