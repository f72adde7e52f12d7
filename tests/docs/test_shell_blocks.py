"""Every command of the documentation exists and takes the arguments that it is given."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from unittest import mock

import click
import pytest
import typer
from pages import REPOSITORY, Block, blocks

from fed_unlearn.simulations.cli import app
from fed_unlearn.simulations.scenario import load_scenario

SCRIPTS = {"avalanche_digits", "avalanche_digits_federated", "avalanche_overhead"}


def commands(block: Block) -> Iterator[list[str]]:
    """The words of every command of a block: lines joined, comments left out, chains taken apart."""
    for line in re.sub(r"\\\n", " ", block.text).splitlines():
        words = shlex.split(line, comments=True)
        while words:
            end = words.index("&&") if "&&" in words else len(words)
            yield words[:end]
            words = words[end + 1 :]


COMMANDS = [(block.page, words) for block in blocks("bash") for words in commands(block)]


@pytest.mark.parametrize(
    ("page", "words"), COMMANDS, ids=lambda value: " ".join(value) if isinstance(value, list) else value
)
def test_command(page: str, words: list[str]) -> None:
    CHECKS[words[0]](words)


def check_fed_unlearn(words: list[str]) -> None:
    parsed = parse(typer.main.get_command(app), words[1:])
    if parsed.info_name == "run" and parsed.params.get("resume") is None:
        load_scenario(parsed.params["scenario"], parsed.params["overrides"] or ())


def parse(command: click.Command, arguments: list[str]) -> click.Context:
    """The context of the innermost command; nothing is run."""
    context = command.make_context("fed-unlearn", list(arguments))
    while isinstance(command, click.Group):
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        assert command is not None
        context = command.make_context(name, rest, parent=context)
    return context


def check_python(words: list[str]) -> None:
    _, option, module, *arguments = words
    if module == "build":
        return
    package, _, name = module.rpartition(".")
    assert option == "-m"
    if package == "tests.trials":
        assert (REPOSITORY / "tests" / "trials" / f"{name}.py").exists()
    else:
        assert package == "fed_unlearn.simulations"
        assert name in SCRIPTS
    with stopped_when_parsed(arguments), pytest.raises(ParsedError):
        importlib.import_module(module).main()


class ParsedError(Exception):
    """The arguments were understood."""


@contextmanager
def stopped_when_parsed(arguments: list[str]) -> Iterator[None]:
    parse_args = argparse.ArgumentParser.parse_args

    def parsed(parser: argparse.ArgumentParser) -> None:
        raise ParsedError(parse_args(parser, arguments))

    with mock.patch.object(argparse.ArgumentParser, "parse_args", parsed):
        yield


def check_pip(words: list[str]) -> None:
    assert words[1] == "install"
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for extra in re.findall(r"\[(\w+)\]", " ".join(words)):
        assert extra in project["optional-dependencies"]


def check_flwr(words: list[str]) -> None:
    assert words[1] == "run"
    assert (REPOSITORY / words[2] / "pyproject.toml").exists()


def check_installed(words: list[str]) -> None:
    assert entry_points(group="console_scripts", name=words[0])


def check_path(words: list[str]) -> None:
    assert all((REPOSITORY / word).exists() for word in words if not word.startswith("-") and word != "cd")


def check_pytest(words: list[str]) -> None:
    for word in words[1:]:
        if word.startswith("tests"):
            assert (REPOSITORY / word.partition("::")[0]).exists()


def check_known(words: list[str]) -> None:
    """A tool that the extras ``dev`` and ``docs`` bring along, or git."""


CHECKS = {
    "fed-unlearn": check_fed_unlearn,
    "python": check_python,
    "pip": check_pip,
    "flwr": check_flwr,
    "flower-supernode": check_installed,
    "cd": check_path,
    ".": check_known,
    "python3": check_known,
    ".ci/run": check_path,
    "pytest": check_pytest,
    "mkdocs": check_known,
    "ruff": check_known,
    "pre-commit": check_known,
    "git": check_known,
}
