"""Makes drawings and scripts small, so that a page with many charts can be sent."""

from __future__ import annotations

import base64
import gzip
import re
from collections import Counter

from markupsafe import Markup

_TAG = re.compile(r"<[^>]+>")
_NOT_NEEDED = re.compile(
    r' (?:class|role|aria-[a-z]+|stroke-miterlimit|pointer-events)="[^"]*"'
    r'| (?:opacity|stroke-width)="1"| font-weight="normal"| transform="translate\(0,0\)"| [xy]2="0"'
)
"""Attributes of a drawing's elements that no image needs, or that say what holds without them."""
_LONG_NUMBER = re.compile(r"-?\d+\.\d{2,}")
_FONT = re.compile(r' font-family="[^"]*"')
_EMPTY = re.compile(r'<g[^>]*></g>|<g[^>]*/>|<path d="(?:M0,0h0v0h0Z)?"[^>]*/>')
_MARK = re.compile(r'<path transform="translate\((-?[\d.]+),(-?[\d.]+)\)" ([^>]*?)/>')
_LEAST_USES = 3


def slim_svg(svg: str) -> str:
    """The same drawing in fewer bytes: no attributes for scripts, short numbers, and each kind of mark described once.

    Parameters
    ----------
    svg : str
        A drawing by vega.
    """
    slim = _TAG.sub(_slim_tag, svg)
    fonts = Counter(_FONT.findall(slim))
    if fonts:
        font = fonts.most_common(1)[0][0]
        slim = slim.replace(font, "").replace("<svg ", f"<svg{font} ", 1)
    while (shorter := _EMPTY.sub("", slim)) != slim:
        slim = shorter
    return _with_marks_once(slim)


def _slim_tag(tag: re.Match[str]) -> str:
    return _LONG_NUMBER.sub(lambda number: f"{float(number.group()):.1f}", _NOT_NEEDED.sub("", tag.group()))


def _with_marks_once(svg: str) -> str:
    """Describe marks that come again and again once, and refer to them."""
    counts = Counter(match[3] for match in _MARK.finditer(svg))
    names = {mark: f"m{number}" for number, mark in enumerate(key for key, n in counts.items() if n >= _LEAST_USES)}

    def used(match: re.Match[str]) -> str:
        name = names.get(match[3])
        return match.group() if name is None else f'<use href="#{name}" x="{match[1]}" y="{match[2]}"/>'

    marks = "".join(f'<path id="{name}" {mark}/>' for mark, name in names.items())
    end = svg.index(">") + 1
    body = _MARK.sub(used, svg[end:])
    return f"{svg[:end]}<defs>{marks}</defs>{body}" if marks else svg


def as_address(svg: str) -> Markup:
    """A drawing as a data URI, escaped for an attribute in double quotes. In base64 it would be a third longer."""
    if "'" not in svg:
        svg = svg.replace('"', "'")
    quoted = svg.replace("%", "%25").replace("#", "%23").replace("\n", " ").replace("&", "&amp;").replace('"', "&#34;")
    return Markup("data:image/svg+xml,") + Markup(quoted)


def packed(text: str) -> str:
    """A text as gzip in base64, which the page's script unpacks."""
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()
