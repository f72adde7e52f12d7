"""The README's examples do what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from flwr.app import Context, RecordDict

from fed_unlearn.simulations.inprocess import InProcessGrid

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def block(start: str) -> str:
    [found] = [text for text in BLOCKS if text.lstrip().startswith(start)]
    return found


def test_flower_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    client: dict[str, object] = {}
    server: dict[str, object] = {}
    exec(block("# client_app.py"), client)
    exec(block("# server_app.py"), server)
    stores = [{"client-dir": str(tmp_path / str(number))} for number in range(3)]
    grid = InProcessGrid(client["app"], 3, node_configs=stores)  # type: ignore[arg-type]
    context = Context(run_id=1, node_id=0, node_config={}, state=RecordDict(), run_config={})
    server["app"](grid, context)  # type: ignore[operator]
    assert "committed Figures(forget_accuracy=0.0" in capsys.readouterr().out


def test_without_a_federation(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    exec(block("import torch"), names)
    assert capsys.readouterr().out.startswith("True ")


def test_every_block_is_run() -> None:
    assert len(BLOCKS) == 3
