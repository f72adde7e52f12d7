"""Reads a report back: its numbers with where they come from, its texts, and what it would load."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

_VOID = {"meta", "link", "img", "br", "source", "input", "hr"}
_SEGMENT = re.compile(r"""\.?([A-Za-z_][A-Za-z0-9_-]*)|\[(\d+)\]|\[("(?:[^"\\]|\\.)*")\]""")
_LOADS = ("src", "srcset", "href", "action", "data", "poster", "formaction")


@dataclass
class Element:
    """An element with its attributes and all text in it."""

    tag: str
    attributes: dict[str, str]
    parent: Element | None = field(repr=False)  # whose text holds that of the whole page
    text: str = field(default="", repr=False)

    def within(self, test: Any) -> bool:
        element: Element | None = self
        while element is not None:
            if test(element):
                return True
            element = element.parent
        return False


@dataclass
class Page(HTMLParser):
    """A parsed page."""

    elements: list[Element] = field(default_factory=list, repr=False)
    texts: list[tuple[Element | None, str]] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._open: list[Element] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        parent = self._open[-1] if self._open else None
        element = Element(tag, {name: value or "" for name, value in attributes}, parent)
        self.elements.append(element)
        if tag not in _VOID:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open[-1].tag == tag, f"</{tag}> closes {self._open[-1:]}"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data
        self.texts.append((self._open[-1] if self._open else None, data))

    def all(self, tag: str | None = None, **attributes: str) -> list[Element]:
        wanted = {name.replace("_", "-"): value for name, value in attributes.items()}
        return [
            element
            for element in self.elements
            if tag in (None, element.tag)
            and all(element.attributes.get(name) == value for name, value in wanted.items())
        ]

    def having(self, attribute: str) -> list[Element]:
        return [element for element in self.elements if attribute in element.attributes]

    def addresses(self) -> list[str]:
        """Everything that the page could load or lead to."""
        return [element.attributes[name] for element in self.elements for name in _LOADS if name in element.attributes]

    def loose_numbers(self) -> list[str]:
        """Numbers in the text that say neither where they come from nor stand in a part that has no results."""
        found = []
        for element, text in self.texts:
            if re.search(r"\d", text) and (element is None or not element.within(_says_whence)):
                found.append(text.strip())
        return found


def _says_whence(element: Element) -> bool:
    # A script makes drawings of the data of charts, and options of the names of requests.
    if element.tag in ("script", "style", "time", "svg", "option"):
        return True
    if element.tag == "section" and element.attributes.get("id") in ("settings", "versions", "digests"):
        return True
    whence = {"data-from", "data-count", "data-setting", "data-constant", "data-text-from", "data-name", "data-words"}
    return not whence.isdisjoint(element.attributes)


def read(html: str) -> Page:
    page = Page()
    page.feed(html)
    page.close()
    assert page._open == [], page._open
    return page


def found_at(body: Any, path: str) -> Any:
    """The value at a path such as ``requests[0].after.extra["odd name"]``."""
    place, value = 0, body
    while place < len(path):
        match = _SEGMENT.match(path, place)
        assert match is not None, path
        name, number, quoted = match.groups()
        value = value[int(number) if number else json.loads(quoted) if quoted else name]
        place = match.end()
    return value
