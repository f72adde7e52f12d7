"""The pages of the documentation, and what stands in them: README, guides, and the files beside them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
GUIDES = REPOSITORY / "docs" / "pages"
PAGES = [
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted(GUIDES.rglob("*.md")),
]

_FENCE = re.compile(r"^( *)(`{3,})(\S*)[^\n]*\n(.*?)^\1\2 *$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block; ``language`` is empty where the fence names none."""

    page: str
    language: str
    text: str

    @property
    def title(self) -> str:
        return self.text.lstrip().splitlines()[0]


def name_of(path: Path) -> str:
    """A page's name in tests: ``README.md``, or ``flower.md`` of the guides."""
    return str(path.relative_to(GUIDES if path.is_relative_to(GUIDES) else REPOSITORY))


def blocks(language: str, page: str | None = None) -> list[Block]:
    """The blocks in a language, of one page or of all."""
    found = []
    for path in PAGES:
        if page is None or name_of(path) == page:
            for _, _, given, text in _FENCE.findall(path.read_text(encoding="utf-8")):
                if given == language:
                    found.append(Block(name_of(path), given, text))
    return found


def block(page: str, title: str) -> str:
    """The text of a page's Python or TOML block, by its first line."""
    [found] = [item.text for item in (*blocks("python", page), *blocks("toml", page)) if item.title == title]
    return found


def without_blocks(path: Path) -> str:
    """A page's text outside of fenced blocks."""
    return _FENCE.sub("", path.read_text(encoding="utf-8"))


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site both make them of plain ones."""
    titles = re.findall(r"^#+ (.+)$", without_blocks(path), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}
