"""No page points to what is not there, and what is there stands in the pages that list it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import click
import pytest
from pages import PAGES, REPOSITORY, anchors, blocks, name_of, without_blocks
from typer.main import get_command

from fed_unlearn import methods
from fed_unlearn.ledger.lifecycle import TRANSITIONS, Status
from fed_unlearn.simulations.cli.commands import app
from fed_unlearn.simulations.scenario import built_in_scenarios
from fed_unlearn.strategies import server_methods

_LINK = re.compile(r"\]\(([^)\s]+)\)")


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_relative_links(path: Path) -> None:
    dead = []
    for target in _LINK.findall(without_blocks(path)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        found = (path.parent / file).resolve() if file else path
        is_made_of_docstrings = found.parent.name == "reference"  # mkdocs checks their anchors
        if not found.exists() or (anchor and not is_made_of_docstrings and anchor not in anchors(found)):
            dead.append(target)
    assert not dead


def test_readme_is_short() -> None:
    [readme] = [path for path in PAGES if path.name == "README.md"]
    assert len(readme.read_text(encoding="utf-8").splitlines()) <= 200


def test_every_command_stands_in_the_list_with_what_watches_a_run() -> None:
    listed = text_of("scenarios.md").partition("```text")[2].partition("```")[0]
    group = get_command(app)
    assert isinstance(group, click.Group)
    assert [name for name in group.commands if not re.search(rf"(fed-unlearn |\| ){name}\b", listed)] == []
    for name, options in {
        "run": ["--live", "--tracker"],
        "launch": ["--live", "--tracker"],
        "serve": ["--live"],
    }.items():
        lines = "\n".join(re.findall(rf"^fed-unlearn {name} .*$", listed, re.MULTILINE))
        assert all(option in lines for option in options), name


def test_every_method_stands_in_the_tables() -> None:
    readme, flower, guide = (text_of(name) for name in ("README.md", "flower.md", "methods.md"))
    by_holders = {name for name, method in methods.available().items() if {"class", "sample"} & set(method.scopes)}
    for name in by_holders:
        assert f"| `{name}` |" in readme
        assert f"| `{name}` |" in guide
    for name in server_methods.available():
        assert f"| `{name}` |" in readme
        assert f"| `{name}` |" in flower


def test_every_scenario_stands_in_the_table() -> None:
    listed = re.findall(r"^\| `([\w-]+)` \| (?:\w+ clients|the classes)", text_of("scenarios.md"), flags=re.MULTILINE)
    assert sorted(listed) == sorted(built_in_scenarios())


def test_the_statuses_of_the_picture_follow_each_other() -> None:
    [picture] = blocks("mermaid", "concepts.md")
    steps = re.findall(r"(\w+) --> (\w+)", picture.text)
    assert len(steps) > 10
    for first, second in steps:
        assert Status(second.replace("_", "-")) in TRANSITIONS[Status(first.replace("_", "-"))], (first, second)
    named = {status for step in steps for status in step}
    assert named == {str(status).replace("-", "_") for status in Status}


def test_the_changelog_has_the_version() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"## [{project['version']}] - " in text_of("CHANGELOG.md")


def text_of(name: str) -> str:
    [path] = [path for path in PAGES if name_of(path) == name]
    return path.read_text(encoding="utf-8")
