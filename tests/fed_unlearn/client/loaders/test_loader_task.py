"""An app's own loaders and training function as a task."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset
from torchvision.datasets import FakeData
from torchvision.transforms import Compose, Normalize, RandomHorizontalFlip, ToTensor

from fed_unlearn.client import LoaderTask, install, retained
from fed_unlearn.client.loaders.batches import BatchKeys
from fed_unlearn.client.loaders.reading import Memory
from fed_unlearn.client.loaders.training_loader import training_loader
from fed_unlearn.data.domain import PIXELS, TOKENS, VALUES, InputDomain
from fed_unlearn.data.joined import concatenate
from fed_unlearn.errors import FedUnlearnError, InvalidDataError, InvalidParameterError
from fed_unlearn.simulations.inprocess import InProcessGrid

LABELS = torch.arange(3).repeat(8)


def context_of(folder: Path | None = None, client: int = 0) -> Context:
    config: dict[str, Any] = {"partition-id": client, "num-partitions": 2}
    if folder is not None:
        config["client-dir"] = str(folder)
    return Context(run_id=1, node_id=1, node_config=config, state=RecordDict(), run_config={})


def images(low: float = 0.0, high: float = 1.0) -> torch.Tensor:
    made = torch.rand(24, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    return low + (high - low) * made


def model() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3))


def fit(network: nn.Module, loader: DataLoader[Any], config: ConfigRecord, context: Context) -> None:
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for inputs, labels in loader:
        optimizer.zero_grad()
        functional.cross_entropy(network(inputs), labels).backward()
        optimizer.step()


def task_of(*loaders: DataLoader[Any], **options: Any) -> LoaderTask:
    return LoaderTask(model, lambda context: loaders, fit, 3, **options)


def pairs(inputs: torch.Tensor, labels: torch.Tensor = LABELS, **options: Any) -> DataLoader[Any]:
    return DataLoader(TensorDataset(inputs, labels), batch_size=5, **options)


def test_three_loaders_are_training_validation_and_test() -> None:
    data = task_of(pairs(images()), pairs(images()[:6], LABELS[:6]), pairs(images()[:9], LABELS[:9])).load_data(
        context_of()
    )
    assert [len(part) for part in (data.train, data.validation, data.test)] == [24, 6, 9]
    inputs, labels = data.train.batch(torch.tensor([4, 2]))
    assert torch.equal(inputs, images()[[4, 2]]) and labels.tolist() == [1, 2]
    assert data.train.ids[:3] == ("0", "1", "2") and data.class_count == 3


def test_one_held_out_set_is_halved_with_all_classes() -> None:
    data = task_of(pairs(images()), pairs(images()[:12], LABELS[:12])).load_data(context_of())
    for part in (data.validation, data.test):
        assert torch.bincount(part.labels).tolist() == [2, 2, 2]
    assert not set(data.validation.ids) & set(data.test.ids)


@pytest.mark.parametrize("has_ids", [False, True])
def test_without_one_samples_are_set_aside_and_not_trained_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, has_ids: bool
) -> None:
    def loader() -> DataLoader[Any]:
        made = pairs(images())
        if has_ids:
            made.dataset.ids = [str(index) for index in range(24)]  # type: ignore[attr-defined]
        return made

    task, app = LoaderTask(model, lambda context: loader(), fit, 3), ClientApp()
    with caplog.at_level(logging.WARNING, "fed_unlearn.client"):
        data = task.load_data(context_of(tmp_path))
    assert "5 of its 24 training samples are set aside" in caplog.text
    parts = [set(part.ids) for part in (data.train, data.validation, data.test)]
    assert sum(map(len, parts)) == 24
    assert set.union(*parts) == set(map(str, range(24))) and len(parts[0]) == 19

    install(app, task)

    @app.query("look")
    def look(message: Message, context: Context) -> Message:
        kept = retained(loader(), context)
        numbers = [int((images() == image).all((1, 2, 3)).nonzero()) for inputs, _ in kept for image in inputs]
        return Message(RecordDict({"seen": MetricRecord({"numbers": numbers})}), reply_to=message)

    [reply] = InProcessGrid(app, 1, node_configs=[{"client-dir": str(tmp_path)}]).send_and_receive(
        [Message(RecordDict(), 1, "query.look")]
    )
    assert {str(number) for number in reply.content["seen"]["numbers"]} == parts[0]


def test_a_held_out_loader_without_samples_counts_as_none(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "fed_unlearn.client"):
        data = task_of(pairs(images()), pairs(images()[:0], LABELS[:0])).load_data(context_of())
    assert len(data.train) == 19 and "client 0 holds no samples out" in caplog.text


@pytest.mark.parametrize("normalize", [0.5, (0.5,), (0.5, 0.0), ("a", "b"), ((0.5, 0.5), (0.5,))])
def test_what_is_no_mean_and_deviation_is_refused_when_the_task_is_made(normalize: Any) -> None:
    with pytest.raises(InvalidParameterError, match=r"expected mean and standard deviation"):
        task_of(pairs(images()), normalize=normalize)


@pytest.mark.parametrize(
    "inputs, options, domain",
    [
        (images(), {}, PIXELS),
        (images(-1, 1), {}, VALUES),
        (images(-1, 1), {"normalize": (0.5, 0.5)}, InputDomain.normalized(0.5, 0.5)),
        (torch.rand(24, 7), {}, VALUES),
        (torch.randint(50, (24, 7)), {}, TOKENS),
    ],
)
def test_what_the_inputs_are(inputs: torch.Tensor, options: dict[str, Any], domain: InputDomain) -> None:
    assert task_of(pairs(inputs), **options).load_data(context_of()).train.domain == domain


def test_a_normalisation_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InvalidDataError, match="give the mean and std"):
        task_of(pairs(images(-3, 3)), normalize=(0.5, 0.5)).load_data(context_of())


@pytest.mark.parametrize(
    "loaders, said",
    [
        ((), "nothing was given; expected a DataLoader"),
        ((pairs(images()), "test"), "DataLoader, str was given"),
        ((pairs(images(), LABELS + 1),), "labels [3] were read; expected 0 to 2"),
        ((pairs(images()[:0], LABELS[:0]),), "without samples"),
        ((pairs(images(), LABELS.float()),), "torch.float32"),
        ((pairs((images() * 255).to(torch.uint8)),), "inputs of uint8"),
    ],
)
def test_loaders_that_cannot_be_used_are_refused_in_one_line(loaders: tuple[Any, ...], said: str) -> None:
    with pytest.raises(InvalidDataError) as caught:
        task_of(*loaders).load_data(context_of())
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_what_cannot_be_called_is_refused() -> None:
    with pytest.raises(InvalidParameterError, match="train: int was given"):
        LoaderTask(model, lambda context: (), 3, 3)  # type: ignore[arg-type]
    with pytest.raises(InvalidParameterError, match="class_count = 1"):
        LoaderTask(model, lambda context: (), fit, 1)


def hub_set(transform: Any) -> datasets.Dataset:
    rows = {"pixels": images().tolist(), "label": LABELS.tolist(), "file": [f"{index}.png" for index in range(24)]}
    return datasets.Dataset.from_dict(rows).with_transform(transform)


def as_tensors(batch: dict[str, Any]) -> dict[str, Any]:
    return {**batch, "pixels": [torch.tensor(item) for item in batch["pixels"]]}


def test_dictionaries_of_the_hub_keep_their_kind(tmp_path: Path) -> None:
    loader = DataLoader(hub_set(as_tensors), batch_size=4, shuffle=True)
    task, app, seen = LoaderTask(model, lambda context: (loader, loader), fit, 3), ClientApp(), {}
    install(app, task)

    @app.query("look")
    def look(message: Message, context: Context) -> Message:
        kept = retained(loader, context)
        seen.update(kind=type(kept.dataset), count=len(kept.dataset), keys=set(next(iter(kept))))
        return Message(RecordDict(), reply_to=message)

    InProcessGrid(app, 1, node_configs=[{"client-dir": str(tmp_path)}]).send_and_receive(
        [Message(RecordDict(), 1, "query.look")]
    )
    assert seen == {"kind": datasets.Dataset, "count": 24, "keys": {"pixels", "label", "file"}}


def test_repair_reads_the_apps_own_items_under_the_labels_that_it_is_given() -> None:
    loader = DataLoader(hub_set(as_tensors), batch_size=4, shuffle=True)
    samples = LoaderTask(model, lambda context: (loader, loader), fit, 3).load_data(context_of()).train
    guarded = samples.only(["3", "4"])
    mixed = concatenate(samples.only(["8", "9", "10"]), guarded.relabelled(torch.tensor([1, 2])), guarded)
    made = training_loader(loader, BatchKeys("pixels", "label"), mixed, torch.Generator().manual_seed(0))
    read = [row for batch in made for row in zip(batch["file"], batch["label"].tolist(), strict=True)]
    assert sorted(read) == sorted(
        [("8.png", 2), ("9.png", 0), ("10.png", 1), ("3.png", 1), ("4.png", 2), ("3.png", 0), ("4.png", 1)]
    )
    assert [len(batch["file"]) for batch in made] == [4, 3]


def test_audits_read_without_augmentation_and_repair_with_it() -> None:
    normal = Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    augmented = FakeData(12, (3, 8, 8), 3, transform=Compose([RandomHorizontalFlip(1.0), ToTensor(), normal]))
    plain = Compose([ToTensor(), normal])
    loader = DataLoader(augmented, batch_size=4)
    samples = task_of(loader, loader, evaluate_transform=plain).load_data(context_of()).train
    expected = torch.stack([image for image, _ in FakeData(12, (3, 8, 8), 3, transform=plain)])
    assert torch.equal(samples.evaluated().batch()[0], expected)
    assert torch.equal(samples.batch()[0], expected.flip(-1))
    made = training_loader(loader, BatchKeys(0, 1), samples, torch.Generator())
    assert torch.equal(torch.cat([inputs for inputs, _ in made]), expected.flip(-1))


class Flickering(Dataset[tuple[torch.Tensor, int]]):
    """Its images differ at each reading."""

    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.rand(1, 4, 4), int(LABELS[index])


def test_inputs_that_change_are_read_anew_and_others_once() -> None:
    changing = task_of(DataLoader(Flickering(), batch_size=5)).load_data(context_of()).train
    assert not torch.equal(changing.batch()[0], changing.batch()[0])
    counted: list[int] = []

    class Counting(TensorDataset):
        def __getitem__(self, index: int) -> tuple[torch.Tensor, ...]:
            counted.append(index)
            return super().__getitem__(index)

    loader = DataLoader(Counting(images(), LABELS), batch_size=5)
    samples = task_of(loader, pairs(images())).load_data(context_of()).train
    before = len(counted)
    assert torch.equal(samples.batch()[0], images()) and len(counted) == before


def test_the_fingerprint_is_that_of_the_data() -> None:
    other = images()
    other[0] += 0.001
    prints = [
        task_of(pairs(inputs, labels), pairs(images())).load_data(context_of()).fingerprint
        for inputs, labels in (
            (images(), LABELS),
            (images(), LABELS),
            (other.clamp(0, 1), LABELS),
            (images(), LABELS.flip(0)),
        )
    ]
    assert prints[0] == prints[1] and len(set(prints)) == 3


def test_stores_lie_in_the_nodes_folder_or_below_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FED_UNLEARN_HOME", str(tmp_path))
    task = task_of(pairs(images()))
    assert task.store_folder(context_of(tmp_path / "node")) == tmp_path / "node"
    ours = task.store_folder(context_of())
    assert (
        ours.is_relative_to(tmp_path / "stores") and ours.name == "0-of-2" and ours == task.store_folder(context_of())
    )
    assert (
        task_of(pairs(images()), folder=tmp_path / "own").store_folder(context_of(client=1))
        == tmp_path / "own" / "1-of-2"
    )


def test_a_task_travels_to_workers_without_its_samples() -> None:
    task = LoaderTask(model, held_out, fit, 3)
    task.load_data(context_of())
    copied = pickle.loads(pickle.dumps(task))
    assert copied._of_client == {} and len(copied.load_data(context_of()).train) == 24
    assert len(pickle.dumps(task)) < 2000


def held_out(context: Context) -> list[DataLoader[Any]]:
    return [pairs(images()), pairs(images())]


def test_ids_of_the_data_set_are_the_samples_ids() -> None:
    named = TensorDataset(images(), LABELS)
    named.ids = [f"patient-{index}" for index in range(24)]  # type: ignore[attr-defined]
    loader = DataLoader(named, batch_size=5)
    assert task_of(loader, loader).load_data(context_of()).train.ids[2] == "patient-2"
    part = DataLoader(Subset(named, [5, 7]), batch_size=2)
    assert task_of(part, loader).load_data(context_of()).train.ids == ("patient-5", "patient-7")


def test_without_a_session_there_is_advice() -> None:
    with pytest.raises(FedUnlearnError, match="install"):
        retained(pairs(images()), context_of())


def test_another_split_than_the_tasks_is_refused(tmp_path: Path) -> None:
    whole = TensorDataset(images(), LABELS)
    mine, other = Subset(whole, list(range(12))), Subset(whole, list(range(12, 24)))
    task, app = LoaderTask(model, lambda context: DataLoader(mine, batch_size=4), fit, 3), ClientApp()
    install(app, task)

    @app.query("look")
    def look(message: Message, context: Context) -> Message:
        retained(other, context)
        return Message(RecordDict(), reply_to=message)

    grid = InProcessGrid(app, 1, node_configs=[{"client-dir": str(tmp_path)}])
    [reply] = grid.send_and_receive([Message(RecordDict(), 1, "query.look")])
    assert reply.has_error() and "split and shuffle with a seeded generator" in reply.error.reason


class Retargeted(TensorDataset):
    """Its items have other labels than its targets, as with torchvision's ``target_transform``."""

    def __init__(self, targets: list[Any]) -> None:
        super().__init__(images(), LABELS)
        self.targets = targets


@pytest.mark.parametrize("targets", [(LABELS + (LABELS == 2) * 7).tolist(), ["a", "b", "c"] * 8, [[0, 1]] * 24])
def test_labels_are_those_of_the_items(targets: list[Any]) -> None:
    loader = DataLoader(Retargeted(targets), batch_size=5)
    labels = task_of(loader, pairs(images())).load_data(context_of()).train.labels
    assert labels.tolist() == LABELS.tolist()


class Rarely(Dataset[tuple[torch.Tensor, int]]):
    """One image in fifty differs at a reading."""

    def __len__(self) -> int:
        return 600

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.full((1, 4, 4), 0.5 if torch.rand(()) < 0.98 else 0.25), index % 3


def test_rare_augmentation_does_not_change_the_fingerprint() -> None:
    prints = set()
    for seed in range(4):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            prints.add(
                task_of(DataLoader(Rarely(), batch_size=50), pairs(images())).load_data(context_of()).fingerprint
            )
    assert len(prints) == 1


def test_texts_of_several_lengths_are_refused_in_one_line() -> None:
    def padded(items: list[tuple[torch.Tensor, int]]) -> list[torch.Tensor]:
        longest = max(len(text) for text, _ in items)
        texts = [functional.pad(text, (0, longest - len(text))) for text, _ in items]
        return [torch.stack(texts), torch.tensor([label for _, label in items])]

    texts = [(torch.ones(3 + index % 4, dtype=torch.int64), index % 3) for index in range(24)]
    loader = DataLoader(texts, batch_size=5, collate_fn=padded)  # type: ignore[arg-type]
    with pytest.raises(InvalidDataError, match="pad texts to a fixed length"):
        task_of(loader, loader).load_data(context_of())


def test_functions_of_the_app_get_their_arguments_by_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    given: list[tuple[object, ...]] = []

    def load_data(partition_id: int, num_partitions: int, batch_size: int) -> list[DataLoader[Any]]:
        given.append((partition_id, num_partitions, batch_size))
        return [DataLoader(TensorDataset(images(), LABELS), batch_size), pairs(images())]

    def train(net: nn.Module, trainloader: DataLoader[Any], epochs: int, lr: float, device: torch.device) -> None:
        given.append((epochs, lr, device, trainloader.batch_size))

    task, app = LoaderTask(model, load_data, train, 3), ClientApp()
    install(app, task)
    run: dict[str, Any] = {"batch-size": 4, "local-epochs": 2, "num-server-rounds": 3}

    @app.query("look")
    def look(message: Message, context: Context) -> Message:
        config = ConfigRecord({"lr": 0.25})
        task.train(task.build_model(context), task.load_data(context).train, config, torch.Generator())
        return Message(RecordDict(), reply_to=message)

    with caplog.at_level(logging.INFO, "flwr"):
        for changed in ({}, {"num-server-rounds": 9}, {"batch-size": 6}):
            grid = InProcessGrid(app, 1, node_configs=[{"client-dir": str(tmp_path)}], run_config={**run, **changed})
            [reply] = grid.send_and_receive([Message(RecordDict(), 1, "query.look")])
            assert reply.has_content(), reply
    trained = [(2, 0.25, task.device(), size) for size in (4, 4, 6)]
    assert given == [(0, 1, 4), trained[0], trained[1], (0, 1, 6), trained[2]]  # data are read anew for other arguments
    assert "train(): epochs is 'local-epochs' of the run config" in caplog.text.replace('"', "'")


def test_memory_of_data_that_are_read_anew_is_given_back() -> None:
    task, left = task_of(pairs(images()), pairs(images())), []
    for size in (1, 2, 3):
        context = context_of()
        context.run_config["batch-size"] = size
        task.load_data(context)
        left.append(task._memory.left)
    assert left == [Memory().left - 2 * images().numel() * 4] * 3


def test_classes_are_called_as_the_data_set_calls_them() -> None:
    vision = FakeData(6, (1, 4, 4), 3, ToTensor())
    vision.classes = ["cat", "deer", "dog"]  # type: ignore[attr-defined]
    parts = [DataLoader(Subset(vision, [0, 1, 2, 3]), batch_size=2)] * 2
    assert task_of(*parts).load_data(context_of()).class_names == ("cat", "deer", "dog")


@pytest.mark.parametrize("kind", ["other order", "other labels", "other inputs", "the same", "augmented"])
def test_other_samples_without_columns_are_refused(tmp_path: Path, kind: str) -> None:
    inputs, shift = images(), 0.0

    def load(order: torch.Tensor) -> DataLoader[Any]:
        return pairs(inputs[order], LABELS[order])

    class Augmented(TensorDataset):
        def __getitem__(self, index: int) -> tuple[torch.Tensor, ...]:
            nonlocal shift
            shift += 1e-3
            return (self.tensors[0][index] * 0.5 + shift % 0.5, self.tensors[1][index])

    given = {
        "other order": load(torch.arange(24).flip(0)),
        "other labels": pairs(inputs, (LABELS + 1) % 3),
        "other inputs": pairs(inputs.flip(0)),
        "the same": load(torch.arange(24)),
        "augmented": DataLoader(Augmented(inputs, LABELS), batch_size=5),
    }[kind]
    own = DataLoader(Augmented(inputs, LABELS), batch_size=5) if kind == "augmented" else load(torch.arange(24))
    task, app = LoaderTask(model, lambda context: [own, pairs(inputs)], fit, 3), ClientApp()
    install(app, task)
    said: list[str] = []

    @app.query("look")
    def look(message: Message, context: Context) -> Message:
        try:
            retained(given, context)
        except FedUnlearnError as error:
            said.append(str(error))
        return Message(RecordDict(), reply_to=message)

    [reply] = InProcessGrid(app, 1, node_configs=[{"client-dir": str(tmp_path)}]).send_and_receive(
        [Message(RecordDict(), 1, "query.look")]
    )
    assert reply.has_content()
    assert ["seeded generator" in text for text in said] == ([] if kind in ("the same", "augmented") else [True])


def test_what_the_training_function_leaves_on_a_model_meets_no_later_message(tmp_path: Path) -> None:
    calls: list[int] = []

    def freezing(net: nn.Module, loader: DataLoader[Any]) -> None:
        assert all(each.requires_grad for each in net.parameters()) and not net[1]._forward_hooks
        net[1].bias.requires_grad_(False)
        net[1].register_forward_hook(lambda *_: calls.append(1))
        fit(net, loader, ConfigRecord(), context_of())

    task, app = LoaderTask(model, lambda context: [pairs(images()), pairs(images())], freezing, 3), ClientApp()
    install(app, task)
    changed: list[bool] = []

    @app.query("look")
    def look(message: Message, context: Context) -> Message:
        network, before = task.build_model(context), []
        for _ in range(2):
            before = [each.clone() for each in network.parameters()]
            passes = task.train(network, task.load_data(context).train, ConfigRecord(), torch.Generator())
            assert (passes.forward, passes.backward) == (24, 24)
            changed.extend(not torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True))
        network(images())
        return Message(RecordDict(), reply_to=message)

    [reply] = InProcessGrid(app, 1, node_configs=[{"client-dir": str(tmp_path)}]).send_and_receive(
        [Message(RecordDict(), 1, "query.look")]
    )
    assert reply.has_content() and changed == [True, False] * 2 and len(calls) == 10


def test_memory_of_loaders_that_cannot_be_read_is_given_back() -> None:
    task = task_of(pairs(images()), pairs(images(), LABELS.float()))
    for _ in range(3):
        with pytest.raises(InvalidDataError):
            task.load_data(context_of())
        assert task._memory.left == Memory().left


def test_names_of_an_apps_own_travel_by_a_pair_of_functions() -> None:
    def arrays_of(network: nn.Module) -> dict[str, torch.Tensor]:
        return {f"adapter.{name}": value for name, value in network.state_dict().items()}

    def load_arrays(network: nn.Module, arrays: Any) -> None:
        network.load_state_dict({name.removeprefix("adapter."): value for name, value in arrays.items()})

    task = task_of(pairs(images()), arrays_of=arrays_of, load_arrays=load_arrays)
    first, second = model(), model()
    task.load_arrays(second, task.arrays_of(first))
    assert torch.equal(first[1].weight, second[1].weight)
