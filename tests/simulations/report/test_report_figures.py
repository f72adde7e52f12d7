from dataclasses import replace
from pathlib import Path

from matplotlib.image import imread
from matplotlib.text import Text
from sample_results import RESULTS

from fed_unlearn.simulations.report.figures import _relapse, _requests, write_figures
from fed_unlearn.simulations.run.results import RunResults


def test_three_figures_are_drawn_and_hold_more_than_a_blank_page(tmp_path: Path) -> None:
    written = write_figures(RESULTS, tmp_path / "figures")
    assert [path.name for path in written] == ["timeline.png", "requests.png", "relapse.png"]
    for path in written:
        pixels = imread(path)[..., :3]
        assert pixels.shape[0] > 500 and pixels.shape[1] > 900
        edges = [pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]
        assert all((edge == 1).all() for edge in edges), "something touches the border, so it may be clipped"
        assert (pixels != 1).any(axis=2).mean() > 0.02


def test_a_run_that_has_measured_nothing_yet_draws_nothing(tmp_path: Path) -> None:
    assert write_figures(RunResults(scenario="digits", seed=0, engine="inprocess"), tmp_path) == []


def test_a_rejected_request_has_no_bars_but_does_not_stop_the_others(tmp_path: Path) -> None:
    rejected = replace(RESULTS.requests[1], before=None, after=None, status="rejected")
    results = replace(RESULTS, requests=(RESULTS.requests[0], rejected))
    assert len(write_figures(results, tmp_path)) == 3


def test_figures_say_what_was_asked_and_how_it_is_known(tmp_path: Path) -> None:
    known = replace(RESULTS.requests[0], goal="indistinguishable", evidence="not measurable")
    results = replace(RESULTS, requests=(known, *RESULTS.requests[1:]))
    for draw in (_requests, _relapse):
        figure = draw(results)
        assert figure is not None
        texts = " ".join(text.get_text() for text in figure.findobj(Text)).replace("\n", " ")
        assert "to look unseen" in texts and "not measurable" in texts
