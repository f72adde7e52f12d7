"""The architecture page shows the folders and their imports as they are."""

from __future__ import annotations

from folders import PAGE, ROOMS, imports, picture, rewritten, tree


def test_the_tree_and_the_picture_are_those_of_the_repository() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert tree() in text, "python tests/support/folders.py puts the new tree into the page"
    assert picture() in text, "python tests/support/folders.py puts the new picture into the page"
    assert rewritten(text) == text


def test_rooms_import_in_one_direction() -> None:
    order = list(ROOMS)
    backwards = [
        f"{start} imports {end}"
        for start, end in sorted(imports())
        if order.index(start.split("/")[0]) > order.index(end.split("/")[0])
    ]
    assert not backwards
