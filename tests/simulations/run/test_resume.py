"""A run that was cut off goes on from its folder, and ends as it would have."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from fed_unlearn.ledger import Ledger
from fed_unlearn.simulations.cli import BAD_INPUT, COMMITTED, NOT_COMMITTED, run_command
from fed_unlearn.simulations.run.folders import keep_scenario
from fed_unlearn.simulations.run.results import RunResults
from fed_unlearn.simulations.scenario import load_scenario
from fed_unlearn.simulations.scenario.errors import ScenarioError

TINY = str(Path(__file__).parents[2] / "support" / "tiny.toml")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing cut off."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert run_command(["run", TINY, "--out", str(out)]) == COMMITTED
    return out


def models_of(out: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (out / "checkpoints").iterdir()}


def test_a_run_that_was_killed_goes_on_to_the_same_model(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "fed_unlearn.simulations.cli", "run", TINY, "--out", str(out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while "unlearned by" not in (out / "log.txt").read_text() if (out / "log.txt").exists() else True:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.005)
    process.kill()
    process.wait()
    cut_off = RunResults.load(out)
    assert not cut_off.complete
    assert run_command(["run", "--resume", str(out)]) == COMMITTED
    gone_on, uncut = RunResults.load(out), RunResults.load(whole)
    assert gone_on.complete
    assert models_of(out) == models_of(whole)
    assert [request.after for request in gone_on.requests] == [request.after for request in uncut.requests]
    assert [request.passes_by_part for request in gone_on.requests] == [
        request.passes_by_part for request in uncut.requests
    ]
    assert gone_on.relapse == uncut.relapse
    assert gone_on.training.rounds == uncut.training.rounds


def test_a_run_of_before_goes_on_with_the_defaults_of_the_audits_limits(tmp_path: Path) -> None:
    scenario, bounded = load_scenario(TINY), load_scenario(TINY, ["run.audit-test-samples=7"])
    with closing(Ledger(tmp_path / "ledger.db")) as ledger:
        keep_scenario(scenario, ledger, tmp_path)
        begun = ledger.state("scenario")
        assert isinstance(begun, dict)
        known = {key: value for key, value in begun["values"].items() if not key.startswith("run.audit-")}
        kept = {key: value for key, value in begun["values"].items() if key == "run.audit-samples"}
        ledger.set_state("scenario", {**begun, "digest": "of before", "values": {**known, **kept}})
        keep_scenario(scenario, ledger, tmp_path)
        with pytest.raises(ScenarioError, match=r"run\.audit-test-samples is new"):
            keep_scenario(bounded, ledger, tmp_path)


def test_a_complete_run_is_only_shown_again(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = models_of(whole)
    assert run_command(["run", "--resume", str(whole)]) == COMMITTED
    assert "the run is complete" in capsys.readouterr().out
    assert models_of(whole) == before


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--set", "clients.count=3"], "--set with --resume: a run goes on as it was begun"),
        (["--seed", "4"], "--seed with --resume"),
        (["--out", "elsewhere"], "--out with --resume"),
    ],
)
def test_a_run_goes_on_as_it_was_begun(
    whole: Path, arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["run", "--resume", str(whole), *arguments]) == BAD_INPUT
    assert complaint in capsys.readouterr().err


def test_a_folder_without_a_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["run", "--resume", str(tmp_path)]) == BAD_INPUT
    assert "no run was begun there" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_damaged_ledger_is_named(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    results = (out / "results.json").read_text().replace('"complete": true', '"complete": false')
    (out / "results.json").write_text(results)
    (out / "ledger.db").write_bytes(b"no ledger at all" * 100)
    for left in out.glob("ledger.db-*"):
        left.unlink()
    assert run_command(["run", "--resume", str(out)]) != COMMITTED
    said = capsys.readouterr().err
    assert "ledger" in said and "Traceback" not in said


def test_a_request_that_waits_for_approval_is_no_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert run_command(["run", TINY, "--out", str(out), "--set", "unlearning.hold.data=0.05"]) == NOT_COMMITTED
    [request] = RunResults.load(out).requests
    assert request.status == "held" and request.reason is not None and "needs approval" in request.reason
    assert "held" in capsys.readouterr().out
