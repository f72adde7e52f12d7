"""What a chart of a report is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One chart of a report.

    Attributes
    ----------
    name : str
        Stem of the chart's files, such as ``timeline``: letters, digits, ``-``, ``_`` and ``.`` only.
    title : str
        What the chart shows, in a few words.
    caption : str
        One or two sentences on how to read the chart.
    alternative : str
        What the chart shows, in words, for a reader who cannot see it.
    spec : mapping
        The Vega-Lite specification with its data, at most 720 pixels wide. It needs no network.
    narrow_spec : mapping
        The same chart with the same data for narrow screens, at most 320 pixels wide.
    requests : tuple of str
        Ids of the requests that the chart shows. The filter of the page acts on these.
    """

    name: str
    title: str
    caption: str
    alternative: str
    spec: Mapping[str, object]
    narrow_spec: Mapping[str, object]
    requests: tuple[str, ...] = field(default=())
