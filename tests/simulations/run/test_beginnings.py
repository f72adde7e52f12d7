"""Run folders at their beginning: stopped early, edited, in use by another process, or on a disk that is full."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from fed_unlearn import checkpoints
from fed_unlearn.locks import RUN_LOCK
from fed_unlearn.simulations.cli import BAD_INPUT, COMMITTED, run_command
from fed_unlearn.simulations.run.folders import is_beginning
from fed_unlearn.simulations.run.results import RunResults
from fed_unlearn.simulations.scenario import load_scenario

TINY = str(Path(__file__).parents[2] / "support" / "tiny.toml")
SHORT = ["--set", "training.local-epochs=1", "--set", "timeline=[{train={rounds=1}}]"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short run."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert run_command(["run", TINY, *SHORT, "--out", str(out)]) == COMMITTED
    return out


def stopped(whole: Path, out: Path, names: tuple[str, ...]) -> Path:
    """A folder with some of a run's files only."""
    out.mkdir()
    for name in names:
        source = whole / name
        shutil.copytree(source, out / name) if source.is_dir() else shutil.copy(source, out / name)
    return out


@pytest.mark.parametrize(
    "names",
    [
        (),
        (RUN_LOCK,),
        (RUN_LOCK, "scenario.toml"),
        (RUN_LOCK, "scenario.toml", "log.txt", "checkpoints", "clients"),
    ],
)
def test_a_run_without_results_is_begun_again_by_the_same_command(
    whole: Path, tmp_path: Path, names: tuple[str, ...]
) -> None:
    out = stopped(whole, tmp_path / "run", names)
    (out / ".scenario.toml.0123abcd").write_text("half")
    assert run_command(["run", TINY, *SHORT, "--out", str(out)]) == COMMITTED
    begun, uncut = RunResults.load(out), RunResults.load(whole)
    assert (begun.history, begun.training.backward_passes) == (uncut.history, uncut.training.backward_passes)
    assert not list(out.rglob(".*"))


def test_a_run_without_results_is_resumed(whole: Path, tmp_path: Path) -> None:
    out = stopped(whole, tmp_path / "run", (RUN_LOCK, "scenario.toml"))
    assert run_command(["run", "--resume", str(out)]) == COMMITTED
    assert RunResults.load(out).history == RunResults.load(whole).history


def test_another_scenario_does_not_begin_there(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = stopped(whole, tmp_path / "run", (RUN_LOCK, "scenario.toml"))
    assert run_command(["run", TINY, *SHORT, "--seed", "5", "--out", str(out)]) == BAD_INPUT
    assert "is not empty" in capsys.readouterr().err
    scenario = load_scenario(str(out / "scenario.toml")).to_toml()
    assert is_beginning(out, scenario)
    (out / "mine.txt").write_text("")
    assert not is_beginning(out, scenario)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("learning-rate = 0.05", "learning-rate = 0.06", "training.learning-rate is 0.06 and was 0.05"),
        ("seed = 0", "seed = 1", "seed is 1 and was 0"),
        ("rounds = 1", "rounds = 2", "timeline has changed"),
    ],
)
def test_an_edited_scenario_is_refused(
    whole: Path, tmp_path: Path, before: str, after: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    for name, old, new in (("scenario.toml", before, after), ("results.json", '"complete": true', '"complete": false')):
        text = (out / name).read_text()
        assert text.count(old) == 1 or name == "scenario.toml"
        (out / name).write_text(text.replace(old, new, 1))
    results = (out / "results.json").read_bytes()
    assert run_command(["run", "--resume", str(out)]) == BAD_INPUT
    said = capsys.readouterr().err
    assert told in said and said.count("\n") == 1
    assert (out / "results.json").read_bytes() == results


def test_a_run_that_another_process_works_on_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from fed_unlearn import locks

    monkeypatch.setattr(locks, "_locked", lambda descriptor, holder: False)
    (tmp_path / RUN_LOCK).write_text("4711")
    assert run_command(["run", TINY, *SHORT, "--out", str(tmp_path)]) == BAD_INPUT
    assert "in use by process 4711" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [RUN_LOCK]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_an_error_of_the_disk_is_one_line_and_the_run_goes_on_later(
    whole: Path, tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, write = tmp_path / "run", checkpoints._write_atomically

    def fails(path: Path, content: bytes, synced: bool) -> None:
        if path.suffix == ".safetensors" and (out / "results.json").exists():
            raise OSError(number, os.strerror(number))
        write(path, content, synced)

    monkeypatch.setattr(checkpoints, "_write_atomically", fails)
    assert run_command(["run", TINY, *SHORT, "--out", str(out)]) == BAD_INPUT
    said = capsys.readouterr().err
    assert os.strerror(number) in said and f"--resume {out}" in said and said.count("\n") == 1
    monkeypatch.setattr(checkpoints, "_write_atomically", write)
    assert run_command(["run", "--resume", str(out)]) == COMMITTED
    assert RunResults.load(out).history == RunResults.load(whole).history


def test_a_run_of_an_older_version_goes_on_under_new_bounds_and_says_so(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, is_old in (("new", False), ("old", True)):
        out = stopped(whole, tmp_path / name, (RUN_LOCK, "scenario.toml"))
        if is_old:
            kept = (out / "scenario.toml").read_text().splitlines(keepends=True)
            (out / "scenario.toml").write_text("".join(line for line in kept if "max-client-share" not in line))
        assert run_command(["run", "--resume", str(out)]) == COMMITTED
        assert ("max-request-norm = 1" in capsys.readouterr().out) is is_old


def test_the_ledgers_key_of_a_run_may_stand_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, key = tmp_path / "run", tmp_path / "safe" / "run.key"
    named = ["--ledger-key", str(key)]
    assert run_command(["run", TINY, *SHORT, "--out", str(out), *named]) == BAD_INPUT
    assert "run.key: the ledger's key cannot be written" in capsys.readouterr().err and not out.exists()
    key.parent.mkdir()
    assert run_command(["run", TINY, *SHORT, "--out", str(out), *named]) == COMMITTED
    assert key.is_file() and not list(out.glob("*.key"))
    (out / "results.json").unlink()
    for command in (["run", "--resume", str(out)], ["export", str(out), str(tmp_path / "model.safetensors")]):
        assert run_command(command) == BAD_INPUT
        assert "the ledger's key is missing" in capsys.readouterr().err
        assert run_command([*command, *named]) == COMMITTED
        assert not list(out.glob("*.key"))
