"""The two scripts: one on Avalanche alone, its twin in a federation."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fed_unlearn.simulations import avalanche_digits, avalanche_digits_federated
from fed_unlearn.simulations.avalanche_digits import REQUESTS, Parts, Row, run
from fed_unlearn.simulations.run.report_stream import forget_benchmark_of
from fed_unlearn.simulations.run.results import RunResults
from fed_unlearn.simulations.run.stream import experiences_of
from fed_unlearn.simulations.scenario import load_scenario
from fed_unlearn.simulations.task import source_of


def check(rows: list[Row], others: list[Row], allowed: float) -> None:
    """Every request forgets at once and for good, nothing forgotten stays in a buffer, and the rest is kept."""
    assert [row.event for row in rows] == [row.event for row in others]
    served = {row.event: row.forget[row.event] for row in rows if row.event in row.forget}
    assert served == dict.fromkeys((request.id for request in REQUESTS.values()), 0.0)
    assert max(rows[-1].forget.values()) <= 0.05
    assert [row.buffered for row in rows] == [0] * len(rows)
    assert rows[-1].retained >= others[-1].retained - allowed


@pytest.mark.slow
@pytest.mark.parametrize("name", ["replay", "der", "gdumb"])
def test_all_is_forgotten_and_the_rest_is_kept(name: str) -> None:
    rows, others = (run(name, 0, with_requests=asked) for asked in (True, False))
    check(rows, others, allowed=0.02)
    assert others[-1].retained > 0.9
    assert max(row.buffered for row in others) > 0, "without requests the buffer holds such samples"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "stream"),
    [("ewc", "new-instances"), ("si", "class-incremental"), ("lwf", "new-instances")],
)
def test_without_a_buffer(name: str, stream: str) -> None:
    rows, others = (run(name, 0, stream=stream, with_requests=asked) for asked in (True, False))
    check(rows, others, allowed=0.03)
    if stream == "new-instances":
        assert others[-1].retained > 0.9
        assert others[-1].forget["class-1"] > 0.9, "it is known to the end where nobody asks"


@pytest.mark.slow
def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["avalanche_digits", "--strategy", "naive", "--logs", str(tmp_path / "logs")])
    avalanche_digits.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:5] == ["after", "class-1", "class-4", "class-7", "samples"]
    assert lines[-1].split()[:5] == ["samples", "0.000", "0.000", "0.000", "0.000"]
    events = EventAccumulator(str(tmp_path / "logs" / "tensorboard"))
    events.Reload()
    forget = events.Scalars("Forget_Acc_Exp/eval_phase/forget_stream/Exp000")
    retain = events.Scalars("Retain_Acc_Stream/eval_phase/test_stream")
    assert [point.value for point in forget] == [0.0] * 7, "after four requests and the three experiences between them"
    assert retain[-1].value == pytest.approx(float(lines[-1].split()[5]), abs=0.0005)
    assert "Retain_Acc_Stream/eval_phase/test_stream" in (tmp_path / "logs" / "log.txt").read_text()


def test_the_twin_has_the_same_streams_sample_for_sample() -> None:
    for seed in (0, 3):
        scenario = load_scenario("digits-avalanche", [f"seed={seed}"])
        source = source_of(scenario.data)
        federated = avalanche_digits_federated.streams(forget_benchmark_of(scenario, source))
        alone = avalanche_digits_federated.streams(Parts.of(seed).scenario(seed))
        assert {name: [set(part) for part in parts] for name, parts in federated.items()} == {
            name: [set(part) for part in parts] for name, parts in alone.items()
        }
        experiences = experiences_of(scenario, source)
        assert experiences is not None
        assert [set(part) for part in experiences.ids] == [set(part) for part in alone["train"]]
        assert [len(part) for part in alone["forget"]][-1] == 4


@pytest.mark.slow
def test_the_twin_meets_the_gate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["twin", "--out", str(tmp_path / "twin")])
    avalanche_digits_federated.main()
    printed = capsys.readouterr().out
    assert "OTHERS" not in printed
    assert printed.count("the same as on one machine") == 2
    results = RunResults.load(tmp_path / "twin")
    assert results.complete
    assert [item.status for item in results.requests] == ["committed"] * 4
    for item in results.requests:
        assert item.after is not None and item.after.forget_accuracy is not None
        assert item.after.forget_accuracy <= (0.05 if item.scope == "class" else 0.0)
    assert max(value for row in results.relapse for value in row.forget_accuracy.values()) <= 0.05
    assert (tmp_path / "twin" / "reports" / "metrics.csv").exists()
