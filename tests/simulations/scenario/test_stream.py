import random
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import made_benchmarks
import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict

from fed_unlearn.avalanche.streams.benchmarks import experience_ids
from fed_unlearn.avalanche.streams.samples import sample_ids
from fed_unlearn.client.store import ClientStore
from fed_unlearn.data.images import ClientData, ImageSet
from fed_unlearn.errors import InvalidDataError
from fed_unlearn.pass_counter import PassCounter
from fed_unlearn.protocol import ARRIVALS_KEY, arrivals_record
from fed_unlearn.protocol.instructions import arriving
from fed_unlearn.simulations.cli import run_command
from fed_unlearn.simulations.client_app import app
from fed_unlearn.simulations.inprocess import InProcessGrid
from fed_unlearn.simulations.run.data_checks import check_parts
from fed_unlearn.simulations.run.driver import run_in_process
from fed_unlearn.simulations.run.stream import Experiences, arrivals_of_clients, benchmark_of, experiences_of
from fed_unlearn.simulations.scenario import ScenarioError, load_scenario
from fed_unlearn.simulations.scenario.sections import Scenario
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
        check_parts(load_scenario(str(path), overrides))
    message = str(caught.value)
    assert all(line.startswith("arriving.toml: ") for line in message.split("\n"))
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
        (["stream.benchmark=domain-incremental"], "stream.benchmark: 'domain-incremental' was given; expected 'class-incremental', 'new-instances' or 'package.module:callable'"),
        (["stream.benchmark=:made"], "stream.benchmark: ':made' was given; expected 'class-incremental'"),
        (["stream.benchmark=7"], "stream.benchmark: 7 was given; expected 'class-incremental'"),
        (["stream.experience=7"], "stream.experience: is not a known key; did you mean experiences? allowed are benchmark, experiences, class-order, replay-samples"),
        (["stream.task-labels=true"], "stream.task-labels: is not a known key; allowed are benchmark"),
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
    assert problem(path).split("\n") == [
        f'arriving.toml: timeline[{index}].train.experience: {number} was given; expected "all", since there is no [stream]'
        for index, number in ((0, 1), (1, 2), (3, 4))
    ]


OF_USER = """
benchmark = "made_benchmarks:{name}"
replay-samples = 6
"""
OWN = "stream.benchmark: made_benchmarks:"


def of_user(path: Path, name: str) -> Path:
    path.write_text(STREAM[: STREAM.index("benchmark")] + OF_USER.format(name=name) + STREAM[STREAM.index("[[") :])
    return path


@pytest.mark.parametrize(
    ("name", "overrides", "expected"),
    [
        ("absent", [], "stream.benchmark: made_benchmarks has no callable 'absent'"),
        ("NOT_CALLABLE", [], "stream.benchmark: made_benchmarks has no callable 'NOT_CALLABLE'"),
        ("halves", ["stream.benchmark=nowhere.at_all:make"], "stream.benchmark: nowhere.at_all cannot be imported (No module named 'nowhere')"),
        ("halves", ["stream.weight=2"], OWN + "halves made no benchmark with weight=2 (TypeError: halves() got an unexpected keyword argument 'weight')"),
        ("halves", ["stream.experiences=2"], OWN + "halves made no benchmark with experiences=2 (TypeError"),
        ("halves", ["stream.class-order=[1, 0]"], OWN + "halves made no benchmark with class_order=(1, 0) (TypeError"),
        ("failing", ["stream.weight=2.5"], OWN + "failing made no benchmark with weight=2.5 (RuntimeError: no benchmark of weight 2.5)"),
        ("no_benchmark", [], "stream.benchmark: a tuple was given; expected an Avalanche benchmark, a CLScenario with a train_stream"),
        ("without_ids", [], "stream.benchmark: experience 1 of the train stream: a data set of 2 samples without sample ids"),
        ("twice", [], "stream.benchmark: sample '"),
        ("of_test_samples", [], "stream.benchmark: experience 2 has a sample '"),
        ("renaming", [], "stream.benchmark: experience 1 of the train stream gives sample '"),
        ("renaming_tests", [], "stream.benchmark: experience 1 of the test stream gives sample '"),
        ("darkened", [], "stream.benchmark: experience 1 of the train stream shows a sample that a client holds as another image"),
        ("darkened", ["stream.only=test"], "stream.benchmark: experience 1 of the test stream shows a sample that a client holds as another"),
        ("normalised", [], "stream.benchmark: experience 1 of the train stream shows a sample that a client holds otherwise (InvalidDataError"),
        ("of_other_images", [], "stream.benchmark: experience 1 of the train stream shows a sample that a client holds as another"),
        ("without_tests", ["reporting.loggers=['csv']"], "stream.benchmark: the benchmark has no test stream; [reporting] expects one"),
        ("halves", [], "timeline[3].train.experience: 4 is not an experience of the stream (1..2)"),
        ("halves", ["timeline.3.train.experience=1"], "timeline[3].train.experience: 1 comes after 2"),
        ("halves", ["timeline.0.train.experience=all"], 'timeline[0].train.experience: "all" was given before any experience had arrived; expected a number (from 1)'),
    ],
)  # fmt: skip
def test_problems_of_a_users_benchmark_name_place_value_and_what_is_allowed(
    path: Path, name: str, overrides: list[str], expected: str
) -> None:
    of_user(path, name)
    assert problem(path, *overrides).startswith(f"arriving.toml: {expected}")


def test_nothing_is_written_where_the_benchmark_cannot_be_made(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["run", str(of_user(path, "failing")), "--out", str(path.parent / "out")]) == 2
    assert "arriving.toml: stream.benchmark: made_benchmarks:failing made no" in " ".join(
        capsys.readouterr().err.split()
    )
    assert not (path.parent / "out").exists()


def test_a_resolved_scenario_says_what_was_given_and_no_more(path: Path) -> None:
    for name, overrides in (("new_classes", ["stream.experiences=5"]), ("halves", ["stream.left-out=4"])):
        scenario = load_scenario(str(of_user(path, name)), overrides)
        copied = path.with_name("copied.toml")
        copied.write_text(scenario.to_toml())
        again = load_scenario(str(copied))
        assert again.stream == scenario.stream
        assert again.stream is not None and (again.stream.experiences is None) == (name == "halves")
    path.write_text(STREAM.replace("experiences = 5\n", ""))
    plain = load_scenario(str(path))
    assert plain.stream is not None and plain.stream.experiences == 5 and "experiences = 5" in plain.to_toml()


def test_every_entry_knows_its_experience_and_what_has_arrived(scenario: Scenario, tmp_path: Path) -> None:
    assert [scenario.experience_at(index) for index in range(5)] == [1, 2, 0, 4, 0]
    assert [scenario.arrived_at(index) for index in range(5)] == [1, 2, 2, 4, 4]
    repeated = load_scenario(str(tmp_path / "arriving.toml"), ["timeline.3.train.experience=2"])
    assert [repeated.arrived_at(index) for index in range(5)] == [1, 2, 2, 2, 2]
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


def experiences_by(scenario: Scenario) -> tuple[Experiences, list[ClientData]]:
    """The experiences of a scenario, and its clients as they are told of them."""
    source = source_of(scenario.data)
    experiences = experiences_of(scenario, source)
    assert experiences is not None
    arrivals = arrivals_of_clients(scenario, source, experiences)
    count = scenario.clients.count
    assert list(arrivals) == [str(client) for client in range(count)]
    clients = [
        arriving(data_of_client(scenario, source, client), list(arrivals[str(client)].values()))
        for client in range(count)
    ]
    return experiences, clients


def test_class_incremental_experiences_bring_the_classes_of_the_order(scenario: Scenario) -> None:
    experiences, clients = experiences_by(scenario)
    assert [set(classes) for classes in experiences.classes] == list(CLASSES.values())
    assert [experiences.arrived_classes(number) for number in (1, 2, 5)] == [(3, 8), (0, 1, 3, 8), tuple(range(10))]
    for data in clients:
        assert {number: set(data.of_experience(number).labels.tolist()) for number in CLASSES} == CLASSES
        assert data.experience_count == 5


def test_new_instances_are_shares_of_all_samples_and_of_every_class(path: Path) -> None:
    scenario = load_scenario(str(path), ["stream={benchmark = 'new-instances', experiences = 4}"])
    experiences, clients = experiences_by(scenario)
    sizes = [len(part) for part in experiences.ids]
    assert sum(sizes) == sum(len(data.train) for data in clients) and max(sizes) - min(sizes) <= 1
    assert all(experiences.arrived_classes(number) == tuple(range(10)) for number in (1, 4))
    for data in clients:
        share = len(data.train) / 4
        # A client's part of a share is hypergeometric, with a deviation below that of a binomial draw.
        assert all(abs(len(data.of_experience(number)) - share) < 4 * (share * 0.75) ** 0.5 for number in range(1, 5))


def test_a_benchmark_is_the_same_for_the_same_seed_and_leaves_global_generators_alone(path: Path) -> None:
    of_user(path, "new_classes")
    timeline = "timeline=[{train = {experience = 1, rounds = 1}}]"
    torch.manual_seed(3)
    before = torch.get_rng_state()
    drawn = [experiences_by(load_scenario(str(path), [f"seed={seed}", timeline]))[0].classes for seed in (0, 1, 2)]
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    again = [experiences_by(load_scenario(str(path), [f"seed={seed}", timeline]))[0].classes for seed in (0, 1, 2)]
    assert drawn == again and len(set(drawn)) > 1


TWO = "timeline=[{train = {experience = 1, rounds = 1}}, {train = {experience = 2, rounds = 1}}]"


@pytest.mark.parametrize("name", ["augmented", "without_tests"])
def test_what_does_not_reach_the_server_either_is_not_refused(path: Path, name: str) -> None:
    parts = check_parts(load_scenario(str(of_user(path, name)), ["timeline=[{train = {experience = 1, rounds = 1}}]"]))
    assert parts.experiences is not None and len(parts.experiences.ids[0]) > 400


def test_a_callable_may_draw_from_any_global_generator(path: Path) -> None:
    of_user(path, "shuffled")

    def states() -> tuple[object, ...]:
        return (
            random.getstate(),
            np.random.get_state()[1].tobytes(),
            np.random.get_state()[2],
            torch.get_rng_state().tolist(),
        )

    before = states()
    drawn = [check_parts(load_scenario(str(path), [TWO, f"seed={seed}"])).experiences for seed in (0, 0, 1)]
    assert states() == before and drawn[0] == drawn[1] and drawn[0] is not None and drawn[2] is not None
    assert set(drawn[0].ids[0]) != set(drawn[2].ids[0])
    assert drawn[0].ids[0] != tuple(sorted(drawn[0].ids[0], key=int))


def test_a_callable_is_called_once_a_run_and_the_report_has_its_benchmark(path: Path) -> None:
    scenario = load_scenario(str(of_user(path, "shuffled")), [TWO, "reporting.loggers=['csv']"])
    made_benchmarks.calls.clear()
    run_in_process(scenario, path.parent / "out")
    assert made_benchmarks.calls == ["shuffled"]


def test_a_run_does_not_go_on_with_other_experiences(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scenario, out = load_scenario(str(of_user(path, "drawn_anew")), [TWO]), path.parent / "out"
    run_in_process(scenario, out)
    kept = (out / "stream.json").read_bytes()
    with pytest.raises(ScenarioError) as caught:
        run_in_process(scenario, out)
    assert str(caught.value).startswith("arriving.toml: stream.benchmark: gives experiences of ")
    assert (out / "stream.json").read_bytes() == kept
    monkeypatch.setattr(made_benchmarks, "drawn_anew", made_benchmarks.shuffled)
    again = path.parent / "again"
    run_in_process(scenario, again)
    run_in_process(scenario, again)  # the same ones
    (again / "stream.json").write_text("{}")
    with pytest.raises(InvalidDataError, match="not readable"):
        run_in_process(scenario, again)


def test_without_a_stream_a_benchmark_is_one_experience_of_everything() -> None:
    scenario = load_scenario("digits")
    source = source_of(scenario.data)
    assert experiences_of(scenario, source) is None
    benchmark = benchmark_of(scenario, source)
    [everything] = experience_ids(benchmark)
    clients = [data_of_client(scenario, source, client) for client in range(10)]
    held = {sample_id for data in clients for sample_id in data.train.ids}
    assert list(everything) == [sample_id for sample_id in source.train.ids if sample_id in held]
    [test] = benchmark.test_stream
    assert sample_ids(test.dataset) == source.test.ids


class Clients:
    """The clients of a scenario, by messages; remembers the ids that each trained on."""

    def __init__(self, scenario: Scenario, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file = folder / "scenario.toml"
        file.write_text(scenario.to_toml())
        self.scenario, self.folder = scenario, folder
        self.source = source_of(scenario.data)
        self.arrays = ArrayRecord(new_model(scenario, self.source).state_dict())
        _, self.data = experiences_by(scenario)
        experiences = experiences_of(scenario, self.source)
        assert experiences is not None
        self.arrivals = arrivals_of_clients(scenario, self.source, experiences)
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
            Message(
                RecordDict({**records, ARRIVALS_KEY: arrivals_record(self.arrivals[str(client)])}),
                dst_node_id=client + 1,
                message_type=message_type,
            )
            for client in range(self.scenario.clients.count)
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
        data = clients.data[client]
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
    data = clients.data[0]
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
        ({"arrived-classes": [0, 1, 3, 8]}, {0, 1, 3, 8}),
        ({"arrived-classes": [0, 1, 3, 8], "forgotten-classes": [3]}, {0, 1, 8}),
        ({"forgotten-classes": [3]}, set(range(10)) - {3}),
        ({}, set(range(10))),
    ):
        replies = clients.send("evaluate", **config)
        for client, reply in enumerate(replies):
            test = clients.data[client].test
            chosen = [index for index, label in enumerate(test.labels.tolist()) if label in classes]
            pixels, labels = test.batch(torch.tensor(chosen))
            with torch.no_grad():
                logits = model(pixels)
            metrics = reply.content.metric_records["metrics"]
            assert metrics["num-examples"] == len(chosen)
            assert metrics["accuracy"] == pytest.approx(float((logits.argmax(1) == labels).float().mean()))
            assert metrics["loss"] == pytest.approx(float(torch.nn.functional.cross_entropy(logits, labels)), rel=1e-4)


def test_a_client_that_is_not_told_what_arrives_does_not_train(clients: Clients) -> None:
    config = ConfigRecord({"server-round": 1, "seed": 0, "experience": 1, "arrived": 1})
    content = RecordDict({"arrays": clients.arrays, "config": config})
    [reply] = clients.grid.send_and_receive([Message(content, dst_node_id=1, message_type="train")])
    assert reply.has_error() and "does not say which samples arrive when" in reply.error.reason
    assert not clients.trained
