"""``fed-unlearn demo`` says in a few lines of 80 columns what happened and where to look."""

from __future__ import annotations

import io
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from pages import blocks
from rich.console import Console
from sample_results import REQUEST, RESULTS, SAMPLES

from fed_unlearn.simulations.cli import run_command
from fed_unlearn.simulations.report.demonstration import demonstration
from fed_unlearn.simulations.run.results import RequestResult, RunResults
from fed_unlearn.simulations.scenario import load_scenario
from fed_unlearn.simulations.scenario.checks import forget_steps
from fed_unlearn.strategies import Event

CLIENT = RequestResult(
    **{**vars(SAMPLES), "id": "r3", "scope": "client", "target": {"client": "2"}, "status": "committed"}
)


def _console(*, is_terminal: bool = False) -> tuple[Console, io.StringIO]:
    stream = io.StringIO()
    return Console(file=stream, width=80, force_terminal=is_terminal, color_system=None), stream


def _told(results: RunResults, folder: Path) -> list[str]:
    console, stream = _console()
    demonstration().report(results, folder, console)
    return stream.getvalue().splitlines()


def test_the_end_names_what_is_in_the_folder_and_what_to_do_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "digits-demo-seed0"
    folder.mkdir(parents=True)
    (folder / "ledger.db").touch()
    told = _told(replace(RESULTS, requests=(REQUEST, CLIENT)), folder)
    text = "\n".join(told)
    assert max(map(len, told)) <= 80 and str(tmp_path) not in text
    assert f"look in {os.path.join('runs', 'digits-demo-seed0')}" in told
    shown = [
        line.split()[0] for line in told[told.index("look in runs/digits-demo-seed0") + 1 :] if line.startswith("  ")
    ]
    assert [name for name in shown if name != "fed-unlearn"] == ["report.html", "figures/", "ledger.db"]
    assert (folder / "report.html").exists() and list((folder / "figures").glob("*.png"))
    assert shown.count("fed-unlearn") == 3
    row = next(line for line in told if "r1 class 3" in line)
    assert row.split()[0] == "✓" and "100.0 %" in row and row.count("0.0 %") == 3
    assert "per pass of the request: r1 25" in text, "5,000 passes of the oracle, 200 of the request"


def test_a_request_that_fails_is_told_with_its_reason(tmp_path: Path) -> None:
    told = _told(replace(RESULTS, requests=(REQUEST, SAMPLES)), tmp_path)
    assert not any(line.startswith("r2: ") for line in told), "nothing is claimed of a model that does not serve"
    assert "after, of a request that is not committed: the last attempt, which is not used." in told
    assert max(map(len, told[: told.index("") + 6])) <= 80
    assert any(line.startswith("✗") and "failed" in line for line in told)
    assert "r2 failed: forget accuracy 0.250 is above 0" in told


def test_what_is_announced_is_what_the_scenario_asks() -> None:
    scenario = load_scenario("digits-demo")
    steps = [step for _, step in forget_steps(scenario)]
    assert scenario.clients.count == 5 and [step.scope for step in steps] == ["class", "client", "sample"]
    assert steps[2].goal == "misclassify" and steps[2].samples == 4 and steps[2].client != steps[1].client
    console, stream = _console()
    with demonstration().watching(console):
        announced = " ".join(stream.getvalue().split())
    assert announced.startswith("Five clients train a model to read handwritten digits")
    assert "first a digit, then a whole client, then four images of another client" in announced


@pytest.mark.parametrize("is_terminal", [False, True])
def test_a_line_for_the_training_and_for_each_request(is_terminal: bool) -> None:
    console, stream = _console(is_terminal=is_terminal)
    telling = demonstration()
    events = [
        Event("training-started", "train:1: 20 rounds", steps=20),
        Event("training-round", "round 1 of 20", step=1, steps=20),
        Event("request-started", "class request: class [3]", "r1"),
        Event("request-step", "audit of the candidate", "r1"),
        Event("request-waits", "client 2 is not reachable", "r2"),
    ]
    with telling.watching(console) as observe:
        for event in events:
            observe(event)
    lines = [line.strip() for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue()).splitlines()]
    assert [line for line in lines if line.startswith(("training: ", "r1: class", "r2: "))] == [
        "training: 20 rounds ...",
        "r1: class [3] ...",
        "r2: client 2 is not reachable",
    ]


@pytest.mark.slow
def test_the_demo_commits_all_of_its_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    assert run_command(["demo"]) == 0
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80 and "report.html" in printed and "receipts/" in printed
    results = RunResults.load(tmp_path / "runs" / "digits-demo-seed0")
    assert results.succeeded and [request.scope for request in results.requests] == ["class", "client", "sample"]
    for request in results.requests:
        assert request.before is not None and request.after is not None and request.oracle is not None
        before, after = request.before.test_retain_accuracy, request.after.test_retain_accuracy
        assert before is not None and after is not None and after > before - 0.03 and after > 0.93
    assert results.requests[0].after is not None and results.requests[0].after.forget_accuracy == 0
    assert (tmp_path / "runs" / "digits-demo-seed0" / "report.html").exists()
    [block] = [item.text for item in blocks("text", "README.md") if "how it is known" in item.text]
    lines = dict(_words_and_numbers(line) for line in printed.splitlines())
    for line in block.splitlines():
        words, numbers = _words_and_numbers(line)
        assert lines[words] == pytest.approx(numbers, rel=0.05, abs=3), "arrays differ a little between machines"


def _words_and_numbers(line: str) -> tuple[str, list[float]]:
    """A line without its figures, and its figures."""
    pattern = r"(?<![\w.])\d+(?:\.\d+)?(?= %|,|$)"
    return " ".join(re.sub(pattern, "", line).split()), [float(number) for number in re.findall(pattern, line)]
