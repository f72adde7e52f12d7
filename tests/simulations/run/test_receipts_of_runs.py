"""A run keeps signed receipts of its requests, also one that was stopped and goes on, and a key may be given."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fed_unlearn.receipts import Receipt, check_in_ledger, public_key_file, read_public_key, signing_key, verify
from fed_unlearn.simulations.cli import BAD_INPUT, COMMITTED, run_command
from fed_unlearn.simulations.run.driver import run_in_process
from fed_unlearn.simulations.run.missing_receipts import issue_missing
from fed_unlearn.simulations.scenario import load_scenario
from fed_unlearn.strategies import Event

TINY = str(Path(__file__).parents[2] / "support" / "tiny.toml")


def receipts_of(out: Path, key: Path | None = None) -> dict[str, Receipt]:
    """Receipts of a run, by name of the file: each is signed and fits the ledger."""
    public = read_public_key(public_key_file(key or out / "receipts.key"))
    found = {path.name: verify(path.read_bytes(), public).receipt for path in sorted((out / "receipts").glob("*.json"))}
    for name, receipt in found.items():
        assert not check_in_ledger(receipt, out / "ledger.db", out / "ledger.key").problems
        assert (out / "receipts" / name).with_suffix(".html").is_file()
    return found


@pytest.mark.slow
def test_a_run_ends_with_its_receipts_and_names_their_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert run_command(["run", TINY, "--out", str(out)]) == COMMITTED
    assert f"receipts in {out / 'receipts'}\n" in capsys.readouterr().out
    [receipt] = receipts_of(out).values()
    assert (receipt.request, receipt.status) == ("r1", "committed")
    assert (out / "receipts.key").stat().st_mode & 0o777 == 0o600


def test_a_run_that_was_stopped_has_a_receipt_of_each_request_that_ended(tmp_path: Path) -> None:
    out, scenario = tmp_path / "run", load_scenario(TINY)

    def stop(event: Event) -> None:
        if event.kind == "request-finished":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_in_process(scenario, out, observer=stop)
    assert not (out / "receipts").exists(), "it was stopped between the commit and the receipt"
    assert run_in_process(scenario, out).succeeded
    assert list(receipts_of(out)) == ["r1.json"]


def test_the_key_of_receipts_may_stand_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, key = tmp_path / "run", tmp_path / "safe" / "own.key"
    named = ["--receipt-key", str(key)]
    assert run_command(["run", TINY, "--out", str(out), *named]) == BAD_INPUT
    assert "--receipt-key" in capsys.readouterr().err and not out.exists()
    key.parent.mkdir()
    assert run_in_process(load_scenario(TINY), out, receipt_key=key).succeeded
    assert receipts_of(out, key) and not (out / "receipts.key").exists()
    key.write_text("no key")
    assert run_command(["run", TINY, "--out", str(tmp_path / "other"), *named]) == BAD_INPUT
    told = capsys.readouterr().err
    assert "own.key" in told and told.count("\n") == 1 and not (tmp_path / "other").exists()


def test_a_run_whose_receipts_cannot_be_written_says_so_and_keeps_its_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    scenario = load_scenario(TINY)
    told: list[str] = []

    def watch(event: Event) -> None:
        if event.kind == "training-started":
            (out / "receipts").write_text("in the way")
        if event.kind == "receipt-failed":
            told.append(event.text)

    results = run_in_process(scenario, out, observer=watch)
    assert results.succeeded and len(told) == 1 and "receipts" in told[0]
    assert told[0] in (out / "log.txt").read_text()


@pytest.mark.parametrize("given", ["a folder", "others may read it"])
def test_a_key_that_nobody_should_use_is_refused_before_anything_is_computed(
    tmp_path: Path, given: str, capsys: pytest.CaptureFixture[str]
) -> None:
    key = tmp_path / "key"
    if given == "a folder":
        key.mkdir()
    else:
        signing_key(key)
        key.chmod(0o644)
    capsys.readouterr()
    assert run_command(["run", TINY, "--out", str(tmp_path / "run"), "--receipt-key", str(key)]) == BAD_INPUT
    assert capsys.readouterr().err.count("\n") == 1 and not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def ended_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ended") / "run"
    assert run_in_process(load_scenario(TINY), out).succeeded
    return out


@pytest.fixture
def complete(ended_run: Path, tmp_path: Path) -> Path:
    """The folder of a run that is complete, of the test's own."""
    return shutil.copytree(ended_run, tmp_path / "run")


def told_of_complete(out: Path, capsys: pytest.CaptureFixture[str], *options: str) -> list[str]:
    """What a complete run says that it did, between that it is complete and its figures."""
    capsys.readouterr()
    assert run_command(["run", "--resume", str(out), *options]) == COMMITTED
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("the run is complete; there is nothing to go on with")
    figures = next(number for number, line in enumerate(lines) if line.startswith("training: "))
    return lines[1:figures]


@pytest.mark.slow
def test_a_complete_run_makes_up_for_its_receipts_and_says_so(
    complete: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = complete
    [before] = receipts_of(out).values()
    head = check_in_ledger(before, out / "ledger.db").since
    for file in (out / "receipts").iterdir():
        file.unlink()
    assert told_of_complete(out, capsys) == ["receipts were missing and were issued now: r1.json"]
    [again] = receipts_of(out).values()
    assert told_of_complete(out, capsys) == [], "nothing is missing any more"
    assert again.positions == before.positions and check_in_ledger(again, out / "ledger.db").since == head


def test_a_complete_run_whose_key_is_gone_says_so(complete: Path, tmp_path: Path) -> None:
    out, safe = complete, tmp_path / "safe.key"
    for file in (out / "receipts").iterdir():
        file.unlink()
    (out / "receipts.key").rename(safe)
    [told] = issue_missing(out)
    assert told.startswith("receipts are missing of requests r1: ") and "receipts.pub: the public key of" in told
    assert not (out / "receipts.key").exists() and not list((out / "receipts").iterdir())
    safe.with_suffix(".pub").write_bytes((out / "receipts.pub").read_bytes())
    assert issue_missing(out, receipt_key=safe) == ["receipts were missing and were issued now: r1.json"]
    assert receipts_of(out, safe)
    for file in ((out / "receipts.pub"), *(out / "receipts").iterdir()):
        file.unlink()
    [told] = issue_missing(out)
    assert told == f"receipts were missing and were issued now: r1.json, signed by a new key: {out / 'receipts.key'}"
    assert receipts_of(out)


def test_a_complete_run_whose_folder_of_receipts_cannot_be_written_says_so(complete: Path) -> None:
    out = complete
    for file in (out / "receipts").iterdir():
        file.unlink()
    (out / "receipts").rmdir()
    (out / "receipts").touch()
    [told] = issue_missing(out)
    assert told.startswith("receipts are missing of requests r1: ") and f"{out / 'receipts'}: " in told
