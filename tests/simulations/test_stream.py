from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict

from fed_unlearn.client_store import ClientStore
from fed_unlearn.data.images import ImageSet
from fed_unlearn.methods.base import PassCounter
from fed_unlearn.simulations.client_app import app
from fed_unlearn.simulations.data_checks import check_clients
from fed_unlearn.simulations.inprocess import InProcessGrid
from fed_unlearn.simulations.scenario import ScenarioError, check_against_data, load_scenario
from fed_unlearn.simulations.sections import Scenario
from fed_unlearn.simulations.stream import arrived_classes
from fed_unlearn.simulations.task import ScenarioTask, data_of_client, new_model, source_of, training_config

STREAM = """
name = "arriving"
[data]
dataset = "digits"
[clients]
count = 3
[model]
name = "small-cnn"
[stream]
benchmark = "class-incremental"
experiences = 5
class-order = [8, 3, 0, 1, 2, 9, 4, 5, 6, 7]
replay-samples = 6
[[timeline]]
train = { experience = 1, rounds = 1 }
[[timeline]]
train = { experience = 2, rounds = 1 }
[[timeline]]
forget = { class = 3 }
[[timeline]]
train = { experience = 4, rounds = 1 }
[[timeline]]
train = { experience = "all", rounds = 1 }
"""
CLASSES = {1: {3, 8}, 2: {0, 1}, 3: {2, 9}, 4: {4, 5}, 5: {6, 7}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "arriving.toml"
    path.write_text(STREAM)
    return path


@pytest.fixture
def scenario(path: Path) -> Scenario:
    return load_scenario(str(path))


def problem(path: Path, *overrides: str) -> str:
    with pytest.raises(ScenarioError) as caught:
        scenario = load_scenario(str(path), overrides)
        check_against_data(scenario, class_count=10)
        check_clients(scenario, source_of(scenario.data))
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["timeline.3.train.experience=7"], "timeline[3].train.experience: 7 is not an experience of the stream (1..5)"),
        (["timeline.3.train.experience=1"], "timeline[3].train.experience: 1 comes after 2; expected experiences in increasing order"),
        (["timeline.0.train.experience=all"], 'timeline[0].train.experience: "all" was given before any experience had arrived; expected a number (1..5)'),
        (["timeline.0.train.experience=0"], 'timeline[0].train.experience: 0 was given; expected "all" or the number of an experience, from 1'),
        (["timeline.0.train.experience=true"], 'timeline[0].train.experience: True was given; expected "all" or the number'),
        (["timeline.0.train.experience=first"], "timeline[0].train.experience: 'first' was given; expected"),
        (["stream.benchmark=domain-incremental"], "stream.benchmark: 'domain-incremental' was given; expected 'class-incremental' or 'new-instances'"),
        (["stream.benchmark=new-instances"], "stream.class-order: was given with benchmark 'new-instances'; expected none"),
        (["stream.experiences=0"], "stream.experiences: 0 was given"),
        (["stream.experiences=11"], "stream.experiences: 11 was given; 'digits' has 10 classes, one each"),
        (["stream.class-order=[1, 2]"], "stream.class-order: class order [1, 2] was given; expected every class from 0 to 9 once"),
        (["stream.replay-samples=-1"], "stream.replay-samples: -1 was given"),
        (["timeline.2.forget.class=5"], "timeline[2].forget.class: 5 has not arrived by then; classes so far are 0, 1, 3, 8"),
        (["timeline.2.forget.class=12"], "timeline[2].forget.class: 12 is not a class of 'digits' (0..9)"),
        (["timeline.2.forget={classes = [3, 0, 1]}"], "timeline[2].forget: leaves 1 of 4 classes that have arrived by then; at least 2 must stay"),
        (["timeline.1={forget = {class = 3}}"], "timeline[1].forget: leaves 1 of 2 classes that have arrived by then"),
        (["timeline.0={forget = {class = 3}}", "model.checkpoint=m.safetensors"], "timeline[0].forget: no experience of the stream comes before it"),
        (["timeline.2.forget={client = 0, samples = 300}"], "timeline[2].forget.samples: 300 were given; client 0 holds 179 then and must keep at least one"),
        (["timeline.2.forget={client = 0, samples = 1, of-class = 5}"], "timeline[2].forget.samples: 1 were given; client 0 holds 0 of class 5 then"),
    ],
)  # fmt: skip
def test_problems_of_a_stream_name_place_value_and_what_is_allowed(
    path: Path, overrides: list[str], expected: str
) -> None:
    assert problem(path, *overrides).startswith(f"arriving.toml: {expected}")


def test_a_number_needs_a_stream(path: Path) -> None:
    path.write_text(STREAM[: STREAM.index("[stream]")] + STREAM[STREAM.index("[[timeline]]") :])
    assert problem(path) == (
        'arriving.toml: timeline[0].train.experience: 1 was given; expected "all", since there is no [stream]'
    )


def test_every_entry_knows_its_experience_and_what_has_arrived(scenario: Scenario, tmp_path: Path) -> None:
    assert [scenario.experience_at(index) for index in range(5)] == [1, 2, 0, 4, 0]
    assert [scenario.arrived_at(index) for index in range(5)] == [1, 2, 2, 4, 4]
    assert [arrived_classes(scenario, 10, number) for number in (1, 2, 5, 0)] == [
        (3, 8),
        (0, 1, 3, 8),
        tuple(range(10)),
        tuple(range(10)),
    ]
    repeated = load_scenario(str(tmp_path / "arriving.toml"), ["timeline.3.train.experience=2"])
    assert [repeated.arrived_at(index) for index in range(5)] == [1, 2, 2, 2, 2]
    new_instances = ["stream={benchmark = 'new-instances', experiences = 4}"]
    assert arrived_classes(load_scenario(str(tmp_path / "arriving.toml"), new_instances), 10, 1) == tuple(range(10))
    plain = load_scenario("cifar10")
    assert [plain.arrived_at(index) for index in range(3)] == [plain.experience_at(0)] * 3 == [0, 0, 0]


def test_messages_carry_the_experience_only_where_there_is_a_stream(scenario: Scenario) -> None:
    plain = training_config(scenario.training, 3)
    assert "experience" not in plain and "arrived" not in plain
    assert dict(training_config(scenario.training, 3, experience=2, arrived=4)) == {
        **plain,
        "experience": 2,
        "arrived": 4,
    }


def test_clients_share_the_split_of_classes_and_draw_their_own_instances(path: Path) -> None:
    scenario = load_scenario(str(path))
    source = source_of(scenario.data)
    for client in range(3):
        data = data_of_client(scenario, source, client)
        assert {number: set(data.of_experience(number).labels.tolist()) for number in CLASSES} == CLASSES
    scenario = load_scenario(str(path), ["stream={benchmark = 'new-instances', experiences = 4}"])
    for client in range(3):
        data = data_of_client(scenario, source, client)
        sizes = [len(data.of_experience(number)) for number in range(1, 5)]
        assert sum(sizes) == len(data.train) and max(sizes) - min(sizes) <= 1
        assert all(len(data.of_experience(number).labels.unique()) == 10 for number in range(1, 5))


class Clients:
    """The clients of a scenario, by messages; remembers the ids that each trained on."""

    def __init__(self, scenario: Scenario, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file = folder / "scenario.toml"
        file.write_text(scenario.to_toml())
        self.scenario, self.folder = scenario, folder
        self.source = source_of(scenario.data)
        self.arrays = ArrayRecord(new_model(scenario, self.source).state_dict())
        self.trained: dict[int, list[ImageSet]] = defaultdict(list)
        count = scenario.clients.count
        self.grid = InProcessGrid(app, count, run_config={"scenario": str(file), "out": str(folder)})
        clients: Iterator[int] = iter(())

        def record(
            task: ScenarioTask, model: object, samples: ImageSet, config: object, generator: object
        ) -> PassCounter:
            self.trained[next(clients)].append(samples)
            return PassCounter()

        def send(*arguments: object, **keywords: object) -> list[Message]:
            nonlocal clients
            clients = iter(range(count))
            return self._send(*arguments, **keywords)  # type: ignore[arg-type]

        self.send = send
        monkeypatch.setattr(ScenarioTask, "train", record)

    def _send(self, message_type: str, **config: int | list[int]) -> list[Message]:
        records = {"arrays": self.arrays, "config": ConfigRecord({"server-round": 1, "seed": 0, **config})}
        messages = [
            Message(RecordDict(dict(records)), dst_node_id=node, message_type=message_type)
            for node in self.grid.get_node_ids()
        ]
        replies = list(self.grid.send_and_receive(messages))
        assert all(reply.has_content() for reply in replies), [reply.error for reply in replies if reply.has_error()]
        return replies

    def store(self, client: int) -> ClientStore:
        return ClientStore.open(self.folder / "clients" / str(client), self.source.fingerprint)


@pytest.fixture
def clients(scenario: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clients:
    return Clients(scenario, tmp_path, monkeypatch)


def test_a_round_of_an_experience_trains_on_it_and_replays_earlier_ones(clients: Clients) -> None:
    for number in (3, 3, 1):
        replies = clients.send("train", experience=number, arrived=number)
    for client in range(3):
        data = data_of_client(clients.scenario, clients.source, client)
        first, second, alone = clients.trained[client]
        assert first.ids == second.ids  # the same samples are replayed in every round
        assert alone.ids == data.of_experience(1).ids
        assert set(data.of_experience(3).ids) < set(first.ids)
        assert len(set(first.ids)) == len(data.of_experience(3)) + 2 * 6
        for earlier in (1, 2):
            assert len(set(first.ids) & set(data.of_experience(earlier).ids)) == 6
        labels = dict(zip(data.train.ids, data.train.labels.tolist(), strict=True))
        assert first.labels.tolist() == [labels[sample_id] for sample_id in first.ids]
        assert replies[client].content["metrics"]["num-examples"] == len(alone)  # type: ignore[index]


def test_a_forgotten_sample_is_trained_on_neither_as_new_nor_replayed_nor_with_all(clients: Clients) -> None:
    clients.send("train", experience=2, arrived=2)
    before = clients.trained[0][0]
    data = data_of_client(clients.scenario, clients.source, 0)
    replayed = [sample_id for sample_id in before.ids if sample_id in set(data.of_experience(1).ids)]
    forgotten = {replayed[0], data.of_experience(2).ids[3]}
    clients.store(0).quarantine("r1", sorted(forgotten), 1)
    for experience, arrived in ((2, 2), (0, 2), (0, 0)):
        clients.send("train", experience=experience, arrived=arrived)
    _, again, so_far, everything = clients.trained[0]
    assert set(before.ids) - set(again.ids) == forgotten
    assert len(set(again.ids) - set(before.ids)) == 1  # the next one in its place
    assert set(so_far.ids) == set(data.arrived(2).ids) - forgotten
    assert set(everything.ids) == set(data.train.ids) - forgotten
    assert clients.trained[1][0].ids == clients.trained[1][1].ids  # another client notices nothing


def test_accuracy_counts_test_samples_of_classes_that_have_arrived_and_are_not_forgotten(clients: Clients) -> None:
    model = new_model(clients.scenario, clients.source).eval()
    for config, classes in (
        ({"arrived": 2}, {0, 1, 3, 8}),
        ({"arrived": 2, "forgotten-classes": [3]}, {0, 1, 8}),
        ({}, set(range(10))),
    ):
        replies = clients.send("evaluate", **config)
        for client, reply in enumerate(replies):
            test = data_of_client(clients.scenario, clients.source, client).test
            chosen = [index for index, label in enumerate(test.labels.tolist()) if label in classes]
            pixels, labels = test.batch(torch.tensor(chosen))
            with torch.no_grad():
                logits = model(pixels)
            metrics = reply.content.metric_records["metrics"]
            assert metrics["num-examples"] == len(chosen)
            assert metrics["accuracy"] == pytest.approx(float((logits.argmax(1) == labels).float().mean()))
            assert metrics["loss"] == pytest.approx(float(torch.nn.functional.cross_entropy(logits, labels)), rel=1e-4)
