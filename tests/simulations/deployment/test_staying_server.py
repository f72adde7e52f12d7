"""A server that stays on a real SuperLink: it serves what comes, is run again after a kill, and stops in order."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from deployed import Deployed, deployed, eventually

from fed_unlearn.locks import who_works_on

TINY = Path(__file__).parents[2] / "support/tiny.toml"


def status_of(federation: Deployed, out: Path) -> dict[str, object]:
    done = federation.run("fed-unlearn", "status", str(out), "--json", check=False)
    body: dict[str, object] = json.loads(done.stdout) if done.returncode in (0, 1) else {}
    return body


def statuses(federation: Deployed, out: Path) -> dict[str, str]:
    rows = status_of(federation, out).get("requests", [])
    return {row["id"]: row["status"] for row in rows}  # type: ignore[attr-defined]


@pytest.mark.slow
def test_requests_a_kill_and_a_stop(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with deployed(tmp_path / "federation", 2) as federation:
        federation.start_node(0)
        federation.start_node(1)
        federation.start("serve", "fed-unlearn", "serve", str(TINY), "--out", str(out))
        eventually(lambda: statuses(federation, out) == {"r1": "committed"}, 240, "the timeline is run", 2)

        federation.run("fed-unlearn", "request", "add", str(out), "--class", "5", "--method", "boundary-shrink")
        eventually(lambda: statuses(federation, out).get("r2") == "committed", 120, "a request is served", 2)
        before = status_of(federation, out)
        assert {row["client"]: row["state"] for row in before["clients"]} == {"0": "connected", "1": "connected"}  # type: ignore[attr-defined]

        server = who_works_on(out / "ledger.db")
        assert server is not None
        os.kill(server, signal.SIGKILL)
        federation.run("fed-unlearn", "request", "add", str(out), "--class", "8")
        eventually(lambda: statuses(federation, out).get("r3") == "committed", 240, "it is served after a kill", 2)
        assert federation.log_of("serve").count("started") == 2

        federation.run("fed-unlearn", "serve", "--stop", str(out))
        assert federation.processes["serve"].wait(60) == 0
        assert federation.run("fed-unlearn", "ledger", "verify", str(out)).stdout.startswith("intact")
        results = json.loads((out / "results.json").read_text())
        assert results["engine"] == "superlink"
        assert {item["id"]: item["status"] for item in results["requests"]} == dict.fromkeys(
            ("r1", "r2", "r3"), "committed"
        )
