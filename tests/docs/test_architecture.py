"""The architecture page shows the folders and their imports as they are."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from folders import PAGE, ROOMS, imports, picture, rewritten, tree

REPOSITORY = Path(__file__).parents[2]


def test_the_tree_and_the_picture_are_those_of_the_repository() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert tree() in text, "python tests/support/folders.py puts the new tree into the page"
    assert picture() in text, "python tests/support/folders.py puts the new picture into the page"
    assert rewritten(text) == text


def test_every_folder_of_a_room_stands_in_its_table() -> None:
    sections = PAGE.read_text(encoding="utf-8").partition("## The folders")[2].partition("\n## ")[0]
    for room in ROOMS:
        table = sections.partition(f"### {room}/\n")[2].partition("\n### ")[0]
        listed = re.findall(r"^\| `(\w+)/` \| ", table, flags=re.MULTILINE)
        assert sorted(listed) == sorted(path.parent.name for path in (REPOSITORY / room).glob("*/__init__.py"))


def test_rooms_import_in_one_direction() -> None:
    order = list(ROOMS)
    backwards = [
        f"{start} imports {end}"
        for start, end in sorted(imports())
        if order.index(start.split("/")[0]) > order.index(end.split("/")[0])
    ]
    assert not backwards


def test_the_wheel_has_every_package() -> None:
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    roots = {folder: name for name, folder in settings["package-dir"].items()}
    expected = {
        ".".join((roots[room], *file.relative_to(REPOSITORY / room).parts[:-1]))
        for room in ROOMS
        for file in (REPOSITORY / room).rglob("__init__.py")
    }
    assert set(settings["packages"]) == expected
