"""The apps of ``tests/apps``, as they are and with the differences of the guide."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import tomllib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from flwr.app import Context, RecordDict
from pages import REPOSITORY, blocks

from fed_unlearn.ledger import Ledger, LedgerEntry
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.simulations.engines.app_run import run_app
from fed_unlearn.simulations.engines.commands import FlowerCommands
from fed_unlearn.simulations.engines.superlink import LocalSuperLink
from fed_unlearn.simulations.inprocess import InProcessGrid

APPS = ("quickstart", "hub_images", "private_head", "adapters", "local_privacy")
CLIENTS = 4
BATCH_SIZE = 32


def difference(app: str) -> str:
    """What the guide changes in an app."""
    [found] = [block.text for block in blocks("diff", "apps.md") if block.text.startswith(f"--- a/{app}/")]
    return found


def changed_lines(app: str) -> tuple[int, int]:
    """New lines of an app, and among them those that are not empty. None of the app's own is changed."""
    lines = [line for line in difference(app).split("\n") if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    lines = [line for line in lines if line]
    assert all(line.startswith("+") for line in lines)
    return len(lines), sum(bool(line[1:].strip()) for line in lines)


def plugged(app: str, folder: Path) -> Path:
    """A copy of an app with the difference applied."""
    made = folder / app
    shutil.copytree(REPOSITORY / "tests" / "apps" / app, made, ignore=shutil.ignore_patterns("__pycache__"))
    outside = {**os.environ, "GIT_CEILING_DIRECTORIES": str(folder)}
    subprocess.run(["git", "apply", "-"], input=difference(app), text=True, cwd=made, env=outside, check=True)
    return made


class PluggedApp(ABC):
    """A plugged app that works in the folder that its own folder is in."""

    def __init__(self, app: str, folder: Path) -> None:
        self.app, self.folder = folder / app, folder
        self.task = importlib.import_module(f"{app}.task")

    @abstractmethod
    def run(self, **config: int) -> None:
        """Run the ServerApp once."""

    def ask(self, request: ForgetRequest) -> None:
        with self._ledger() as ledger:
            ledger.receive(request)

    def entry(self, request_id: str) -> LedgerEntry:
        with self._ledger() as ledger:
            return ledger.entry(request_id)

    @contextmanager
    def _ledger(self) -> Iterator[Ledger]:
        ledger = Ledger(self.folder / "ledger.db")
        try:
            yield ledger
        finally:
            ledger.close()

    def accuracy_by_class(self) -> list[float]:
        """Accuracy of the saved model on all clients' held-out samples, by class, counted here."""
        return accuracy_by_class(self.task, self.folder / "final_model.pt")


class InProcess(PluggedApp):
    """It runs in this process."""

    def __init__(self, app: str, folder: Path) -> None:
        super().__init__(app, folder)
        told = tomllib.loads((self.app / "pyproject.toml").read_text())
        self._config = told["tool"]["flwr"]["app"]["config"]
        self.client, self.server = (importlib.import_module(f"{app}.{name}") for name in ("client_app", "server_app"))

    def run(self, **config: int) -> None:
        whole = self._whole(config)
        self._serve(InProcessGrid(self.client.app, CLIENTS, run_config=whole), whole)

    def run_again(self, **config: int) -> None:
        """Run the ServerApp once more, with the clients of the last run and what they keep in their state."""
        self._serve(self._grid, self._whole(config))

    def states(self) -> list[RecordDict]:
        """The state of each client."""
        return [self._grid._contexts[client + 1].state for client in range(CLIENTS)]

    def _whole(self, config: Mapping[str, int]) -> dict[str, Any]:
        return {**self._config, **{key.replace("_", "-"): value for key, value in config.items()}}

    def _serve(self, grid: InProcessGrid, whole: dict[str, Any]) -> None:
        self._grid = grid
        self.server.app(grid, Context(run_id=1, node_id=0, node_config={}, state=RecordDict(), run_config=whole))


class FlwrRun(PluggedApp):
    """It is run by ``flwr run`` on Flower's simulation runtime."""

    def __init__(self, app: str, folder: Path, commands: FlowerCommands) -> None:
        super().__init__(app, folder)
        self._commands = commands

    def run(self, **config: int) -> None:
        settings = {key.replace("_", "-"): value for key, value in config.items()}
        federation = {"num-supernodes": CLIENTS, "client-resources-num-cpus": 1, "init-args-num-cpus": 1}
        ended = run_app(self._commands, self.app, settings, federation=federation)
        assert ended.completed, "\n".join(ended.last_lines)


def accuracy_by_class(task: ModuleType, weights: Path) -> list[float]:
    torch.manual_seed(0)
    model = task.Net()
    model.load_state_dict(torch.load(weights), strict=False)
    model.eval()
    right, seen = [0] * 10, [0] * 10
    for client in range(CLIENTS):
        _, held_out = task.load_data(client, CLIENTS, BATCH_SIZE)
        for batch in held_out:
            images, labels = (batch["img"], batch["label"]) if isinstance(batch, dict) else batch
            with torch.no_grad():
                said = model(images).argmax(1)
            for label, answer in zip(labels.tolist(), said.tolist(), strict=True):
                right[label] += label == answer
                seen[label] += 1
    return [hits / count for hits, count in zip(right, seen, strict=True)]


@contextmanager
def loaded(app: str, folder: Path, engine: str) -> Iterator[PluggedApp]:
    """The plugged app with its modules importable; they are gone again at the end."""
    before, paths = Path.cwd(), list(sys.path)
    os.chdir(folder)
    sys.path.insert(0, str(folder / app))
    try:
        if engine == "in process":
            yield InProcess(app, folder)
        else:
            with LocalSuperLink(folder / "superlink.log", folder) as superlink:
                yield FlwrRun(app, folder, superlink.commands)
    finally:
        os.chdir(before)
        sys.path[:] = paths
        for name in [name for name in sys.modules if name.partition(".")[0] == app]:
            del sys.modules[name]
