"""The app of the Flower guide on a real federation, run twice: the second run serves, and does not train again."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest
from deployed import Deployed, deployed, eventually
from pages import block

from fed_unlearn.ledger import Ledger
from fed_unlearn.ledger.lifecycle import Status


def write_app(folder: Path) -> None:
    """The blocks of the guide as the files that they name."""
    folder.mkdir()
    for name in ("pyproject.toml", "server_app.py", "client_app.py"):
        (folder / name).write_text(block("flower.md", f"# {name}"))


def run_app(federation: Deployed, app: Path) -> str:
    """Run the app to its end; return the status of its run."""
    started = json.loads(federation.run("flwr", "run", str(app), "loop", "--format", "json").stdout)

    def status() -> str:
        listed = federation.run("flwr", "ls", "loop", "--run-id", str(started["run-id"]), "--format", "json").stdout
        return str(json.loads(listed)["runs"][0]["status"])

    eventually(lambda: status().startswith("finished"), 400, "the run has ended", 3)
    return status()


@pytest.mark.slow
def test_the_second_run_serves_and_does_not_train(tmp_path: Path) -> None:
    app = tmp_path / "app"
    write_app(app)
    with deployed(tmp_path / "federation", 2) as federation:
        for number in range(2):
            federation.start_node(number)
        assert run_app(federation, app) == "finished:completed"
        ledger_file = federation.folder / "ledger.db"
        with closing(Ledger(ledger_file)) as ledger:
            trained = [event.facts for event in ledger.events() if event.name == "model-accepted"]
            assert [entry.status for entry in ledger.entries()] == [Status.COMMITTED]

        federation.run("fed-unlearn", "request", "add", str(ledger_file), "--class", "5", "--id", "next-week")
        assert run_app(federation, app) == "finished:completed"
        with closing(Ledger(ledger_file)) as ledger:
            accepted = [event.facts["after"] for event in ledger.events() if event.name == "model-accepted"]
            assert ledger.entry("next-week").status is Status.COMMITTED
            assert ledger.verify().problem is None
        assert sum(str(after).startswith("train:") for after in accepted) == 1
        assert "next-week" in accepted and len(trained) < len(accepted)
