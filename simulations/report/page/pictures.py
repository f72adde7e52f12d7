"""The charts of a run as the page shows them: an image for every reader, and a specification for the script."""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass

from markupsafe import Markup

from fed_unlearn.simulations.report.charts import charts_of
from fed_unlearn.simulations.report.charts.chart import Chart
from fed_unlearn.simulations.report.figures import svg_of
from fed_unlearn.simulations.report.page.slimming import as_address, packed, slim_svg
from fed_unlearn.simulations.run.results import RunResults

_SECTION_OF_KIND = {
    "timeline": "timeline",
    "requests": "requests",
    "relapse": "relapse",
    "destinations": "destinations",
    "projection": "features",
    "membership": "membership",
    "cost": "cost",
}
"""Section of a chart by the first word of its name."""

OTHERS = "further"
"""Section of all other charts."""

_MOST_FOR_NARROW = 400_000
"""Bytes of all drawings up to which the page holds narrow ones, too. They are about as large as the others."""

_SIZE = re.compile(r'<svg[^>]*? width="([\d.]+)"[^>]*? height="([\d.]+)"')
_WORD = re.compile(r"[a-z]+")


@dataclass(frozen=True, kw_only=True)
class Image:
    """A drawing as a data URI, with its size in pixels."""

    source: Markup
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A chart, drawn.

    Attributes
    ----------
    chart : Chart
    image : Image
    narrow : Image or None
        The drawing for narrow screens without scripts; None where the page would become too large.
    specs : str
        The specifications for wide and for narrow screens, packed.
    """

    chart: Chart
    image: Image
    narrow: Image | None
    specs: str


def pictures_of(results: RunResults) -> dict[str, list[Picture]]:
    """All charts of a run, drawn, by the section in which they stand."""
    found: dict[str, list[Picture]] = {section: [] for section in (*_SECTION_OF_KIND.values(), OTHERS)}
    drawn = [(chart, _image(svg_of(chart))) for chart in charts_of(results)]
    has_room = sum(len(image.source) for _, image in drawn) <= _MOST_FOR_NARROW
    for chart, image in drawn:
        word = _WORD.match(chart.name)
        section = _SECTION_OF_KIND.get(word.group() if word else "", OTHERS)
        specs = packed(json.dumps({"wide": chart.spec, "narrow": chart.narrow_spec}))
        narrow = _image(svg_of(chart, narrow=True)) if has_room else None
        found[section].append(Picture(chart=chart, image=image, narrow=narrow, specs=specs))
    return found


@functools.lru_cache(maxsize=512)
def _image(svg: str) -> Image:
    """A drawing for the page. A page that is made again and again keeps those that have not changed."""
    size = _SIZE.search(svg)
    width, height = (float(size[1]), float(size[2])) if size else (720.0, 400.0)
    return Image(source=as_address(slim_svg(svg)), width=round(width), height=round(height))
