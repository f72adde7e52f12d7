from io import BytesIO
from pathlib import Path
from typing import Any

import numpy
import pytest
import vl_convert
from numpy.typing import NDArray
from PIL import Image
from sample_charts import FULL
from sample_results import RESULTS

from fed_unlearn.simulations.report import figures
from fed_unlearn.simulations.report.charts import charts_of
from fed_unlearn.simulations.report.figures import svg_of, write_figures
from fed_unlearn.simulations.run.results import RunResults


def pixels_of(png: bytes) -> NDArray[Any]:
    with Image.open(BytesIO(png)) as picture:
        return numpy.asarray(picture.convert("RGB"), dtype=float) / 255


def test_figures_are_drawn_and_hold_more_than_a_blank_page(tmp_path: Path) -> None:
    written = write_figures(RESULTS, tmp_path / "figures")
    names = [f"{name}.{ending}" for name in ("timeline", "requests", "relapse", "cost") for ending in ("png", "svg")]
    assert [path.name for path in written] == names == [path.name for path in written if path.is_file()]
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == sorted(names)
    for path in (path for path in written if path.suffix == ".png"):
        pixels = pixels_of(path.read_bytes())
        assert pixels.shape[0] > 150 and pixels.shape[1] > 400
        edges = [pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]
        assert all((edge == 1).all() for edge in edges), "something touches the border, so it may be clipped"
        assert (pixels != 1).any(axis=2).mean() > 0.01


def test_a_run_that_has_measured_nothing_yet_draws_nothing(tmp_path: Path) -> None:
    assert write_figures(RunResults(scenario="digits", seed=0, engine="inprocess"), tmp_path) == []


@pytest.mark.slow
def test_the_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    first = {path.name: path.read_bytes() for path in write_figures(FULL, tmp_path)}
    figures._svg.cache_clear()
    assert {path.name: path.read_bytes() for path in write_figures(FULL, tmp_path)} == first


def test_figures_say_which_run_they_are_of_and_what_was_asked(tmp_path: Path) -> None:
    write_figures(RESULTS, tmp_path)
    picture = (tmp_path / "timeline.svg").read_text()
    assert "digits, seed 3: Test accuracy over the run" in picture
    assert "r1: class 3" in picture and "r2: 4 samples of client 4" in picture


def test_marks_that_are_written_once_look_as_if_written_each(monkeypatch: pytest.MonkeyPatch) -> None:
    chart = next(chart for chart in charts_of(FULL) if chart.name == "projection-r1")
    short = svg_of(chart)
    monkeypatch.setattr(figures, "_MANY", 10**6)
    figures._svg.cache_clear()
    long = svg_of(chart)
    figures._svg.cache_clear()
    assert short.count("<use ") > 40 and "<use " not in long and len(short) < 0.75 * len(long)
    first, second = (pixels_of(vl_convert.svg_to_png(svg, scale=2)) for svg in (short, long))
    assert first.shape == second.shape and abs(first - second).max() < 0.1
