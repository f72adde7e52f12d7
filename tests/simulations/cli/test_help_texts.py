"""The help of commands, as a terminal of 80 columns shows it."""

from __future__ import annotations

import textwrap

import click
import pytest
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
