"""Each sentence of the demo follows the figures, also those that no run of it should have."""

from __future__ import annotations

from dataclasses import replace

from sample_results import REQUEST, SAMPLES, figures

from fed_unlearn.simulations.report.demonstration_lines import costs_line, request_sentences
from fed_unlearn.simulations.run.results import RequestResult
from fed_unlearn.simulations.run.views.view_results import DestinationView, RequestViews

LABELS = tuple(map(str, range(10)))
CLIENT = replace(REQUEST, id="r2", scope="client", target={"client": "2"})
FOUR = replace(
    SAMPLES, status="committed", goal="misclassify", before=figures(1.0, 0.98), after=figures(0.0, 0.9), oracle=None
)


def _views(before: int, after: int, oracle: int | None) -> RequestViews:
    """Forty images of a 3, so many of which each model takes for a 3, and all others for an 8."""

    def counts(threes: int) -> tuple[int, ...]:
        return tuple(threes if number == 3 else 40 - threes if number == 8 else 0 for number in range(10))

    oracle_counts = None if oracle is None else counts(oracle)
    view = DestinationView(labels=LABELS, before=counts(before), after=counts(after), oracle=oracle_counts)
    return RequestViews(destinations=view)


def _class(views: RequestViews | None) -> RequestResult:
    return replace(REQUEST, views=views)


def test_a_class_that_is_still_recognised_now_and_then_is_told_so() -> None:
    taken, others = request_sentences(_class(_views(before=39, after=2, oracle=1)))
    assert taken == "it takes 2 of 40 test images of a 3 for a 3; before 39, the oracle 1"
    assert others == "it reads 97.0 % of the other digits; before 98.0 %, the oracle 98.0 %"


def test_other_digits_that_suffered_are_told_so() -> None:
    worse = replace(_class(_views(before=40, after=0, oracle=0)), after=figures(0.0, 0.61))
    assert request_sentences(worse) == [
        "it takes 0 of 40 test images of a 3 for a 3; before 40, the oracle 0",
        "it reads 60.0 % of the other digits; before 98.0 %, the oracle 98.0 %",
    ]


def test_without_counts_of_test_images_the_share_of_training_images_is_told() -> None:
    some = replace(_class(None), after=figures(0.04, 0.98), oracle=None)
    assert request_sentences(some) == [
        "it reads 4.0 % of the images of a 3; before 100.0 %",
        "it reads 97.0 % of the other digits; before 98.0 %",
    ]


def test_a_client_whose_images_are_read_otherwise_than_by_the_oracle_is_told_so() -> None:
    unlike = replace(CLIENT, before=figures(0.996, 0.98), after=figures(0.951, 0.9), oracle=figures(1.0, 0.99))
    assert request_sentences(unlike) == [
        "it reads 95.1 % of the client's images; before 99.6 %, the oracle 100.0 %",
    ]


def test_samples_that_are_still_read_are_told_so() -> None:
    assert request_sentences(FOUR) == ["it was to misread 4 images, and reads 0 of them; before 4"]
    two = replace(FOUR, after=figures(0.5, 0.9), oracle=figures(0.75, 0.9))
    assert request_sentences(two) == ["it was to misread 4 images, and reads 2 of them; before 4, the oracle 3"]
    by_id = replace(two, target={"client": "4", "sample_ids": ["a", "b"]}, goal="indistinguishable")
    assert request_sentences(by_id) == ["it reads 1 of 2 images; before 2, the oracle 2"]


def test_a_part_of_the_samples_is_no_count() -> None:
    part = replace(figures(0.25, 0.9), samples={"forget_accuracy": 4})
    many = replace(FOUR, target={"client": "4", "samples": 400}, after=part)
    assert request_sentences(many) == ["it was to misread 400 images, and reads 25.0 % of them; before 400"]


def test_nothing_is_said_where_nothing_was_measured() -> None:
    assert request_sentences(replace(FOUR, after=None)) == []
    assert request_sentences(replace(CLIENT, after=replace(figures(0.0, 0.9), forget_accuracy=None))) == []
    assert costs_line([SAMPLES]) == ""


def test_training_anew_that_costs_less_is_told_so() -> None:
    line = costs_line([REQUEST, replace(SAMPLES, passes=200, oracle_passes=80), replace(CLIENT, oracle_passes=1270)])
    assert line == "sample passes of training anew per pass of the request: r1 25, r2 0.4, r2 6.3"


def test_no_sentence_is_longer_than_a_terminal() -> None:
    whole = replace(figures(1.0, 1.01), forget_accuracy=1.0)
    widest = [
        replace(_class(_views(before=40, after=40, oracle=40)), before=whole, after=whole, oracle=whole),
        replace(_class(None), before=whole, after=whole, oracle=whole),
        replace(CLIENT, before=whole, after=whole, oracle=whole),
        replace(FOUR, before=whole, after=whole, oracle=whole),
    ]
    sentences = [sentence for request in widest for sentence in request_sentences(request)]
    assert len(sentences) == 6 and max(len(f"r1: {sentence}") for sentence in sentences) <= 80
