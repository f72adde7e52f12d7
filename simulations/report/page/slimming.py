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
_EMPTY = re.compile(r'<g(?:\s[^>]*)?(?<!/)></g>|<g(?:\s[^>]*)?/>|<path d="(?:M0,0h0v0h0Z)?"[^>]*/>')


def slim_svg(svg: str) -> str:
    """The same drawing in fewer bytes: no attributes for scripts, short numbers, one font.

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
    return slim


def _slim_tag(tag: re.Match[str]) -> str:
    return _LONG_NUMBER.sub(lambda number: f"{float(number.group()):.1f}", _NOT_NEEDED.sub("", tag.group()))


def as_address(svg: str) -> Markup:
    """A drawing as a data URI, escaped for an attribute in double quotes. In base64 it would be a third longer."""
    if "'" not in svg:
        svg = svg.replace('"', "'")
    quoted = svg.replace("%", "%25").replace("#", "%23").replace("\n", " ").replace("&", "&amp;").replace('"', "&#34;")
    return Markup("data:image/svg+xml,") + Markup(quoted)


def one_address(address: Markup) -> Markup:
    """A data URI as the only address of a ``srcset``, where a space would end it."""
    return Markup(str(address).replace(" ", "%20"))


def packed(text: str) -> str:
    """A text as gzip in base64, which the page's script unpacks."""
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()
