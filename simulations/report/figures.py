"""The charts of a run as files: PNG and SVG, drawn from ``results.json`` without a browser or a network."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from io import BytesIO
from pathlib import Path

from fed_unlearn.checkpoints import write_atomically
from fed_unlearn.simulations.report.charts import Chart, charts_of
from fed_unlearn.simulations.run.results import RunResults
from fed_unlearn.text import printable

_SCALE = 2
"""Dots of a PNG for each pixel of the chart."""

_COUNTED = re.compile(r'((?:id="|url\(#)(?:clip|gradient_))\d+')

_MARK = re.compile(r'<path transform="translate\(([^)"]*)\)"( d="[^"<>]*"[^<>]*)/>')
_MANY = 20
"""Marks that look alike in a picture from which on they are written once."""

_OUTSIDE = ("$schema", "background", "config", "padding", "params", "datasets")
"""What belongs to a whole specification and not to a part of it."""


def write_figures(results: RunResults, folder: Path) -> list[Path]:
    """Draw the charts of a run.

    Parameters
    ----------
    results : RunResults
        The results of a run, complete or not.
    folder : Path
        Folder of the figures, made if it does not exist. Existing figures are replaced, each in one step.

    Returns
    -------
    list of Path
        ``NAME.png`` and ``NAME.svg`` of each chart that :func:`fed_unlearn.simulations.report.charts.charts_of` gives:
        ``timeline``, ``requests``, ``relapse``, those of single requests, and ``cost``. The same results give the same
        bytes.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for chart in charts_of(results):
        spec = _titled(chart.spec, f"{printable(results.scenario, 40)}, seed {results.seed}: {chart.title}")
        for ending, content in (("png", _png(_json(spec))), ("svg", _svg(_json(spec)).encode())):
            path = folder / f"{chart.name}.{ending}"
            write_atomically(path, content, synced=False)
            written.append(path)
    return written


def svg_of(chart: Chart, *, narrow: bool = False) -> str:
    """A chart as an SVG picture, without a title.

    Parameters
    ----------
    chart : Chart
    narrow : bool
        Whether the picture is that for narrow screens, at most 320 pixels wide, and not the wide one of at most 720.

    Returns
    -------
    str
        An ``svg`` element. It refers to nothing outside.
    """
    return _svg(_json(chart.narrow_spec if narrow else chart.spec))


def _titled(spec: Mapping[str, object], title: str) -> Mapping[str, object]:
    """A specification with a title over all of its panels."""
    outside = {key: value for key, value in spec.items() if key in _OUTSIDE}
    inside = {key: value for key, value in spec.items() if key not in _OUTSIDE}
    return {**outside, "title": title, "vconcat": [inside]}


def _json(spec: Mapping[str, object]) -> str:
    return json.dumps(spec, allow_nan=False)


@lru_cache(maxsize=512)
def _svg(spec: str) -> str:
    import vl_convert

    return _shared(_numbered(vl_convert.vegalite_to_svg(spec, vl_version=vega_lite_version(), allowed_base_urls=[])))


def _numbered(svg: str) -> str:
    """A picture whose clips and gradients are counted from 0. Vega counts them over all pictures of the process."""
    numbers: dict[str, int] = {}
    return _COUNTED.sub(lambda found: f"{found[1]}{numbers.setdefault(found[0][len(found[1]) :], len(numbers))}", svg)


def _shared(svg: str) -> str:
    """A picture in which the many marks that look alike refer to one of them, which takes a fifth of the room."""
    looks = Counter(found[2] for found in _MARK.finditer(svg))
    often = {look: f"mark{number}" for number, (look, count) in enumerate(looks.items()) if count > _MANY}

    def shorter(found: re.Match[str]) -> str:
        across, down = (f"{float(place):.2f}" for place in found[1].split(","))
        return f'<use href="#{often[found[2]]}" x="{across}" y="{down}"/>' if found[2] in often else found[0]

    kept = "".join(f'<path id="{name}"{look}/>' for look, name in often.items())
    start = svg.index(">") + 1
    return f"{svg[:start]}<defs>{kept}</defs>{_MARK.sub(shorter, svg[start:])}" if often else svg


def _png(spec: str) -> bytes:
    import vl_convert
    from PIL import Image

    drawn = vl_convert.vegalite_to_png(spec, vl_version=vega_lite_version(), scale=_SCALE, allowed_base_urls=[])
    smaller = BytesIO()
    with Image.open(BytesIO(drawn)) as picture:
        picture.convert("RGB").save(smaller, "PNG", optimize=True)
    return smaller.getvalue()


def vega_lite_version() -> str:
    """The version of Vega-Lite in which Altair writes specifications, such as ``6.4``."""
    import altair

    major, minor, *_ = altair.SCHEMA_VERSION.removeprefix("v").split(".")
    return f"{major}.{minor}"
