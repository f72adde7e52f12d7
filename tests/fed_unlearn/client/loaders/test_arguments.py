"""Arguments of an app's own functions, by the names of their parameters."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from fed_unlearn.client.loaders.arguments import NamedArguments, NamedConfig
from fed_unlearn.errors import FedUnlearnError, InvalidParameterError

CONFIGS = (
    NamedConfig("message's config", {"lr": 0.5, "server-round": 3}),
    NamedConfig("node config", {"partition-id": 2, "num-partitions": 4}),
    NamedConfig("run config", {"local-epochs": 7, "learning-rate": 0.1, "batch-size": 16, "lr": 0.2}),
)
LEADING = ("the model", "the loader")


def found(function: Any, *, leading: tuple[str, ...] = (), **known: object) -> dict[str, object]:
    return NamedArguments.of(function, "train", leading=leading).found(known, CONFIGS)


def load_data(partition_id: int, num_partitions: int, batch_size: int) -> tuple[int, int, int]:
    return partition_id, num_partitions, batch_size


def fit(net: str, trainloader: str, epochs: int, lr: float, device: str) -> tuple[object, ...]:
    return net, trainloader, epochs, lr, device


def test_parameters_are_filled_from_what_is_known_and_from_configurations() -> None:
    assert found(load_data) == {"partition_id": 2, "num_partitions": 4, "batch_size": 16}
    arguments = NamedArguments.of(fit, "train", leading=LEADING)
    given = arguments.found({"device": "cpu"}, CONFIGS)
    assert given == {"epochs": 7, "lr": 0.5, "device": "cpu"}  # the message's own rate, and the run's local-epochs
    assert arguments.call(("model", "loader"), given) == ("model", "loader", 7, 0.5, "cpu")


def test_its_own_name_in_a_farther_configuration_goes_before_another_name_in_a_nearer_one() -> None:
    def train(net: str, loader: str, learning_rate: float, num_epochs: int) -> None: ...

    assert found(train, leading=LEADING) == {"learning_rate": 0.1, "num_epochs": 7}


def test_what_has_a_default_takes_a_value_of_its_own_name_alone() -> None:
    def train(net: str, loader: str, epochs: int = 1, batch_size: int = 99, momentum: float = 0.9) -> None: ...

    assert found(train, leading=LEADING) == {"batch_size": 16}
    assert NamedArguments.of(train, "train", leading=LEADING).required.parameters == ()


def test_what_is_bound_stays_bound() -> None:
    assert found(functools.partial(load_data, batch_size=5)) == {"partition_id": 2, "num_partitions": 4}
    assert NamedArguments.of(functools.partial(load_data, batch_size=5), "loaders").call(
        (), {"partition_id": 0, "num_partitions": 1}
    ) == (0, 1, 5)
    assert found(functools.partial(fit, "bound"), leading=("the loader",), device="cpu")["epochs"] == 7


def test_positional_only_variable_and_keyword_only_parameters() -> None:
    def train(net: str, loader: str, lr: float, /, *rest: object, epochs: int, **more: object) -> tuple[object, ...]:
        return net, loader, lr, rest, epochs, more

    arguments = NamedArguments.of(train, "train", leading=LEADING)
    assert arguments.call(("m", "l"), arguments.found({}, CONFIGS)) == ("m", "l", 0.5, (), 7, {})


def test_positional_only_parameters_keep_their_places() -> None:
    def train(net: str, loader: str, momentum: float = 0.5, lr: float = 0.01, /) -> tuple[object, ...]:
        return net, loader, momentum, lr

    arguments = NamedArguments.of(train, "train", leading=LEADING)
    assert arguments.call(("m", "l"), arguments.found({}, CONFIGS)) == ("m", "l", 0.5, 0.5)
    assert arguments.call(("m", "l"), {}) == ("m", "l", 0.5, 0.01)


def test_classes_and_objects_that_are_called() -> None:
    class Net:
        def __init__(self, batch_size: int) -> None:
            self.size = batch_size

        def __call__(self, model: str, loader: str, *, local_epochs: int) -> int:
            return local_epochs

    made = NamedArguments.of(Net, "model").call((), found(Net))
    assert made.size == 16 and found(made, leading=LEADING) == {"local_epochs": 7}


def test_a_missing_argument_is_named_with_what_there_is() -> None:
    def load(fold: int, partition_id: int) -> None: ...

    with pytest.raises(FedUnlearnError) as caught:
        NamedArguments.of(load, "loaders").found({"context": None}, CONFIGS)
    text = str(caught.value)
    assert (
        "load() needs 'fold', and no configuration has it" in text.replace('"', "'")
        and "partition-id" in text
        and "\n" not in text
    )
    assert "functools.partial" in text and "context" in text


def test_a_training_function_without_places_is_refused() -> None:
    with pytest.raises(InvalidParameterError, match="takes 1 arguments by their place; expected the model and the"):
        NamedArguments.of(lambda model: None, "train", leading=LEADING)


def test_what_comes_from_configurations_is_described() -> None:
    arguments = NamedArguments.of(fit, "train", leading=LEADING)
    assert arguments.described({"device": "cpu"}, CONFIGS).replace('"', "'") == (
        "fit(): epochs is 'local-epochs' of the run config, lr is 'lr' of the message's config"
    )
    assert NamedArguments.of(lambda context: None, "loaders").described({"context": 1}, CONFIGS) == ""
