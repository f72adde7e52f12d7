"""Apps of the kinds that Flower's examples have forget on request, with the few lines that the guide adds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from keeping_node import holds_bytes, put_by, seen
from plugged_apps import APPS, CLIENTS, InProcess, changed_lines, loaded, plugged

from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.requests import ForgetRequest

FORGOTTEN = 3


@pytest.mark.parametrize("app", APPS)
def test_five_new_lines_are_enough(app: str) -> None:
    added, written = changed_lines(app)
    assert written == 5 and added <= 10


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["in process", pytest.param("flwr run", marks=pytest.mark.ray)])
@pytest.mark.parametrize("app", APPS)
def test_a_class_samples_and_a_client_are_forgotten(
    app: str, engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FED_UNLEARN_HOME", str(tmp_path / "home"))
    torch.manual_seed(0)
    plugged(app, tmp_path)
    with loaded(app, tmp_path, engine) as running:
        running.run()
        before = running.accuracy_by_class()
        assert min(before) > 0.5 and before[FORGOTTEN] > 0.8
        running.ask(ForgetRequest.for_class(FORGOTTEN, id="class"))
        running.run(num_server_rounds=1)
        after = running.accuracy_by_class()
        assert running.entry("class").status is Status.COMMITTED
        assert after[FORGOTTEN] <= 0.05
        kept = [label for label in range(10) if label != FORGOTTEN]
        assert sum(before[label] - after[label] for label in kept) / len(kept) < 0.03

        running.ask(ForgetRequest.for_samples(1, sample_ids=[0, 2, 4, 11], id="samples"))
        running.ask(ForgetRequest.for_client(2, id="client"))
        running.run(num_server_rounds=1)
        assert running.entry("samples").status is Status.COMMITTED
        assert running.entry("client").status is Status.COMMITTED
        last = running.accuracy_by_class()
        assert last[FORGOTTEN] <= 0.05 and sum(last[label] for label in kept) / len(kept) > 0.8
        if app == "private_head":
            rows = json.loads(Path("rounds.json").read_text())
            assert [row["round"] for row in rows] == [1] and Path("best_model.pt").exists()


IMPOSSIBLE = {
    "class": 'parameters={"boundary-shrink": {"learning_rate": 1e-12}}',
    "samples": "max_request_norm=1e-6, alternations=1",
}
"""What makes a plan by which no request can be served: all steps have no length."""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["class", "samples"])
@pytest.mark.parametrize("is_possible", [False, True])
def test_a_private_head_comes_back_unless_the_request_is_committed(
    is_possible: bool, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FED_UNLEARN_HOME", str(tmp_path / "home"))
    torch.manual_seed(0)
    server = plugged("private_head", tmp_path) / "private_head" / "server_app.py"
    if not is_possible:
        told = server.read_text()
        assert "max_request_norm=6" in told
        server.write_text(told.replace("max_request_norm=6", IMPOSSIBLE[name]))
    asked = {
        "class": ForgetRequest.for_class(FORGOTTEN, id="class"),
        "samples": ForgetRequest.for_samples(1, sample_ids=[0, 2, 4, 11], id="samples"),
    }
    with loaded("private_head", tmp_path, "in process") as running:
        assert isinstance(running, InProcess)
        running.run()
        states = running.states()
        before, old = [seen(state) for state in states], [state.array_records["head"] for state in states]
        running.ask(asked[name])
        running.run_again(num_server_rounds=0)
        states = running.states()
    assert running.entry(name).status is (Status.COMMITTED if is_possible else Status.FAILED)
    assert not any(put_by(state) for state in states)
    lost = () if not is_possible else range(CLIENTS) if name == "class" else (1,)
    for client in range(CLIENTS):
        assert (seen(states[client]) == before[client]) is (client not in lost)
        assert holds_bytes(states[client], old[client]) is (client not in lost)
