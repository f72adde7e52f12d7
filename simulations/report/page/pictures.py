"""The charts of a run as the page shows them: an image for every reader, and a specification for the script."""

from __future__ import annotations

import base64
import functools
import json
import re
from dataclasses import dataclass

from fed_unlearn.simulations.report.charts import charts_of
from fed_unlearn.simulations.report.charts.chart import Chart
from fed_unlearn.simulations.run.results import RunResults

SECTIONS = {
    "timeline": "timeline",
    "requests": "requests",
    "relapse": "relapse",
    "destinations": "destinations",
    "features": "features",
    "projection": "features",
    "membership": "membership",
    "roc": "membership",
    "cost": "cost",
    "clients": "clients",
}
"""Section of a chart by the first word of its name."""

OTHERS = "further"
"""Section of all other charts."""

_SIZE = re.compile(r'<svg[^>]*? width="([\d.]+)"[^>]*? height="([\d.]+)"')
_TAG = re.compile(r"<[^>]+>")
_OF_SCRIPTS = re.compile(r' (?:class|role|aria-[a-z]+)="[^"]*"')
"""Attributes of a drawing's elements that no image needs; they are half of it."""
_WORD = re.compile(r"[a-z]+")


@dataclass(frozen=True, kw_only=True)
class Image:
    """A drawing as a data URI, with its size in pixels."""

    source: str
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A chart, drawn.

    Attributes
    ----------
    chart : Chart
    wide, narrow : Image
        The drawings for a wide and for a narrow screen.
    """

    chart: Chart
    wide: Image
    narrow: Image


def pictures_of(results: RunResults) -> dict[str, list[Picture]]:
    """All charts of a run, drawn, by the section in which they stand."""
    found: dict[str, list[Picture]] = {section: [] for section in (*SECTIONS.values(), OTHERS)}
    for chart in charts_of(results):
        word = _WORD.match(chart.name)
        section = SECTIONS.get(word.group() if word else "", OTHERS)
        found[section].append(
            Picture(chart=chart, wide=_drawn(json.dumps(chart.spec)), narrow=_drawn(json.dumps(chart.narrow_spec)))
        )
    return found


@functools.lru_cache(maxsize=512)
def _drawn(spec: str) -> Image:
    """Draw a specification, given as JSON. A page that is made again and again draws what has changed."""
    import vl_convert

    svg = _TAG.sub(lambda tag: _OF_SCRIPTS.sub("", tag.group()), vl_convert.vegalite_to_svg(spec))
    size = _SIZE.search(svg)
    width, height = (float(size[1]), float(size[2])) if size else (720.0, 400.0)
    text = base64.b64encode(svg.encode()).decode()
    return Image(source=f"data:image/svg+xml;base64,{text}", width=round(width), height=round(height))
