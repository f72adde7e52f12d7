"""Forget streams over every kind of benchmark, against sets worked out from what the images show."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from avalanche.benchmarks import benchmark_from_datasets, class_incremental_benchmark, nc_benchmark
from avalanche.benchmarks.scenarios import CLScenario
from avalanche.benchmarks.scenarios.generic_scenario import CLExperience, CLStream, EagerCLStream
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.training import Naive
from avalanche.training.plugins import EvaluationPlugin
from federation import DigitsTask
from flwr.app import Context, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_benchmarks import CLASSES, KINDS, TEST, TRAIN, made, numbered, shown
from torch import nn

from fed_unlearn import protocol
from fed_unlearn.avalanche.streams import ForgetExperience, GrowingForgetStream, forget_benchmark
from fed_unlearn.avalanche.streams.samples import has_sample_ids, sample_ids, with_sample_ids
from fed_unlearn.client.samples import forget_set
from fed_unlearn.client.session import ClientSession
from fed_unlearn.data.images import ClientData, ImageSet
from fed_unlearn.errors import InvalidDataError, InvalidRequestError
from fed_unlearn.requests import ClassScope, ClientScope, ForgetRequest, SampleScope
from fed_unlearn.seeding import isolated_random

every_kind = pytest.mark.parametrize("kind", KINDS)
ask = ForgetRequest.for_class
CLIENTS = {
    str(client): [str(number) for number in range(TRAIN) if number // CLASSES % 4 == client] for client in range(4)
}


def seen(scenario: Any) -> list[list[int]]:
    """The numbers that the images of each training experience show."""
    return [shown(experience.dataset) for experience in scenario.streams["train"]]


def first_class(scenario: Any) -> int:
    return int(scenario.train_stream[0].dataset.targets[0])


@every_kind
def test_train_and_test_are_as_they_were_but_for_the_ids(kind: str) -> None:
    benchmark = made(kind)
    before = {name: list(stream) for name, stream in benchmark.streams.items()}
    scenario = forget_benchmark(benchmark, [ForgetRequest.for_samples("0", count=3)])

    assert list(scenario.streams) == [*before, "forget"]
    for name, experiences in before.items():
        stream = scenario.streams[name]
        assert stream.benchmark is scenario and getattr(scenario, f"{name}_stream") is stream
        assert len(stream) == len(experiences)
        for number, (old, new) in enumerate(zip(experiences, stream, strict=True)):
            assert type(new) is type(old) and type(new.dataset) is type(old.dataset)
            assert new.current_experience == old.current_experience == number
            assert new.origin_stream is stream and old.origin_stream is not stream
            assert shown(new.dataset) == shown(old.dataset)
            assert [item[1:] for item in new.dataset] == [item[1:] for item in old.dataset]
            for attribute in ("classes_in_this_experience", "classes_seen_so_far", "task_labels"):
                assert getattr(new, attribute, None) == getattr(old, attribute, None)
            assert not has_sample_ids(old.dataset)
            new.current_experience = 77
            assert old.current_experience == number  # Avalanche's own copies share it
    assert "forget" not in benchmark.streams and not hasattr(benchmark, "forget_stream")


@every_kind
def test_an_id_is_the_index_in_the_data_set_that_all_experiences_are_views_of(kind: str) -> None:
    scenario = forget_benchmark(made(kind), [])
    train = scenario.train_stream
    assert [list(map(int, sample_ids(experience.dataset))) for experience in train] == seen(scenario)
    for name in scenario.streams:
        for experience in scenario.streams[name]:
            if name != "train":
                assert sample_ids(experience.dataset) == tuple(f"{name}:{item}" for item in shown(experience.dataset))


@every_kind
def test_the_forget_stream_is_a_stream(kind: str) -> None:
    scenario = forget_benchmark(
        made(kind),
        {1: ForgetRequest.for_samples("0", count=3), 3: [ForgetRequest.for_samples("0", count=n) for n in (2, 1)]},
    )
    stream = scenario.forget_stream
    looped = list(stream)
    assert len(stream) == 3 and all(isinstance(experience, ForgetExperience) for experience in looped)
    assert [len(experience.dataset) for experience in looped] == [3, 2, 1]
    assert [experience.after for experience in looped] == [1, 3, 3]
    assert [experience.current_experience for experience in looped] == [0, 1, 2]
    assert [experience.request.id for experience in stream[1:]] == ["forget-2", "forget-3"]
    assert [experience.request.id for experience in stream[[0, 2]]] == ["forget-1", "forget-3"]
    assert stream[:2][-1] is looped[1] and len(stream[:2]) == 2
    assert all(experience.origin_stream.benchmark is scenario for experience in looped)


@every_kind
def test_a_class_request_forgets_what_has_arrived_of_the_class(kind: str) -> None:
    benchmark = made(kind)
    label = first_class(forget_benchmark(benchmark, []))
    scenario = forget_benchmark(benchmark, {2: ask(label)})
    [experience] = scenario.forget_stream
    arrived = [number for part in seen(scenario)[:2] for number in part]
    later = seen(scenario)[2]
    expected = sorted(number for number in arrived if number % CLASSES == label)

    assert shown(experience.dataset) == expected and experience.sample_ids == tuple(map(str, expected))
    assert set(experience.dataset.targets) == {label} == set(experience.classes_in_this_experience)
    everything = arrived + later
    assert experience.names([number % CLASSES for number in everything], map(str, everything)) == [
        number % CLASSES == label for number in everything
    ]
    given = scenario.train_stream[1]
    if hasattr(given, "classes_seen_so_far"):
        assert type(experience.classes_in_this_experience) is type(given.classes_in_this_experience)
        assert set(experience.classes_seen_so_far) == {number % CLASSES for number in arrived}
        assert set(experience.future_classes) == set(given.future_classes)
    if hasattr(given, "task_labels"):
        expected_tasks = sorted({item[2] for item in experience.dataset})
        assert experience.task_labels == expected_tasks and len(experience.dataset[0]) == 3
        assert len(expected_tasks) > 1 or experience.task_label == expected_tasks[0]


@pytest.mark.filterwarnings("ignore:No loggers")
@every_kind
def test_a_strategy_trains_on_the_benchmark_and_logs_the_forget_stream(kind: str) -> None:
    given = made(kind)
    label = first_class(forget_benchmark(given, []))
    scenario = forget_benchmark(given, {1: ForgetRequest.for_samples("0", count=3), 2: ask(label)})
    with isolated_random(0):
        model = nn.Sequential(nn.Flatten(), nn.Linear(16, CLASSES))
    logged = EvaluationPlugin(accuracy_metrics(stream=True, experience=True), loggers=[])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    strategy = Naive(
        model=model, optimizer=optimizer, train_mb_size=16, eval_mb_size=16, train_epochs=1, evaluator=logged
    )
    for experience in scenario.train_stream:
        strategy.train(experience)
    streams = {"train": scenario.train_stream, "test": scenario.test_stream, "forget": scenario.forget_stream}
    for name, stream in streams.items():
        results = strategy.eval(stream)
        for number, experience in enumerate(stream):
            images = torch.stack([item[0] for item in experience.dataset])
            labels = torch.tensor([item[1] for item in experience.dataset])
            accuracy = float((model(images).argmax(1) == labels).double().mean())
            tasks = {item[2] if len(item) > 2 else 0 for item in experience.dataset}
            if len(tasks) == 1:
                task = f"Task{tasks.pop():03d}/" if hasattr(experience, "task_labels") else ""
                key = f"Top1_Acc_Exp/eval_phase/{name}_stream/{task}Exp{number:03d}"
                assert results[key] == pytest.approx(accuracy)
        assert any(key.startswith(f"Top1_Acc_Stream/eval_phase/{name}_stream") for key in results)
    for part, numbers in ((slice(2), [0, 1]), ([1], [1]), ([0, 1], [0, 1])):
        strategy.evaluator.reset_last_metrics()
        found = strategy.eval(scenario.forget_stream[part])
        assert {int(key[-3:]) for key in found if "forget_stream" in key and "/Exp" in key} == set(numbers)


@every_kind
def test_no_global_generator_is_drawn_from(kind: str) -> None:
    benchmark = made(kind)
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    requests = {1: ForgetRequest.for_samples("0", count=3), 2: ForgetRequest.for_samples("0", count=2)}
    scenarios = [forget_benchmark(benchmark, requests, seed=5) for _ in range(2)]
    assert torch.equal(torch.get_rng_state(), states[0])
    assert str(np.random.get_state()) == str(states[1]) and random.getstate() == states[2]
    first, second = ([experience.sample_ids for experience in scenario.forget_stream] for scenario in scenarios)
    assert first == second


@st.composite
def timelines(draw: st.DrawFn) -> tuple[list[list[int]], dict[str, list[str]] | None, dict[int, list[ForgetRequest]]]:
    """Experiences of numbered samples, who holds them, and requests, few of which make no sense."""
    count = draw(st.integers(4, 24))
    order = draw(st.permutations(range(count)))
    cuts = sorted(draw(st.sets(st.integers(1, count - 1), max_size=3)))
    parts = [list(order[start:end]) for start, end in zip([0, *cuts], [*cuts, count], strict=True)]
    clients = None
    if draw(st.booleans()):
        owners = draw(st.lists(st.sampled_from("abcd"), min_size=count, max_size=count))
        shuffled = draw(st.permutations(range(count)))
        clients = {name: [str(item) for item in shuffled if owners[item] == name] for name in "abc"}  # d has no name
    scopes = st.one_of(
        st.sets(st.integers(0, CLASSES - 1), min_size=1, max_size=2).map(
            lambda found: ClassScope(tuple(sorted(found)))
        ),
        st.sampled_from("abc").map(ClientScope),
        st.builds(
            lambda client, items: SampleScope(client, tuple(map(str, items))),
            st.sampled_from("abc"),
            st.lists(st.integers(0, count - 1), unique=True, min_size=1, max_size=2),
        ),
        st.builds(lambda client, wanted: SampleScope(client, count=wanted), st.sampled_from("abc"), st.integers(1, 3)),
    )
    requests: dict[int, list[ForgetRequest]] = {}
    for _ in range(draw(st.integers(1, 8))):
        request, after = ForgetRequest(draw(scopes), priority=draw(st.integers(0, 2))), draw(st.integers(1, len(parts)))
        more = {**requests, after: [*requests.get(after, []), request]}
        if by_hand(parts, clients, more) is not None or draw(st.integers(0, 19)) == 0:
            requests = more
    return parts, clients, requests


def by_hand(
    parts: Sequence[Sequence[int]], clients: dict[str, list[str]] | None, requests: dict[int, list[ForgetRequest]]
) -> list[tuple[set[int], set[int], int]] | None:
    """For each request what may be and what is forgotten, and how many of it; None where one cannot be served."""
    everything = {number for part in parts for number in part}
    forgotten: set[int] = set()
    found = []
    for after in sorted(requests):
        arrived = {number for part in parts[:after] for number in part}
        for request in sorted(requests[after], key=lambda item: -item.priority):
            scope = request.scope
            if isinstance(scope, ClientScope) and clients is None:
                return None
            held = everything
            if not isinstance(scope, ClassScope) and clients is not None:
                held = set(map(int, clients[scope.client]))
            if isinstance(scope, ClassScope):
                asked = {number for number in everything if number % CLASSES in scope.classes}
                if len({number % CLASSES for number in asked}) < len(scope.classes):
                    return None
            elif isinstance(scope, SampleScope) and scope.sample_ids:
                asked = set(map(int, scope.sample_ids))
                if not asked <= (held & arrived) - forgotten:
                    return None
            else:
                asked = held
            possible = (asked & arrived) - forgotten
            wanted = scope.count if isinstance(scope, SampleScope) and scope.count else len(possible)
            if not possible or (isinstance(scope, SampleScope) and scope.count >= len(possible) and scope.count):
                return None
            found.append((asked, possible, wanted))
            if wanted < len(possible):
                return found  # which ones were drawn is not known here
            forgotten |= asked
            if not arrived - forgotten:
                return None
    return found


@settings(max_examples=300, deadline=None)
@given(timelines())
def test_forget_sets_are_those_worked_out_by_hand(
    timeline: tuple[list[list[int]], dict[str, list[str]] | None, dict[int, list[ForgetRequest]]],
) -> None:
    parts, clients, requests = timeline
    base = numbered(24)
    benchmark = benchmark_from_datasets(train=[base.subset(part) for part in parts], test=[base])
    expected = by_hand(parts, clients, requests)
    try:
        scenario = forget_benchmark(benchmark, requests, clients=clients)
    except InvalidRequestError:
        if expected is not None:  # then it was one after the first draw that could not be served
            assert len(expected) < sum(map(len, requests.values()))
        return
    assert expected is not None
    everything = [number for part in parts for number in part]
    owned = [int(name) for names in (clients or {}).values() for name in names]
    order = owned + sorted(set(everything) - set(owned))
    gone: set[int] = set()
    for number, experience in enumerate(scenario.forget_stream):
        found = shown(experience.dataset)
        assert experience.sample_ids == tuple(map(str, found)) and len(set(found)) == len(found)
        assert not gone & set(found)
        assert set(found) <= {item for part in parts[: experience.after] for item in part}
        assert found == [item for item in order if item in found]
        named = experience.names([item % CLASSES for item in everything], list(map(str, everything)))
        gone |= {item for item, asked in zip(everything, named, strict=True) if asked}
        if number < len(expected):
            asked, possible, wanted = expected[number]
            assert set(found) <= possible and len(found) == wanted
            if wanted == len(possible):
                assert {item for item, is_named in zip(everything, named, strict=True) if is_named} == asked


@pytest.mark.parametrize("of_class", [None, 2])
def test_drawn_samples_are_those_that_the_client_of_a_federation_draws(of_class: int | None, tmp_path: Path) -> None:
    held = list(range(TRAIN))[::-1]
    clients = {"7": [str(number) for number in held]}
    benchmark = made("class-incremental")
    requests = {
        1: ForgetRequest.for_samples("7", count=3, id="before"),
        2: ForgetRequest.for_samples("7", count=5, of_class=of_class, id="wanted"),
    }
    scenario = forget_benchmark(benchmark, requests, clients=clients, seed=11)
    session = session_of(scenario, held, tmp_path)
    for experience in scenario.forget_stream:
        target = protocol.Target.of(experience.request, 1)
        found = forget_set(target, session, 11, experience.after)
        assert found.ids == experience.sample_ids
        session.store.quarantine(target.request_id, found.ids, 1)
    other = forget_benchmark(benchmark, requests, clients=clients, seed=12)
    assert other.forget_stream[1].sample_ids != scenario.forget_stream[1].sample_ids


def session_of(scenario: Any, held: Sequence[int], folder: Path) -> ClientSession:
    """A federation's client "7" with these samples, in this order, and a store."""
    arrival = {number: place for place, part in enumerate(seen(scenario), start=1) for number in part}
    train = ImageSet(torch.zeros(TRAIN, 1, 4, 4), torch.tensor(held) % CLASSES, [str(number) for number in held])
    data = ClientData(train, train, train, CLASSES, "f" * 64, torch.tensor([arrival[number] for number in held]))
    context = Context(1, 1, {"client-id": "7", "partition-id": 7, "client-dir": str(folder)}, RecordDict(), {})
    return ClientSession(DigitsTask(data_of=lambda client: data), context, {})


def test_requests_that_come_one_by_one_find_what_a_clients_store_has_left(tmp_path: Path) -> None:
    """Open ones keep their samples from draws, not from class requests; committed ones from both; released ones do not."""
    held = list(range(TRAIN))[::-1]
    growing = GrowingForgetStream(made("ni"), clients={"7": [str(number) for number in held]}, seed=11)
    session = session_of(growing.scenario, held, tmp_path)
    after = len(growing.scenario.train_stream)

    def added(request: ForgetRequest) -> set[str]:
        experience = growing.add(request, after, commits=False)
        found = forget_set(protocol.Target.of(request, 1), session, 11, after)
        session.store.quarantine(request.id, found.ids, 1)
        assert set(experience.sample_ids) == set(found.ids)
        assert growing.scenario.forget_stream[-1] is experience and experience.origin_stream[-1] is experience
        return set(found.ids)

    opened = added(ForgetRequest.for_samples("7", count=6, id="opened"))
    label = int(min(opened)) % CLASSES
    assert added(ForgetRequest.for_class(label, id="class")) & opened
    growing.commit("class")
    session.store.confirm("class", 1)
    with pytest.raises(InvalidRequestError, match="nothing to forget"):
        growing.add(ForgetRequest.for_class(label, id="again"), after, commits=False)
    several = len(session.retained_samples()) - 1
    assert not added(ForgetRequest.for_samples("7", count=several, id="most")) & opened
    growing.release("opened")
    session.store.release("opened")
    assert added(ForgetRequest.for_samples("7", count=2, id="last")) & opened
    assert [item.current_experience for item in growing.scenario.forget_stream] == [0, 1, 2, 3]


def test_a_client_request_forgets_what_has_arrived_of_the_client_and_names_what_will() -> None:
    scenario = forget_benchmark(made("nc"), {2: ForgetRequest.for_client(1)}, clients=CLIENTS)
    [experience] = scenario.forget_stream
    arrived = {number for part in seen(scenario)[:2] for number in part}
    assert experience.sample_ids == tuple(name for name in CLIENTS["1"] if int(name) in arrived)
    named = experience.names([0] * TRAIN, map(str, range(TRAIN)))
    assert [str(number) for number in range(TRAIN) if named[number]] == CLIENTS["1"]


def test_requests_are_served_by_priority_then_deadline_then_in_order() -> None:
    scenario = forget_benchmark(
        made("ni"),
        {
            3: [ask(0, deadline=5.0), ask(1), ask(2, priority=1), ask(3, id="third", deadline=2.0)],
            1: ask(4),
        },
    )
    classes = [experience.request.scope.classes[0] for experience in scenario.forget_stream]
    assert classes == [4, 2, 3, 0, 1]
    assert [item.request.id for item in scenario.forget_stream] == [
        "forget-1", "forget-2", "third", "forget-4", "forget-5"
    ]  # fmt: skip


def test_a_list_of_requests_comes_after_the_last_experience() -> None:
    scenario = forget_benchmark(made("new-instances"), [ask(3), ask(1)])
    assert [(item.after, item.request.scope.classes) for item in scenario.forget_stream] == [(3, (3,)), (3, (1,))]
    assert len(forget_benchmark(made("nc"), {}).forget_stream) == 0


def test_ids_of_the_data_sets_are_kept_as_text() -> None:
    named = with_sample_ids(numbered(), [f"image-{number}" for number in range(TRAIN)])
    benchmark = class_incremental_benchmark(
        {"train": named, "test": numbered(TEST)}, num_experiences=3, class_order=range(6)
    )
    scenario = forget_benchmark(benchmark, [ForgetRequest.for_samples("0", ["image-4", "image-17"])])
    assert shown(scenario.forget_stream[0].dataset) == [4, 17]
    assert scenario.train_stream[0].dataset is benchmark.train_stream[0].dataset


def test_samples_of_several_data_sets_are_numbered_over_the_stream() -> None:
    parts = [numbered(10), numbered(7).subset([6, 2])]
    scenario = forget_benchmark(benchmark_from_datasets(train=parts), [])
    assert [sample_ids(item.dataset) for item in scenario.train_stream] == [tuple("0123456789"), ("10", "11")]


def test_a_number_that_a_slice_of_a_benchmark_has_is_kept() -> None:
    given = made("nc-tasks")
    scenario = forget_benchmark(CLScenario([given.train_stream[1:], given.test_stream]), {2: ask(1)})
    assert [item.current_experience for item in scenario.train_stream] == [1, 2]
    assert [item.task_labels for item in scenario.train_stream] == [[1], [2]]
    assert scenario.forget_stream[0].after == 2


def test_what_the_given_benchmark_tells_can_still_be_asked() -> None:
    scenario = forget_benchmark(made("nc"), [])
    assert scenario.n_classes == CLASSES and scenario.n_classes_per_exp == [2, 2, 2]
    assert scenario.train_stream[0].benchmark.n_classes == CLASSES
    with pytest.raises(AttributeError):
        scenario.no_such_thing  # noqa: B018


def test_labels_that_the_benchmark_renames_are_those_that_are_asked_for() -> None:
    order = [4, 2, 0, 1, 3, 5]
    given = nc_benchmark(
        numbered(), numbered(TEST), 3, False, fixed_class_order=order, class_ids_from_zero_from_first_exp=True
    )
    [experience] = forget_benchmark(given, {1: ask(0)}).forget_stream
    assert {number % CLASSES for number in shown(experience.dataset)} == {order[0]}


@pytest.mark.parametrize(
    ("requests", "clients", "told"),
    [
        ({0: ask(1)}, None, "after 0 training experiences .* expected 1 to 3"),
        ({4: ask(1)}, None, "after 4 training experiences .* expected 1 to 3"),
        ({True: ask(1)}, None, "after True"),
        ({3: [ask(1, id="a"), ask(2, id="a")]}, None, "two requests have the id 'a'"),
        ({1: ask(9)}, None, "class 9, of which the training stream has no sample; it has classes 0, 1, 2, 3, 4, 5"),
        ({1: ask(5)}, None, "nothing to forget after experience 1"),
        ({1: ask(4), 2: ask(4)}, None, "forget-2 has nothing to forget after experience 2"),
        ({1: ask(4, 2)}, None, "leaves none of the 20 samples"),
        ({1: [ask(4), ask(2)]}, None, "forget-2 leaves none"),
        ({3: ForgetRequest.for_samples("0", ["4", "x", "60"])}, None, "samples x, 60, which are not among"),
        ({1: ForgetRequest.for_samples("0", ["4", "5"])}, None, "sample 5, which is not there yet after experience 1"),
        ({1: ask(4), 2: ForgetRequest.for_samples("0", ["4"])}, None, "sample 4, which is forgotten already"),
        ({1: ForgetRequest.for_samples("0", count=20)}, None, "asks for 20 samples; 20 such samples are left"),
        ({1: ForgetRequest.for_samples("0", count=1, of_class=5)}, None, "asks for 1 samples; 0 such"),
        ({1: ForgetRequest.for_client(0)}, None, "nothing says which samples are its; give clients="),
        ({1: ForgetRequest.for_client(8)}, CLIENTS, "client 8, who is unknown; known are clients 0, 1, 2, 3"),
        ({1: ForgetRequest.for_samples(8, count=1)}, CLIENTS, "client 8, who is unknown"),
        ({3: ForgetRequest.for_samples(0, ["6"])}, CLIENTS, "sample 6, which is not among the samples of client 0"),
        (
            {3: ForgetRequest.for_samples("0", [str(number) for number in range(70, 80)])},
            None,
            "samples 70, 71, 72 and 7 more",
        ),
    ],
)
def test_requests_that_cannot_be_served_are_refused(
    requests: dict[int, Any], clients: dict[str, list[str]] | None, told: str
) -> None:
    with pytest.raises(InvalidRequestError, match=told):
        forget_benchmark(made("nc"), requests, clients=clients)


@pytest.mark.parametrize(
    ("clients", "told"),
    [
        ({"a": ["1", "2"], "b": ["3", "2"]}, "client b was given sample 2, which client a holds too"),
        ({"a": ["1", "1"]}, "client a was given a sample twice"),
        (
            {"a": ["1", "61", "test:1"]},
            "client a was given samples 61, test:1, which the training stream does not have",
        ),
    ],
)
def test_clients_that_do_not_fit_are_refused(clients: dict[str, list[str]], told: str) -> None:
    with pytest.raises(InvalidDataError, match=told):
        forget_benchmark(made("nc"), [], clients=clients)


def test_benchmarks_that_do_not_fit_are_refused() -> None:
    dataset = with_sample_ids(numbered(6))
    parts = [numbered(6).subset([0, 1]), with_sample_ids(numbered(6))]
    cases: list[tuple[Any, str]] = [
        (benchmark_from_datasets(test=[dataset]), "without a train_stream"),
        (forget_benchmark(made("nc"), []), "has a forget_stream"),
        (benchmark_from_datasets(train=parts), "experience 0 of the train stream has no sample ids while others have"),
        (
            benchmark_from_datasets(train=[dataset.subset([0, 1]), dataset.subset([2]), dataset.subset([3, 1])]),
            "sample '1' comes in experiences 0 and 2 of the train stream",
        ),
        (benchmark_from_datasets(train=[dataset.subset([0, 1, 0])]), "sample '0' comes twice in experience 0"),
        (CLScenario([EagerCLStream("train", [])]), "the train stream has no sample"),
        (CLScenario([CLStream("train", [CLExperience(0, None)])]), "no data set with targets"),
    ]
    for benchmark, told in cases:
        with pytest.raises(InvalidDataError, match=told):
            forget_benchmark(benchmark, [])
