"""What ``fed-unlearn serve`` is told, and what it refuses before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.ledger import Ledger
from fed_unlearn.simulations.cli import run_command
from fed_unlearn.simulations.cli.serve_order import ServeOrder
from fed_unlearn.simulations.engines.commands import connection_file

APP = """
[tool.flwr.app.config]
rounds = 1
name = "a"
server.port = 1
server.host = "h"
"""


@pytest.fixture(autouse=True)
def connection(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path_factory.mktemp("flower")
    (home / "config.toml").write_text(connection_file("127.0.0.1:9"))
    monkeypatch.setenv("FLWR_HOME", str(home))


def refused(order: ServeOrder) -> str:
    with pytest.raises(InvalidParameterError) as caught:
        order.server(Console())
    return str(caught.value)


def test_a_scenario_goes_to_a_folder_of_its_own(tmp_path: Path) -> None:
    tiny, out = str(Path(__file__).parents[2] / "support/tiny.toml"), tmp_path / "run"
    server = ServeOrder(what=tiny, out=out).server(Console())
    assert (server.settings["stay"], server.settings["out"], server.ledger) == (True, str(out), out / "ledger.db")
    again = ServeOrder(what=tiny, out=out, overrides=("serve.owner-seconds=7.0",)).server(Console())
    assert again.settings == server.settings
    assert "owner-seconds = 7.0" in (out / "scenario.toml").read_text()
    assert "holds a run of another scenario" in refused(ServeOrder(what=tiny, out=out, overrides=("seed=5",)))


def test_the_key_of_receipts_reaches_the_app(tmp_path: Path) -> None:
    tiny, key = str(Path(__file__).parents[2] / "support/tiny.toml"), tmp_path / "own.key"
    server = ServeOrder(what=tiny, out=tmp_path / "run", receipt_key=key).server(Console())
    assert server.settings["receipt-key"] == str(key)
    assert "receipt-key" not in ServeOrder(what=tiny, out=tmp_path / "run").server(Console()).settings
    nowhere = tmp_path / "missing" / "own.key"
    assert "--receipt-key" in refused(ServeOrder(what=tiny, out=tmp_path / "other", receipt_key=nowhere))
    assert not (tmp_path / "other").exists()


def test_an_app_takes_its_own_config(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(APP)
    server = ServeOrder(what=str(tmp_path), config=("rounds=3", "name='x'"), ledger=tmp_path / "l.db").server(Console())
    assert (server.app, server.settings) == (tmp_path, {"rounds": 3, "name": "x"})
    assert "expected KEY=VALUE" in refused(ServeOrder(what=str(tmp_path), config=("rounds",)))
    assert "--out with the app" in refused(ServeOrder(what=str(tmp_path), out=tmp_path / "out"))
    assert "--receipt-key with the app" in refused(ServeOrder(what=str(tmp_path), receipt_key=tmp_path / "key"))
    assert "--ledger with the scenario 'digits'" in refused(ServeOrder(what="digits", ledger=tmp_path / "l.db"))


def test_a_folder_that_is_something_else_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert "no run was begun there" in refused(ServeOrder(what="digits", out=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_stop_without_a_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Ledger(tmp_path / "ledger.db").close()
    assert run_command(["serve", "--stop", str(tmp_path)]) == 2
    assert "no server works on" in capsys.readouterr().err
    assert run_command(["serve", "--stop", str(tmp_path / "none.db")]) == 2
    assert run_command(["serve"]) == 2
