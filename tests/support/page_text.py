"""Reads a page of HTML that has to be well formed."""

from __future__ import annotations

import re
from html.parser import HTMLParser

_EMPTY = {"meta", "link", "br", "line", "circle", "hr", "img", "input"}


class Reader(HTMLParser):
    """Text, tags and addresses of a page; an error where tags do not fit."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text, self.tags, self.addresses, self._open = "", list[str](), list[str](), list[str]()
        self.feed(page)
        assert self._open == []
        self.text = re.sub(r"\s+", " ", self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [str(value) for name, value in attrs if name in ("href", "src", "srcset", "action")]
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag not in _EMPTY:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in _EMPTY:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "title"} & set(self._open):
            self.text += data + " "
