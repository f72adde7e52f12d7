"""The repository's folders, and which imports which, as the architecture page shows them.

``python tests/support/folders.py`` writes both into the page.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterable
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs" / "pages" / "architecture.md"
ROOMS = {"simulations": "fed_unlearn.simulations", "strategies": "fed_unlearn.strategies", "fed_unlearn": "fed_unlearn"}
"""The rooms, each of which may import from those after it, by the packages that they are installed as."""

Arrow = tuple[str, str]


def tree() -> str:
    """Every folder with its modules, room by room."""
    return "\n".join(line for room in ROOMS for line in _shown(REPOSITORY / room, 0)) + "\n"


def _shown(folder: Path, depth: int) -> list[str]:
    column = 24
    name = f"{'    ' * depth}{folder.name}/"
    modules = ", ".join(sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("__")))
    lines = textwrap.wrap(modules, 110 - column, break_on_hyphens=False) or [""]
    shown = [f"{name:<{column}}{lines[0]}".rstrip(), *(" " * column + line for line in lines[1:])]
    for path in sorted(folder.iterdir()):
        if (path / "__init__.py").exists():
            shown += _shown(path, depth + 1)
    return shown


@cache
def imports() -> frozenset[Arrow]:
    """Which folder imports which, by paths such as ``strategies/serving``; a room's own name stands for its top."""
    found = set()
    for room in ROOMS:
        for path in sorted((REPOSITORY / room).rglob("*.py")):
            folder = _shortened(path.parent.relative_to(REPOSITORY))
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                for name in _names(node):
                    imported = _folder_of(name)
                    if imported not in (None, folder):
                        found.add((folder, str(imported)))
    return frozenset(found)


def _names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def _folder_of(module: str) -> str | None:
    for room, package in ROOMS.items():
        if module == package or module.startswith(package + "."):
            path = Path(room, *module.removeprefix(package).strip(".").split("."))
            while not (REPOSITORY / path / "__init__.py").exists():
                path = path.parent
            return _shortened(path)
    return None


def _shortened(folder: Path) -> str:
    return "/".join(folder.parts[:2])


def picture() -> str:
    """A flow chart in Mermaid's language: rooms, folders below their tops, and imports that no others imply."""
    arrows = imports()
    lines = ["flowchart TB"]
    for room in ROOMS:
        inside = {(start, end) for start, end in arrows if _is_below(room, start) and _is_below(room, end)}
        folders = sorted(path.parent.name for path in (REPOSITORY / room).glob("*/__init__.py"))
        lines.append(f'    subgraph {room}["{room}/"]')
        lines.extend(f'        {room}_{folder}["{folder}/"]' for folder in folders)
        lines.extend(
            f"        {start.replace('/', '_')} --> {end.replace('/', '_')}" for start, end in sorted(_reduced(inside))
        )
        lines.append("    end")
    rooms = {(start.split("/")[0], end.split("/")[0]) for start, end in arrows}
    lines.extend(f"    {start} ==> {end}" for start, end in sorted(_reduced({(a, b) for a, b in rooms if a != b})))
    return "\n".join(lines) + "\n"


def _is_below(room: str, folder: str) -> bool:
    return folder.startswith(room + "/")


def _reduced(arrows: Iterable[Arrow]) -> set[Arrow]:
    """The arrows without those that a longer way has the same ends as."""
    kept = set(arrows)
    for arrow in sorted(kept):
        if arrow in _reachable(kept - {arrow}):
            kept.remove(arrow)
    return kept


def _reachable(arrows: set[Arrow]) -> set[Arrow]:
    closed = set(arrows)
    while more := {(start, last) for start, end in closed for other, last in closed if end == other} - closed:
        closed |= more
    return closed


def rewritten(text: str) -> str:
    """The page's text with the tree and the picture put in the place of those that stand there."""
    for opening, content in (("```text\nsimulations/", tree()), ("```mermaid\nflowchart", picture())):
        fence = opening.partition("\n")[0]
        text = re.sub(re.escape(opening) + r".*?^```$", f"{fence}\n{content}```", text, flags=re.DOTALL | re.MULTILINE)
    return text


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
