"""No page points to a file or a heading that is not there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pages import PAGES, anchors, name_of, without_blocks

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
