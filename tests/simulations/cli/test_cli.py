import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fed_unlearn.ledger import Ledger
from fed_unlearn.simulations.cli import run_command
from fed_unlearn.simulations.run.results import RunResults

TINY = """
name = "tiny"
[run]
threads = 1
[data]
dataset = "digits"
[clients]
count = 2
[model]
name = "small-cnn"
[training]
local-epochs = 1
[[timeline]]
train = { rounds = 8 }
[[timeline]]
forget = { class = 3 }
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tiny.toml").write_text(TINY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the tiny scenario."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "tiny.toml").write_text(TINY)
    assert run_command(["run", str(folder / "tiny.toml"), "--out", str(folder / "out"), "--seed", "3"]) == 0
    return folder / "out"


def test_a_run_leaves_a_complete_folder(finished: Path) -> None:
    results = RunResults.load(finished)
    assert (results.scenario, results.seed, results.engine, results.complete) == ("tiny", 3, "inprocess", True)
    (request,) = results.requests
    assert (request.id, request.status, request.target) == ("r1", "committed", {"classes": [3]})
    assert request.after is not None and request.after.forget_accuracy is not None
    assert request.after.forget_accuracy <= 0.05
    assert {use.cuda_visible_devices for use in results.devices} == {os.environ.get("CUDA_VISIBLE_DEVICES", "")}
    names = {path.name for path in finished.iterdir()}
    assert names >= {"results.json", "scenario.toml", "ledger.db", "checkpoints", "clients", "figures", "log.txt"}
    assert {path.name for path in (finished / "figures").iterdir()} >= {"timeline.png", "requests.svg", "relapse.png"}


def test_the_exported_model_is_the_accepted_one(finished: Path, tmp_path: Path) -> None:
    target = tmp_path / "model.safetensors"
    assert run_command(["export", str(finished), str(target)]) == 0
    exported = load_file(target)
    stored = finished / "checkpoints" / f"{Ledger(finished / 'ledger.db').served_model()}.safetensors"
    assert all(torch.equal(tensor, load_file(stored)[name]) for name, tensor in exported.items())


def test_an_export_writes_a_card_unless_it_is_told_not_to(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    upload = tmp_path / "upload"
    upload.mkdir()
    assert run_command(["export", str(finished), str(upload / "first.safetensors")]) == 0
    assert f"{upload / 'README.md'}: what it has forgotten, and when" in capsys.readouterr().out
    assert run_command(["export", str(finished), str(upload / "second.safetensors"), "--no-labels"]) == 0
    assert run_command(["export", str(finished), str(upload / "third.safetensors"), "--no-card"]) == 0
    assert {path.name for path in upload.iterdir()} == {
        *("README.md", "first.safetensors", "second.md", "second.safetensors", "third.safetensors"),
    }
    assert (
        "# `tiny`" in (upload / "README.md").read_text() and "| data | `digits` |" in (upload / "second.md").read_text()
    )
    assert (
        run_command(["export", str(finished), str(upload / "4.safetensors"), "--card", str(upload / "README.md")]) == 2
    )
    assert "README.md: exists already" in capsys.readouterr().err and not (upload / "4.safetensors").exists()
    assert run_command(["export", str(finished), str(upload / "4.safetensors"), "--no-card", "--no-labels"]) == 2
    for other in ("4.pt", "4"):
        assert run_command(["export", str(finished), str(upload / other)]) == 2
        assert "expected a name that ends in .safetensors" in capsys.readouterr().err
    assert len(list(upload.iterdir())) == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "digts"], "scenario 'digts' is unknown; did you mean 'digits'?"),
        (["run", "tiny.toml", "--set", "training.lerning-rate=1"], "tiny.toml: training.lerning-rate: is not a known"),
        (["run", "tiny.toml", "--set", "clients.count=many"], "tiny.toml: clients.count: 'many' was given; expected"),
        (
            ["run", "--set", "timeline.2.forget.class=12"],
            "digits.toml: timeline[2].forget.class: 12 is not a class of 'digits' (0..9)",
        ),
        (
            ["run", "--set", "timeline.4.forget.client=99"],
            "digits.toml: timeline[4].forget.client: 99 is not one of the 10 clients (0..9)",
        ),
        (["run", "--set", "training.learning-rate=-1"], "digits.toml: training.learning-rate: -1 was given; expected"),
        (
            ["run", "--set", "clients.partition=magic"],
            "digits.toml: clients: partition 'magic' is unknown; expected one of",
        ),
        (
            ["run", "--set", "clients.alhpa=2"],
            "digits.toml: clients: partition 'dirichlet' has no parameter 'alhpa'; it takes",
        ),
        (["run", "--set", "model.name=magic"], "digits.toml: model: model 'magic' is unknown; expected 'small-cnn'"),
        (["run", "--set", "training.parameters.magic=2"], "digits.toml: training.parameters: strategy FedAvg"),
        (["run", "--set", "model.checkpoint=none.safetensors"], "/none.safetensors: no such checkpoint"),
        (["run", "--set", "model.checkpoint=other.safetensors"], "other.safetensors: has no tensor"),
        (["run", "--set", "data.dataset=folder:empty"], "empty: no images; expected"),
        (["run", "--set", "data.dataset=folder:missing"], "missing: no such folder; expected"),
        (["run", "--set", "data.dataset=magic"], "digits.toml: data.dataset: data set 'magic' is unknown; expected"),
        (["run", "--set", "timeline.4.forget.samples=999"], "digits.toml: timeline[4].forget.samples: 999 were given;"),
        (["run", "--out", "tiny.toml"], "tiny.toml is a file; expected a new folder or an empty one"),
        (["run", "--out", "tiny.toml/below"], "tiny.toml is a file; expected a new folder or an empty one"),
        (["run", "--out", "."], "is not empty; expected a new folder or an empty one"),
        (["run", "--gpus-per-client", "0.5"], "--gpus-per-client 0.5: expected 0 without --engine ray"),
        (["run", "--engine", "ray", "--gpus-per-client", "99"], "--gpus-per-client 99: "),
        (["run", "--engine", "slurm"], "Invalid value for '--engine': 'slurm' is not one of 'inprocess', 'ray'"),
        (["run", "--seed", "-1"], "Invalid value for '--seed'"),
        (["run", "digits", "faces"], "Got unexpected extra argument"),
        (["sprint"], "No such command 'sprint'"),
        (["export", "empty", "model.safetensors"], "empty: holds no ledger.db; the folder of a run was expected"),
        (["export", "nowhere", "model.safetensors"], "nowhere: does not exist; the folder of a run was expected"),
        (["report", "nowhere"], "nowhere: does not exist; the folder of a run was expected"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    (folder / "empty").mkdir()
    save_file({"weight": torch.zeros(2)}, folder / "other.safetensors")
    before = sorted(folder.rglob("*"))
    assert run_command(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("fed-unlearn: ") and captured.err.count("\n") == 1
    assert message in captured.err
    assert "Traceback" not in captured.err + captured.out
    assert sorted(folder.rglob("*")) == before


def test_a_folder_that_holds_a_run_is_not_written_to_again(
    finished: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (finished / "results.json").read_bytes()
    assert run_command(["run", "tiny.toml", "--out", str(finished)]) == 2
    assert "holds a run already; expected a new folder or an empty one" in capsys.readouterr().err
    assert (finished / "results.json").read_bytes() == before


def test_a_request_that_fails_makes_the_exit_code_1(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    impossible = ["--set", "gate.class.max-retain-drop=0.0", "--set", "gate.class.max-forget-accuracy=0.0"]
    hopeless = ["--set", "unlearning.max-attempts=1", "--set", "unlearning.max-repair-rounds=0"]
    short = ["--set", "unlearning.repair-rounds=0", "--set", "timeline.0.train.rounds=1"]
    assert run_command(["run", "tiny.toml", *impossible, *hopeless, *short]) == 1
    results = RunResults.load(folder / "runs" / "tiny-seed0")
    assert [request.status for request in results.requests] == ["failed"]
    assert f"r1 failed: {results.requests[0].reason}"[:40] in capsys.readouterr().out


def test_default_folders_count_up(folder: Path) -> None:
    (folder / "runs" / "tiny-seed5").mkdir(parents=True)
    (folder / "runs" / "tiny-seed5" / "notes.txt").write_text("of somebody else")
    quick = ["--set", "timeline=[{train = {rounds = 1}}]"]
    assert run_command(["run", "tiny.toml", "--seed", "5", *quick]) == 0
    assert run_command(["run", "tiny.toml", "--seed", "5", *quick]) == 0
    assert sorted(path.name for path in (folder / "runs").iterdir()) == ["tiny-seed5", "tiny-seed5-2", "tiny-seed5-3"]
    assert RunResults.load(folder / "runs" / "tiny-seed5-3").seed == 5


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("scenarios", ["digits", "cifar10", "faces"]),
        ("methods", ["boundary-shrink", "boundary-expanding", "instance-wise", "mask-output"]),
        ("audits", ["forget_accuracy", "membership_auc"]),
        (
            "sources",
            [
                "digits",
                "folder:PATH",
                "hf:NAME-OR-PATH",
                "synthetic:COUNT",
                "torchvision:NAME",
                "package.module:callable",
            ],
        ),
        ("strategies", ["FedAvg", "FedAvgM", "FedAdam", "FedProx", "proximal-mu"]),
    ],
)
def test_listings_name_what_is_built_in(command: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command([command]) == 0
    printed = capsys.readouterr().out
    assert all(word in printed for word in words)


def test_help_imports_nothing_heavy() -> None:
    heavy = (
        "print(sorted({'torch', 'flwr', 'ray', 'matplotlib', 'pydantic', 'altair', 'vl_convert'} & set(sys.modules)))"
    )
    code = f"import sys\nfrom fed_unlearn.simulations.cli import run_command\nrun_command(['--help'])\n{heavy}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.slow
@pytest.mark.parametrize(("sign", "when"), [("round 2 of", "training"), ("r1: ", "a request")])
def test_an_interrupt_ends_with_130_and_readable_results(folder: Path, sign: str, when: str) -> None:
    rounds = "timeline.0.train.rounds=500" if when == "training" else "timeline.0.train.rounds=3"
    command = [sys.executable, "-u", "-m", "fed_unlearn.simulations.cli", "run", "tiny.toml", "--out", "out"]
    process = subprocess.Popen(
        [*command, "--set", rounds, "--set", "run.evaluate-every=1"],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    line = next(line for line in process.stdout if sign in line or "round 50 of" in line)
    assert line
    process.send_signal(signal.SIGINT)
    interrupted = time.monotonic()
    output, errors = process.communicate(timeout=30)
    assert time.monotonic() - interrupted < 10, "500 rounds take longer, also on a busy machine"
    assert process.returncode == 130
    assert f"interrupted; results so far in {folder / 'out'}" in output
    assert "Traceback" not in errors
    results = RunResults.load(folder / "out")
    assert not results.complete


@pytest.mark.ray
def test_the_ray_engine_gives_each_client_its_gpu_and_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ray is told of two GPUs that are not there: what the clients see shows how they are shared out."""
    devices = ["--gpus-per-client", "1", "--gpus", "2"]
    assert run_command(["run", "tiny.toml", "--engine", "ray", *devices]) == 0
    results = json.loads((folder / "runs" / "tiny-seed0-ray" / "results.json").read_text())
    assert results["engine"] == "ray" and results["complete"]
    trained = {(use["client"], use["cuda_visible_devices"]) for use in results["devices"] if use["message"] == "train"}
    assert {client for client, _ in trained} == {"0", "1"}
    assert {visible for _, visible in trained} == {"0", "1"}
    assert "results in" in capsys.readouterr().out
