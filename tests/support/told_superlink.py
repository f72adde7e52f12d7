"""What a SuperLink answers to Flower's commands, as a test tells it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

from fed_unlearn.simulations.engines.commands import FlowerCommands
from fed_unlearn.simulations.engines.errors import EngineError


class ToldSuperLink(FlowerCommands):
    """What a SuperLink answers to `flwr`, without one. A run ends as ``endings`` says; None lets it go on."""

    def __init__(self, *endings: str | None) -> None:
        super().__init__({})
        self.endings = list(endings)
        self.runs: dict[str, str] = {}
        self.started = 0
        self.is_away = False
        self.refusal = ""
        self.on_log: Callable[[str], None] = lambda run_id: None
        self.on_run: Callable[[], None] = lambda: None

    def call(self, *arguments: str) -> Mapping[str, object]:
        command, *rest = arguments
        if self.is_away:
            raise EngineError(f"flwr {command}: connection refused")
        return {"run": self._run, "ls": self._ls, "stop": self._stop}[command](*rest)

    def _run(self, *_: str) -> Mapping[str, object]:
        if self.refusal:
            raise EngineError(f"flwr run: {self.refusal}")
        self.started += 1
        run_id = str(100 + self.started)
        self.runs[run_id] = self.endings.pop(0) or "running"
        self.on_run()
        return {"run-id": run_id}

    def _ls(self, _: str, *which: str) -> Mapping[str, object]:
        runs = {which[1]: self.runs[which[1]]} if which and which[1] in self.runs else {} if which else self.runs
        if which and not runs:
            raise EngineError("flwr ls: the run was not found")
        return {"runs": [{"run-id": run_id, "status": status} for run_id, status in runs.items()]}

    def _stop(self, run_id: str, *_: str) -> Mapping[str, object]:
        if self.runs[run_id] != "running":
            raise EngineError("flwr stop: it is over")
        self.runs[run_id] = "finished:stopped"
        return {}

    def log_lines(self, run_id: str, check: Callable[[], None] = lambda: None) -> Iterator[str]:
        yield f"line of {run_id}"
        self.on_log(run_id)
        while not self.is_away and self.runs.get(run_id) == "running":
            time.sleep(0.02)
