"""The points of a run, and the settings that trackers are told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sample_results import REQUEST, RESULTS, SAMPLES

from fed_unlearn.simulations.scenario import load_scenario
from fed_unlearn.simulations.tracking.points import points_of, settings_of

SCENARIO = """
name = "secretive"
[data]
dataset = "folder:/home/somebody/pictures"
root = "/home/somebody"
[clients]
count = 3
backdoor = { client = 2, target = 7, size = 2 }
[model]
name = "small-cnn"
checkpoint = "/home/somebody/model.safetensors"
[training]
learning-rate = 0.03
[[timeline]]
train = { rounds = 4 }
[[timeline]]
forget = [{ client = 1, sample-ids = ["canary-1", "canary-2"] }, { class = "Jane Doe" }]
"""


def test_points_have_the_figures_of_the_results() -> None:
    points = {point.key: point for point in points_of(RESULTS)}
    assert points["train:1/1"].figures == {"test_accuracy": 0.97}
    assert points["train:1/1"].step == 30
    ended = points["r1/attempt 1: committed"]
    assert (ended.event, ended.step) == ("r1", 32)
    assert ended.figures["r1/before/forget_accuracy"] == 1.0
    assert ended.figures["r1/unlearned/retain_accuracy"] == 0.93
    assert ended.figures["r1/after/test_forget_accuracy"] == 0.01
    assert (ended.figures["r1/seconds"], ended.figures["r1/passes"]) == (0.5, 200)
    assert ended.tags == {"r1/status": "committed", "r1/scope": "class", "r1/method": "boundary-shrink"}
    oracle = points["r1/attempt 1: committed/oracle"]
    assert (oracle.figures["r1/oracle/retain_accuracy"], oracle.figures["r1/speedup"]) == (0.99, 20.0)
    relapse = points["relapse after train:2: r1 r2"]
    assert relapse.figures == {
        "relapse/r2/forget_accuracy": 0.5,
        "relapse/r1/test_forget_accuracy": 0.03,
        "relapse/r1/relapsed": 0.0,
        "relapse/r2/relapsed": 0.0,
    }


def test_a_failed_request_has_its_figures_and_no_reason() -> None:
    failed = {point.key: point for point in points_of(RESULTS)}["r2/attempt 2: failed"]
    assert failed.figures["r2/after/forget_accuracy"] == 0.25
    assert failed.tags["r2/status"] == "failed"
    assert SAMPLES.reason is not None and SAMPLES.reason not in str(points_of(RESULTS))


def test_earlier_results_have_the_first_points() -> None:
    whole = {point.key: point for point in points_of(RESULTS)}
    without_oracle = replace(REQUEST, oracle=None, oracle_seconds=None, oracle_passes=None)
    earlier = replace(RESULTS, requests=(without_oracle,), relapse=RESULTS.relapse[:1], complete=False)
    for point in points_of(earlier):
        assert whole[point.key] == point
    assert len(points_of(earlier)) == 4
    waiting = replace(SAMPLES, status="held")
    assert points_of(replace(earlier, requests=(without_oracle, waiting))) == points_of(earlier)


def test_a_request_that_is_tried_again_has_new_points() -> None:
    again = replace(RESULTS, requests=(replace(REQUEST, attempts=3), SAMPLES))
    new = {point.key for point in points_of(again)} - {point.key for point in points_of(RESULTS)}
    expected = {"r1/attempt 3: committed", "r1/attempt 3: committed/oracle", "r1/attempt 3: committed/test_accuracy"}
    assert new == expected


def test_settings_name_nobody_and_no_place(tmp_path: Path) -> None:
    path = tmp_path / "secretive.toml"
    path.write_text(SCENARIO)
    settings = settings_of(load_scenario(str(path)))
    assert settings["training.learning-rate"] == 0.03
    assert settings["data.source"] == "folder"
    assert (settings["timeline.rounds"], settings["timeline.requests"]) == (4, 2)
    told = str(settings)
    for secret in ("canary", "Jane", "somebody", "backdoor", "/"):
        assert secret not in told
