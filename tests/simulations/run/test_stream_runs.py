"""A run whose experiences come from a benchmark: clients train on them, sample for sample, and never import avalanche."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
import torch
from flwr.app import ConfigRecord
from torch import nn

from fed_unlearn.avalanche.streams.benchmarks import experience_ids
from fed_unlearn.data.images import ImageSet
from fed_unlearn.ledger import Ledger
from fed_unlearn.pass_counter import PassCounter
from fed_unlearn.simulations.run.driver import run_in_process
from fed_unlearn.simulations.run.stream import benchmark_of
from fed_unlearn.simulations.scenario import load_scenario
from fed_unlearn.simulations.task import ScenarioTask, source_of
from fed_unlearn.strategies import Event

SUPPORT = Path(__file__).parents[2] / "support"
STREAM = """
name = "arriving"
[data]
dataset = "digits"
[clients]
count = 3
partition = "dirichlet"
alpha = 0.5
[model]
name = "small-cnn"
[unlearning]
retention = 1
[unlearning.parameters.boundary-shrink]
epochs = 1
[gate.class]
max-forget-accuracy = "none"
max-retain-drop = "none"
max-total-retain-drop = "none"
[stream]
benchmark = "BENCHMARK"
"""
TRAINING = """
[[timeline]]
train = { experience = 1, rounds = 2 }
[[timeline]]
train = { experience = 2, rounds = 1 }
[[timeline]]
train = { rounds = 1 }
"""


def written(folder: Path, benchmark: str, timeline: str = TRAINING) -> str:
    path = folder / "arriving.toml"
    path.write_text(STREAM.replace("BENCHMARK", benchmark) + timeline)
    return str(path)


@pytest.mark.parametrize(
    ("name", "override"), [("new_classes", "stream.experiences=2"), ("halves", "stream.left-out=40")]
)
def test_clients_train_on_the_experiences_of_a_users_benchmark_sample_for_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, override: str
) -> None:
    scenario = load_scenario(written(tmp_path, f"made_benchmarks:{name}"), [override])
    trained: dict[object, list[tuple[str, ...]]] = defaultdict(list)
    train_locally = ScenarioTask.train

    def train(
        task: ScenarioTask, model: nn.Module, samples: ImageSet, config: ConfigRecord, generator: torch.Generator
    ) -> PassCounter:
        trained[config["experience"], config["server-round"]].append(samples.ids)
        return train_locally(task, model, samples, config, generator)

    monkeypatch.setattr(ScenarioTask, "train", train)
    assert run_in_process(scenario, tmp_path / "out").complete
    first, second = experience_ids(benchmark_of(scenario, source_of(scenario.data)))
    assert len(first) > 400 and len(second) > 400
    for key, expected in (((1, 1), first), ((1, 2), first), ((2, 3), second), ((0, 4), first + second)):
        ids = [sample_id for part in trained.pop(key) for sample_id in part]
        assert sorted(ids) == sorted(expected)
    assert not trained


TWO_REQUESTS = """
[[timeline]]
train = { experience = 1, rounds = 1 }
[[timeline]]
forget = { client = 0, samples = 3 }
[[timeline]]
train = { experience = 2, rounds = 2 }
[[timeline]]
forget = { client = 1, samples = 3 }
"""


def test_a_run_that_was_interrupted_goes_on_with_the_same_experiences(tmp_path: Path) -> None:
    scenario = load_scenario(written(tmp_path, "new-instances", TWO_REQUESTS), ["stream.experiences=2"])

    rounds: list[Event] = []

    def interrupt(event: Event) -> None:
        if event.kind == "training-round":
            rounds.append(event)
            if len(rounds) == 2:  # the first of the second experience
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_in_process(scenario, tmp_path / "cut", observer=interrupt)
    models = []
    for name in ("cut", "whole"):
        assert run_in_process(scenario, tmp_path / name).complete
        models.append(Ledger(tmp_path / name / "ledger.db").served_model())
    assert models[0] == models[1]


# The driver's part without avalanche: a client that is told by hand when its samples arrive.
CLIENTS = """
import sys
from flwr.app import ArrayRecord
from flwr.serverapp.strategy import FedAvg
from fed_unlearn import protocol
from fed_unlearn.simulations.run.assembly import new_gate, new_plan
from fed_unlearn.simulations.client_app import app
from fed_unlearn.simulations.run.scenario_run import timeline_of
from fed_unlearn.simulations.inprocess import InProcessGrid
from fed_unlearn.simulations.scenario import load_scenario
from fed_unlearn.simulations.run.stream import Experiences, arrivals_of_clients
from fed_unlearn.simulations.task import new_model, source_of
from fed_unlearn.strategies import ContinualUnlearning
scenario, folder = load_scenario(sys.argv[1]), sys.argv[2]
source = source_of(scenario.data)
ids = source.train.ids
experiences = Experiences((ids[::2], ids[1::2]), (frozenset(range(10)),) * 2)
class Watched(InProcessGrid):
    told = set()
    def send_and_receive(self, messages, *, timeout=None):
        messages = list(messages)
        self.told |= {m.metadata.message_type for m in messages if protocol.ARRIVALS_KEY in m.content}
        return super().send_and_receive(messages, timeout=timeout)
grid = Watched(app, scenario.clients.count, run_config={"scenario": sys.argv[1], "out": folder})
strategy = ContinualUnlearning(
    FedAvg(min_available_nodes=3), ledger=folder + "/ledger.db", gate=new_gate(scenario), plan=new_plan(scenario),
    arrivals=arrivals_of_clients(scenario, source, experiences),
)
initial = ArrayRecord(new_model(scenario, source).state_dict())
result = strategy.run(grid, timeline_of(scenario, experiences), initial)
print([outcome.status.value for outcome in result.requests], sorted(grid.told), "avalanche" in sys.modules)
"""
ONE_REQUEST = """
[[timeline]]
train = { experience = 1, rounds = 1 }
[[timeline]]
forget = { class = 3 }
[[timeline]]
train = { experience = 2, rounds = 1 }
"""


def run_python(code: str, *arguments: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=folder, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().split("\n")[-1]


def test_a_client_of_a_stream_never_imports_avalanche(tmp_path: Path) -> None:
    """Not even of a benchmark that only the driver's process can import."""
    path = written(tmp_path, "only_at_the_driver:made", ONE_REQUEST)
    told = ["evaluate", "evaluate.audit", "train", "train.confirm", "train.repair", "train.unlearn"]
    assert run_python(CLIENTS, path, str(tmp_path / "out"), folder=tmp_path) == f"['committed'] {told} False"


RUN = """
import json, sys
from fed_unlearn.simulations.cli import run_command
print([(run_command(arguments), "avalanche" in sys.modules) for arguments in json.loads(sys.argv[1])])
"""


def test_only_a_run_with_a_stream_imports_avalanche(tmp_path: Path) -> None:
    stream = written(tmp_path, "class-incremental", ONE_REQUEST.split("[[timeline]]\nforget")[0])
    plain = str(SUPPORT / "tiny.toml")
    commands = [
        ["scenarios"],
        ["run", plain, "--set", "timeline=[{train = {rounds = 1}}]", "--out", "plain"],
        ["run", stream, "--out", "stream"],
    ]
    assert run_python(RUN, json.dumps(commands), folder=tmp_path) == "[(0, False), (0, False), (0, True)]"
