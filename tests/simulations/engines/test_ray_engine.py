import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.simulations.engines.app_run import AppRun
from fed_unlearn.simulations.engines.ray_engine import RayResources, run_on_ray

APP = """
import os, time
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
server = ServerApp()
client = ClientApp()

@client.query("where")
def where(message, context):
    time.sleep(0.2)
    facts = {"client": context.node_config["partition-id"], "gpu": os.environ.get("CUDA_VISIBLE_DEVICES", "none")}
    return Message(RecordDict({"facts": ConfigRecord(facts)}), reply_to=message)

@server.main()
def main(grid, context):
    while len(list(grid.get_node_ids())) < 2:
        time.sleep(0.1)
    replies = grid.send_and_receive([Message(RecordDict(), node, "query.where") for node in grid.get_node_ids()])
    for reply in replies:
        facts = reply.content.config_records["facts"]
        print("WHERE", facts["client"], facts["gpu"])
    print("SETTINGS", context.run_config["out"], context.run_config["oracle"], context.run_config["engine"])
    if MODE == "fail":
        raise ValueError("failed on purpose")
    if MODE == "wait":
        print("WAITING", os.environ["FLWR_HOME"], flush=True)
        time.sleep(600)
"""

PROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "tiny"
version = "0.1.0"
description = ""
license = "Apache-2.0"
dependencies = []
[tool.flwr.app]
publisher = "tests"
[tool.flwr.app.components]
serverapp = "tiny_app:server"
clientapp = "tiny_app:client"
[tool.flwr.app.config]
scenario = ""
out = ""
oracle = false
engine = ""
"""

RUN = """
import sys
from pathlib import Path
from fed_unlearn.simulations.engines.ray_engine import RayResources, run_on_ray
run_on_ray(Path(sys.argv[1]), RayResources(clients=2), app=Path(sys.argv[2]), on_line=lambda line: print(line, flush=True))
"""


def tiny_app(folder: Path, mode: str) -> Path:
    folder.mkdir()
    (folder / "pyproject.toml").write_text(PROJECT)
    (folder / "tiny_app.py").write_text(f'MODE = "{mode}"\n{APP}')
    return folder


def processes_of(flower_home: str) -> list[str]:
    """Commands of all processes that inherited a Flower home, read from /proc by this test itself."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and f"FLWR_HOME={flower_home}".encode() in (entry / "environ").read_bytes():
                found.append((entry / "cmdline").read_bytes().decode(errors="replace"))
        except OSError:
            continue
    return found


@pytest.mark.ray
def test_a_run_that_fails_is_reported_as_failed_with_its_error(tmp_path: Path) -> None:
    out = tmp_path / "run folder"
    out.mkdir()
    lines: list[str] = []
    resources = RayResources(clients=2, cpus=2, gpus=2, gpus_per_client=1)
    run = run_on_ray(out, resources, oracle=True, app=tiny_app(tmp_path / "app", "fail"), on_line=lines.append)
    assert (run.status, run.completed) == ("finished:failed", False)
    assert run.error_line == "ValueError: failed on purpose"
    assert f"SETTINGS {out} True ray" in lines
    where = sorted(line.split()[1:] for line in lines if line.startswith("WHERE"))
    assert [client for client, _ in where] == ["0", "1"]
    assert sorted(gpu for _, gpu in where) == ["0", "1"]


@pytest.mark.ray
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_an_interrupt_stops_the_run_and_ends_every_process(tmp_path: Path) -> None:
    app = tiny_app(tmp_path / "app", "wait")
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, str(tmp_path), str(app)],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    home = Path(next(line.split()[1] for line in process.stdout if line.startswith("WAITING")))
    assert processes_of(str(home))
    process.send_signal(signal.SIGINT)
    interrupted = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - interrupted < 20
    assert "KeyboardInterrupt" in errors
    assert processes_of(str(home)) == []
    assert not home.exists()


def test_resources_become_settings_of_flower_and_gpus_that_are_not_there_are_refused() -> None:
    assert RayResources(clients=4, cpus=2, gpus=1, gpus_per_client=0.5).federation() == {
        "num-supernodes": 4,
        "client-resources-num-cpus": 1,
        "client-resources-num-gpus": 0.5,
        "init-args-num-cpus": 2,
        "init-args-num-gpus": 1,
    }
    with pytest.raises(InvalidParameterError, match=r"--gpus-per-client 1000: \d+ GPUs were found; expected 0 to \d+"):
        RayResources(clients=4, gpus_per_client=1000).federation()
    with pytest.raises(InvalidParameterError, match="--gpus-per-client -1: expected 0 or more"):
        RayResources(clients=4, gpus_per_client=-1)


def test_the_error_of_a_run_is_the_last_line_that_names_one() -> None:
    lines = ("Traceback", "ValueError: first", "fed_unlearn.errors.InvalidDataError: second", "ERROR :  Exit Code: 700")
    assert AppRun("1", "finished:failed", lines).error_line == "fed_unlearn.errors.InvalidDataError: second"
    assert AppRun("1", "finished:failed", ()).error_line == "no log"
