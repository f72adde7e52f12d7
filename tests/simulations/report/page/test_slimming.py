"""Drawings in fewer bytes: still drawings, of the same marks."""

from xml.etree import ElementTree

import pytest
from view_results import many, not_all_committed

from fed_unlearn.simulations.report.charts import charts_of
from fed_unlearn.simulations.report.figures import svg_of
from fed_unlearn.simulations.report.page.slimming import slim_svg
from fed_unlearn.simulations.run.results import RunResults

_SPACE = "{http://www.w3.org/2000/svg}"
_MARKS = ("use", "text", "image", "rect", "circle")


@pytest.mark.parametrize(
    "drawing",
    [
        '<svg ><g id="a"><g/></g><text>1</text></svg>',
        '<svg ><g id="a"><g class="b"/></g><text>1</text></svg>',
        '<svg ><g id="a"><g class="b"></g><g/><path d=""/></g><text>1</text></svg>',
    ],
)
def test_groups_of_nothing_go_and_what_holds_them_stays_whole(drawing: str) -> None:
    assert slim_svg(drawing) == "<svg ><text>1</text></svg>"


@pytest.mark.parametrize("results", [many(12), not_all_committed()], ids=["twelve requests", "not all committed"])
def test_every_chart_is_a_drawing_with_as_many_marks(results: RunResults) -> None:
    for chart in charts_of(results):
        whole, slim = (ElementTree.fromstring(text) for text in (svg_of(chart), slim_svg(svg_of(chart))))
        for mark in _MARKS:
            assert len(slim.findall(f".//{_SPACE}{mark}")) == len(whole.findall(f".//{_SPACE}{mark}")), chart.name
