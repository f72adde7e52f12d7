"""`fed-unlearn serve` on a real SuperLink: what the app is told, a lost database, and stops at bad moments."""

from __future__ import annotations

import json
import re
import signal
from contextlib import suppress
from pathlib import Path

import pytest
from deployed import Deployed, children_of, deployed, eventually

PROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "stays"
version = "0.1.0"
description = ""
license = "Apache-2.0"
dependencies = []
[tool.flwr.app]
publisher = "tests"
[tool.flwr.app.components]
serverapp = "stays:server"
clientapp = "stays:client"
[tool.flwr.app.config]
name = ""
a.b = 0
a.c = 0
"""

MODULE = """
import json, time
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
server = ServerApp()
client = ClientApp()

@server.main()
def main(grid, context):
    print("config " + json.dumps(dict(context.run_config)), flush=True)
    while True:
        time.sleep(0.1)
"""


def app_in(folder: Path, project: str = PROJECT) -> str:
    folder.mkdir()
    (folder / "pyproject.toml").write_text(project)
    (folder / "stays.py").write_text(MODULE)
    return str(folder)


def statuses(federation: Deployed) -> list[str]:
    return [run["status"] for run in json.loads(federation.run("flwr", "ls", "--format", "json").stdout)["runs"]]


def calls_flwr_run(pid: int) -> bool:
    """Whether ``flwr run`` is a child. Imports have short children of their own, as that which looks for libraries."""
    for child in children_of(pid):
        with suppress(OSError):
            if b"run" in Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0"):
                return True
    return False


@pytest.mark.slow
def test_settings_a_lost_database_and_stops(tmp_path: Path) -> None:
    app, text = app_in(tmp_path / "app"), "it's \"so\" \\ = 'x y'"
    with deployed(tmp_path / "federation", 0) as federation:
        given = ["-c", "a.b=1", "-c", "a.c=2", "-c", f"name={json.dumps(text)}"]
        serve = federation.start("serve", "fed-unlearn", "serve", app, *given)
        eventually(lambda: "config {" in federation.log_of("serve"), 60, "the app runs")
        (told,) = re.findall(r"config (\{.*\})", re.sub(r"\n +", " ", federation.log_of("serve")))
        assert json.loads(told) == {"a.b": 1, "a.c": 2, "name": text}

        federation.kill("superlink")
        for file in federation.folder.glob("superlink.db*"):
            file.unlink()
        federation.start_superlink()
        eventually(lambda: federation.log_of("serve").count(" started") == 2, 90, "a new run is started")
        assert "the SuperLink does not know run" in federation.log_of("serve")
        federation.terminate("serve")
        assert (serve.returncode, statuses(federation)) == (1, ["finished:stopped"])

        again = federation.start("again", "fed-unlearn", "serve", app)
        eventually(lambda: calls_flwr_run(again.pid), 60, "flwr run is called", 0.01)
        again.send_signal(signal.SIGTERM)
        assert again.wait(90) == 1
        assert statuses(federation) == ["finished:stopped"] * 2


@pytest.mark.slow
def test_an_app_that_the_superlink_refuses_is_told_in_one_line(tmp_path: Path) -> None:
    app = app_in(tmp_path / "app", PROJECT.replace('serverapp = "stays:server"\n', ""))
    with deployed(tmp_path / "federation", 0) as federation:
        done = federation.run("fed-unlearn", "serve", app, check=False)
        assert done.returncode == 2 and "in a row" not in done.stdout
        assert len(done.stderr.splitlines()) == 1 and "was not taken" in done.stderr
        assert statuses(federation) == []
