"""What a sweep keeps and says. Its runs are made up here: files in run folders, and exit codes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest
from canaries import found_anywhere
from compared_runs import request, write_run

from fed_unlearn.locks import exclusive, run_lock
from fed_unlearn.simulations.cli import BAD_INPUT, COMMITTED, INTERRUPTED, NOT_COMMITTED, run_command
from fed_unlearn.simulations.sweep import cells, sweeping
from fed_unlearn.simulations.sweep.plan import LOCK
from fed_unlearn.simulations.sweep.pool import Command
from fed_unlearn.simulations.sweep.record import Cell, SweepError, SweepRecord

TINY = str(Path(__file__).parents[2] / "support" / "tiny.toml")
METHODS = "boundary-shrink,delete"

Ends = Callable[[Command[Cell], int, float], None]


class Runs:
    """In place of processes: each cell writes complete results, or does what it is told to do."""

    def __init__(self) -> None:
        self.begun: list[tuple[Cell, str]] = []
        self.codes: dict[Cell, int] = {}
        self.interrupted_at: Cell | None = None

    def __call__(self, commands: Iterable[Command[Cell]], at_once: int, on_end: Ends) -> None:
        for command in commands:
            cell = command.name
            self.begun.append((cell, command.arguments[1]))
            if cell == self.interrupted_at:
                raise KeyboardInterrupt
            code = self.codes.get(cell, 0)
            folder = Path(command.arguments[-1])
            if code in (0, 1, 4):
                forget = request(
                    cell.method, 0.01 * cell.seed, 0.9, status="committed" if code == 0 else "failed", oracle=None
                )
                waits = request(cell.method, 0, 0, id="r2", status="held", after=None, before=None, oracle=None)
                write_run(
                    folder,
                    cell.seed,
                    forget,
                    *([waits] if code == 4 else []),
                    scenario=cell.scenario,
                    complete=code != 4,
                )
            command.log.parent.mkdir(parents=True, exist_ok=True)
            command.log.write_text(f"fed-unlearn: all went wrong in {cell.seed}\n" if code else "fine\n")
            on_end(command, min(code, 1) if code == 4 else code, 1.0)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    made = Runs()
    monkeypatch.setattr(sweeping, "run_commands", made)
    return made


def sweep(*arguments: object) -> int:
    return run_command(["sweep", *map(str, arguments)])


def files(folder: Path) -> Mapping[str, str]:
    return {path.name: path.read_text() for path in sorted(folder.glob("compare*"))}


def test_cells_have_their_place_and_the_tables_are_written(
    tmp_path: Path, runs: Runs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sweep(TINY, "--methods", METHODS, "--seeds", "0,2") == COMMITTED
    out = tmp_path / "sweeps" / "tiny"
    assert sorted(str(path.parent.relative_to(out)) for path in out.rglob("results.json")) == [
        "tiny/boundary-shrink/seed0",
        "tiny/boundary-shrink/seed2",
        "tiny/delete/seed0",
        "tiny/delete/seed2",
    ]
    assert [cell.seed for cell, _ in runs.begun] == [0, 0, 2, 2]
    assert set(files(out)) == {"compare.md", "compare.tex", "compare.html", "compare.csv", "compare-runs.csv"}
    printed = capsys.readouterr().out
    assert "[4/4] tiny, delete, seed 2: complete after 1 s" in printed
    assert "forget_accuracy: accuracy on the data of the request; lower is better" in printed


def test_an_interrupted_sweep_goes_on_with_what_is_left(
    tmp_path: Path, runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    order = (TINY, "--methods", METHODS, "--seeds", "0-2")
    assert sweep(*order, "--out", whole) == COMMITTED
    for at in (1, 4):
        runs.begun.clear()
        runs.interrupted_at = SweepRecord.load(whole).cells[at]
        assert sweep(*order, "--out", cut) == INTERRUPTED
        assert (
            f"interrupted; {at} of 6 runs have ended; go on with: fed-unlearn sweep --resume {cut}"
            in capsys.readouterr().out
        )
    runs.begun.clear()
    runs.interrupted_at = None
    assert sweep("--resume", cut) == COMMITTED
    assert [cell for cell, _ in runs.begun] == list(SweepRecord.load(whole).cells[4:])
    assert files(cut) == files(whole)
    runs.begun.clear()
    assert sweep(*order, "--out", cut) == COMMITTED  # nothing is left
    assert not runs.begun and files(cut) == files(whole)


def test_a_begun_run_is_resumed(tmp_path: Path, runs: Runs) -> None:
    begun = Cell("tiny", "delete", 1).folder(tmp_path)
    runs.interrupted_at = Cell("tiny", "boundary-shrink", 0)
    assert sweep(TINY, "--methods", METHODS, "--seeds", "0-1", "--out", tmp_path, "--oracle") == INTERRUPTED
    begun.mkdir(parents=True)
    (begun / "scenario.toml").write_text("")
    record = SweepRecord.load(tmp_path)
    arguments = {
        cell: cells.argument_list(cell, cell.folder(tmp_path), Path("s.toml"), oracle=record.oracle)
        for cell in record.cells
    }
    assert arguments[Cell("tiny", "delete", 1)] == ("run", "--resume", str(begun), "--oracle")
    folder = str(Cell("tiny", "delete", 0).folder(tmp_path))
    assert arguments[Cell("tiny", "delete", 0)] == ("run", "s.toml", "--seed", "0", "--out", folder, "--oracle")


def test_failures_are_kept_and_tried_again_only_if_told(
    tmp_path: Path, runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    crashed, killed = Cell("tiny", "delete", 0), Cell("tiny", "delete", 1)
    runs.codes = {crashed: 70, killed: -9, Cell("tiny", "boundary-shrink", 1): 1}
    order = (TINY, "--methods", METHODS, "--seeds", "0-1", "--out", tmp_path)
    assert sweep(*order) == NOT_COMMITTED
    printed = capsys.readouterr().out
    assert "delete, seed 0: failed, exit code 70 after 1 s: all went wrong in 0; its log is" in printed
    assert "tiny, boundary-shrink, seed 1: complete after 1 s, 1 of 1 requests not committed" in printed
    for text in (printed, (tmp_path / "compare.html").read_text()):
        assert "tiny, delete, seed 0: failed, exit code 70" in text
        assert "tiny, delete, seed 1: failed, ended by signal 9" in text
    assert "all went wrong" not in (tmp_path / "sweep.json").read_text()
    runs.begun.clear()
    runs.codes.clear()
    assert sweep(*order) == NOT_COMMITTED and not runs.begun
    assert "2 failed before (--retry-failed tries them again)" in capsys.readouterr().out
    assert sweep("--resume", tmp_path, "--retry-failed") == COMMITTED
    assert [cell for cell, _ in runs.begun] == [crashed, killed]
    assert "What is missing" not in (tmp_path / "compare.html").read_text()


def test_runs_with_requests_that_wait_are_not_complete(
    tmp_path: Path, runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    waiting = Cell("tiny", "delete", 0)
    runs.codes = {waiting: 4}
    assert sweep(TINY, "--methods", METHODS, "--seeds", "0", "--out", tmp_path) == NOT_COMMITTED
    assert "tiny, delete, seed 0: not complete: requests wait" in capsys.readouterr().out
    runs.codes, runs.begun = {}, []
    assert sweep("--resume", tmp_path) == COMMITTED
    assert [cell for cell, _ in runs.begun] == [waiting]


def test_more_methods_and_seeds_may_be_added(tmp_path: Path, runs: Runs) -> None:
    assert sweep(TINY, "--methods", "delete", "--seeds", "0", "--out", tmp_path) == COMMITTED
    assert sweep("--resume", tmp_path, "--seeds", "3", "--methods", "own") == COMMITTED
    record = SweepRecord.load(tmp_path)
    assert (record.methods, record.seeds, len(record.ends)) == (("delete", "own"), (0, 3), 4)
    assert sweep(TINY, "--methods", "own,delete,scrub", "--seeds", "0-3", "--out", tmp_path) == COMMITTED
    record = SweepRecord.load(tmp_path)
    assert (record.methods, record.seeds, len(record.ends)) == (("delete", "own", "scrub"), (0, 3, 1, 2), 12)
    assert len({cell for cell, _ in runs.begun}) == len(runs.begun) == 12


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (("--set", "training.learning-rate=0.1"), "tiny: training.learning-rate is 0.1 and was 0.05"),
        (("--set", "timeline.0.train.rounds=2"), "tiny: timeline has changed"),
        (("--methods", "delete"), "method boundary-shrink is missing"),
        (("--seeds", "1-4"), "seed 0 is missing"),
        (("--oracle",), "it was begun without --oracle"),
    ],
)
def test_another_order_is_refused(
    tmp_path: Path, runs: Runs, changed: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    order = {"--methods": METHODS, "--seeds": "0-1"}
    words = [word for pair in order.items() for word in pair]
    assert sweep(TINY, *words, "--out", tmp_path) == COMMITTED
    before = (tmp_path / "sweep.json").read_bytes()
    assert sweep(TINY, *words, *changed, "--out", tmp_path) == BAD_INPUT
    assert told in capsys.readouterr().err
    assert (tmp_path / "sweep.json").read_bytes() == before
    if changed == ("--oracle",):
        assert sweep("--resume", tmp_path, "--oracle") == BAD_INPUT


def test_an_edited_scenario_is_refused(tmp_path: Path, runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep(TINY, "--methods", "delete", "--seeds", "0", "--out", tmp_path) == COMMITTED
    file = tmp_path / "tiny" / "delete.toml"
    file.write_text(file.read_text().replace("learning-rate = 0.05", "learning-rate = 0.06"))
    assert sweep("--resume", tmp_path, "--seeds", "1") == BAD_INPUT
    assert "is not what the sweep has written: training.learning-rate is 0.06 and was 0.05" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "no scenario was given"),
        (("tinny",), "tinny"),
        ((TINY, "--seeds", "3-1"), "expected the smaller seed first"),
        ((TINY, "--methods", "delte"), "delte"),
        ((TINY, "--methods", ""), "'' was given; expected a method"),
        ((TINY, "--methods", " , "), "' , ' was given; expected a method"),
        ((TINY, "--methods", "fedosd"), "serves none of its requests"),
        ((TINY, "--methods", "../delete"), "cannot name a folder"),
        ((TINY, "--set", "seed=4"), "give --seeds"),
        ((TINY, "--set", "unlearning.parameters.delete.max-steps=-1", "--methods", "delete"), "max_steps"),
        ((TINY, TINY), "second scenario named tiny"),
        ((TINY, "--set", "clients.partition=nothing"), "nothing"),
        (("--resume", "none"), "holds no sweep.json"),
        (("--resume", "none", TINY), "a scenario with --resume"),
    ],
)
def test_a_wrong_order_runs_nothing(
    tmp_path: Path,
    runs: Runs,
    arguments: tuple[str, ...],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sweep(*arguments) == BAD_INPUT
    assert told in capsys.readouterr().err
    assert not runs.begun and not list(tmp_path.iterdir())


def test_foreign_folders_and_busy_sweeps_are_left_alone(
    tmp_path: Path, runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("mine")
    assert sweep(TINY, "--out", foreign) == BAD_INPUT
    assert "is not empty" in capsys.readouterr().err and [path.name for path in foreign.iterdir()] == ["thesis.txt"]
    busy = tmp_path / "busy"
    assert sweep(TINY, "--seeds", "0", "--out", busy) == COMMITTED
    codes: list[int] = []
    with exclusive(busy / LOCK, "the sweep", "wait"):
        thread = threading.Thread(target=lambda: codes.append(sweep("--resume", busy)))
        thread.start()
        thread.join()
    assert codes == [BAD_INPUT] and "in use by another thread" in capsys.readouterr().err


def test_a_sweep_that_was_stopped_before_its_first_run_begins_again(
    tmp_path: Path, runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    order = (TINY, "--methods", "delete", "--seeds", "0", "--out", tmp_path)
    runs.interrupted_at = Cell("tiny", "delete", 0)
    assert sweep(*order) == INTERRUPTED
    told = capsys.readouterr().out
    assert "1 run: 0 complete, 1 to go" in told and "0 of 1 run has ended" in told
    (tmp_path / "sweep.json").unlink()
    (tmp_path / ".sweep.json.0123abcd").write_text("{")
    runs.interrupted_at = None
    assert sweep(*order) == COMMITTED
    assert not (tmp_path / ".sweep.json.0123abcd").exists()


def test_several_scenarios_have_a_table_each(tmp_path: Path, runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other.toml"
    other.write_text(Path(TINY).read_text().replace('name = "tiny"', 'name = "other"'))
    assert sweep(TINY, other, "--methods", METHODS, "--seeds", "0-1", "--out", tmp_path / "out") == COMMITTED
    printed = capsys.readouterr().out
    assert "tiny, class requests" in printed and "other, class requests" in printed
    assert (tmp_path / "out" / "other" / "delete" / "seed1" / "results.json").is_file()


def test_requests_that_keep_their_own_method_are_told_of(
    tmp_path: Path, runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    timeline = "timeline=[{train={rounds=1}}, {forget={class=3}}, {forget={client=1, samples=2}}]"
    assert sweep(TINY, "--set", timeline, "--methods", "delete", "--seeds", "0", "--out", tmp_path) == COMMITTED
    told = "tiny, delete: serves class requests; own methods: r2 (sample) by instance-wise"
    assert told in capsys.readouterr().out
    kept = json.loads((tmp_path / "sweep.json").read_text())["served"]["tiny"]["delete"]["kept"]
    assert kept == [{"id": "r2", "scope": "sample", "method": "instance-wise"}]


def test_no_sample_and_no_client_is_in_the_files_of_the_sweep_itself(tmp_path: Path, runs: Runs) -> None:
    canary = "canary-sample-41c7"
    timeline = (
        f'timeline=[{{train={{rounds=1}}}}, {{forget={{class=3}}}}, {{forget={{client=1, sample-ids=["{canary}"]}}}}]'
    )
    sweep(TINY, "--set", timeline, "--methods", "delete", "--seeds", "0", "--out", tmp_path)
    own = [path for path in tmp_path.iterdir() if path.is_file()]
    assert (tmp_path / "sweep.json") in own
    assert not found_anywhere(own, [canary])


def test_records_are_read_as_they_were_written(tmp_path: Path, runs: Runs) -> None:
    runs.codes = {Cell("tiny", "delete", 0): 70}
    sweep(TINY, "--methods", METHODS, "--seeds", "0", "--out", tmp_path)
    record = SweepRecord.load(tmp_path)
    record.save(tmp_path)
    assert SweepRecord.load(tmp_path) == record and len(record.ends) == 2
    (tmp_path / "sweep.json").write_text('{"format": 2}')
    with pytest.raises(SweepError, match="has format 2"):
        SweepRecord.load(tmp_path)
    (tmp_path / "sweep.json").write_text("[]")
    with pytest.raises(SweepError, match="not a sweep of this version"):
        SweepRecord.load(tmp_path)


def test_a_run_folder_in_use_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held, free = threading.Event(), threading.Event()

    def hold() -> None:
        with run_lock(tmp_path):
            held.set()
            free.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    threading.Timer(0.3, free.set).start()
    cells.wait_until_free(tmp_path)
    assert free.is_set()
    thread.join()
