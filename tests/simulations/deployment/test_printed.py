"""The commands that `fed-unlearn launch --print` writes; a slow test runs them."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from fed_unlearn.ledger import Ledger
from fed_unlearn.simulations.cli import run_command
from fed_unlearn.simulations.deployment.layout import Layout
from fed_unlearn.simulations.deployment.printed import Part, Plan, as_text
from fed_unlearn.simulations.engines.commands import environment_of, free_port

TINY = Path(__file__).parents[2] / "support" / "tiny.toml"
SETTINGS = {"scenario": "digits", "set": "clients.count=3; name='o\"$x'".replace("'", ""), "seed": 4}


def plan(**layout: object) -> Plan:
    return Plan(
        layout=Layout(nodes=2, **layout),  # type: ignore[arg-type]
        host="10.1.2.3",
        folder="fed-unlearn/tiny",
        settings=SETTINGS,
    )


def test_parts_come_in_the_order_in_which_machines_need_them() -> None:
    first, second = ((f"the machine of node {node}", what) for node, what in ((0, ""), (1, "")))
    parts = [(part.machine, part.purpose, part.stays) for part in plan(tls=True, auth=True).parts()]
    server = "the SuperLink's machine"
    assert parts == [
        (server, "certificates", False),
        (server, "the SuperLink", True),
        (first[0], "its key", False),
        (second[0], "its key", False),
        (server, "the connection of flwr", False),
        (server, "registration", False),
        (first[0], "the node", True),
        (second[0], "the node", True),
        (server, "the run", False),
    ]
    plain = [part.purpose for part in plan().parts()]
    assert plain == ["the SuperLink", "the connection of flwr", "the node", "the node", "the run"]


def test_bash_reads_every_part_and_what_was_typed_stays_one_word(tmp_path: Path) -> None:
    for part in plan(tls=True, auth=True, gpus=(0, 1)).parts():
        subprocess.run(["bash", "-n"], input="\n".join(part.lines), text=True, check=True)
    run = plan().parts()[-1]
    shown = "\n".join(run.lines).replace("flwr run", "printf '%s\\n'").replace("fed-unlearn ledger", "true")
    home = {**environment_of(tmp_path), "HOME": str(tmp_path)}
    words = subprocess.run(["bash"], input=shown, text=True, capture_output=True, env=home, check=True).stdout
    assert "set='clients.count=3; name=o\"$x'" in words.splitlines()
    assert f"out='{tmp_path}/fed-unlearn/tiny/run'" in words.splitlines()


def test_what_is_not_protected_is_said() -> None:
    assert "Nothing is encrypted" in as_text(plan())
    protected = as_text(plan(tls=True, auth=True))
    assert "Nothing is encrypted" not in protected and "--insecure" not in protected
    assert "Whoever reaches port 9093 can start runs" in protected


def started(part: Part, home: Path) -> "subprocess.Popen[bytes]":
    environment = {**environment_of(home / "flower"), "HOME": str(home)}
    environment.pop("FLWR_HOME")
    with (home / f"{part.machine}, {part.purpose}.txt").open("wb") as log:
        return subprocess.Popen(
            ["bash", "-e", "-c", "\n".join(part.lines)], env=environment, stdout=log, stderr=log, start_new_session=True
        )


@pytest.mark.ray
def test_the_commands_run_a_federation_as_they_are(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    layout = Layout(nodes=2, tls=True, auth=True, port=free_port())
    tiny = Plan(layout=layout, host="127.0.0.1", folder="federation", settings={"scenario": str(TINY), "seed": 4})
    staying = []
    try:
        for part in tiny.parts():
            process = started(part, home)
            if part.stays:
                staying.append(process)
                time.sleep(10.0)
            else:
                assert process.wait(timeout=400) == 0, as_text(tiny)
    finally:
        for process in reversed(staying):
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=30)
    assert run_command(["run", str(TINY), "--seed", "4", "--out", str(tmp_path / "alone")]) == 0
    served = [Ledger(folder / "ledger.db").served_model() for folder in (home / "federation/run", tmp_path / "alone")]
    assert served[0] == served[1]
    keys = [path for path in (home / "federation").iterdir() if re.search(r"\.key$", path.name)]
    assert len(keys) == 4 and all(path.stat().st_mode & 0o077 == 0 for path in keys)
