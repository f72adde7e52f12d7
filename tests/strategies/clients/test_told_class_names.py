"""Clients say what their data call the classes: the server keeps it, shows it, and lets no single one decide."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
from federation import OPEN_GATE, DigitsTask, Federation, digits_of, initial_arrays, make_federation
from flwr.app import ConfigRecord, Message, RecordDict

from fed_unlearn import protocol
from fed_unlearn.class_names import ClassNames
from fed_unlearn.data.images import ClientData
from fed_unlearn.errors import InvalidDataError
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.owner import OwnerQueue, new_request
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies import Event

FROM_ONE = tuple(str(number) for number in range(1, 11))
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def federation_of(folder: Path, *names: tuple[str, ...] | None) -> Federation:
    """Four clients, each with names of its own for the ten digits."""

    def data_of(client: int) -> ClientData:
        return replace(digits_of(client), class_names=names[client % len(names)])

    return make_federation(folder, task=DigitsTask(data_of=data_of))


def test_names_that_all_clients_tell_stand_in_the_ledger_and_in_what_is_said(tmp_path: Path) -> None:
    federation, told = federation_of(tmp_path, WORDS), list[Event]()
    strategy = federation.strategy(gate=OPEN_GATE)
    strategy.observer = told.append
    strategy.start(federation.grid, initial_arrays(), num_rounds=1)
    names = strategy.ledger.class_names()
    assert names.names == WORDS
    strategy.submit(ForgetRequest.for_class(names.index("three")))
    strategy.start(federation.grid, num_rounds=0)
    assert strategy.ledger.forgotten_classes() == {3}
    assert "class request: class 'three' (index 3)" in [event.text for event in told]
    strategy.submit(ForgetRequest.for_class(names.index(3)))
    strategy.start(federation.grid, num_rounds=0)
    assert strategy.ledger.entries()[-1].reason == "class 'three' (index 3) is forgotten already"


@pytest.mark.parametrize(
    ("names", "known"),
    [
        ((WORDS, WORDS, WORDS, FROM_ONE), WORDS),
        ((WORDS, WORDS, WORDS, None), WORDS),
        ((WORDS, WORDS, FROM_ONE, FROM_ONE), ()),
        ((WORDS, WORDS, None, None), ()),
        ((WORDS, None, None, None), ()),
        ((None, None, None, None), ()),
    ],
)
def test_more_than_half_of_the_clients_decide(
    tmp_path: Path, names: tuple[tuple[str, ...] | None, ...], known: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    federation = federation_of(tmp_path, *names)
    strategy = federation.strategy()
    strategy.start(federation.grid, initial_arrays(), num_rounds=1)
    assert strategy.ledger.class_names() == ClassNames(known)
    odd = "client 3 calls class 0 '1', and the ledger 'zero'; its labels may mean other classes"
    assert (odd in caplog.text) == (bool(known) and names[3] == FROM_ONE)


def test_names_that_are_known_stay(tmp_path: Path) -> None:
    federation = federation_of(tmp_path, WORDS)
    federation.strategy().start(federation.grid, initial_arrays(), num_rounds=1)
    liars = federation_of(tmp_path, FROM_ONE)
    strategy = liars.strategy()
    strategy.start(liars.grid, initial_arrays(), num_rounds=1)
    assert strategy.ledger.class_names().names == WORDS


@pytest.mark.parametrize(
    "told", [["one"], ["x"] * 11, ["x" * 201, *WORDS[1:]], ["", *WORDS[1:]], "words", [1.0] * 10, []]
)
def test_what_is_no_name_is_not_used_and_stops_nobody(tmp_path: Path, told: object) -> None:
    reply = Message(RecordDict(), 1, protocol.IDENTIFY)
    reply.content["class-names"] = ConfigRecord({"names": told})  # type: ignore[dict-item]
    names, problem = protocol.read_class_names(reply, 10)
    assert names is None and problem and "\n" not in problem


def test_a_request_that_came_before_the_labels_were_known_is_held(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    federation = federation_of(tmp_path, FROM_ONE)
    strategy = federation.strategy(gate=OPEN_GATE)
    strategy.submit(ForgetRequest.for_class(1, id="early"))
    strategy.submit(ForgetRequest.for_samples(2, count=2, id="samples"))
    with caplog.at_level(logging.INFO, "fed_unlearn.strategies"):
        strategy.start(federation.grid, initial_arrays(), num_rounds=1)
    entry = strategy.ledger.entry("early")
    assert entry.status is Status.HELD and "its number is the index of class '2' (index 1); approve" in str(
        entry.reason
    )
    assert strategy.ledger.entry("samples").status is Status.COMMITTED
    assert "the data's labels are not the indices of the model's outputs: 1 -> 0, 2 -> 1" in caplog.text
    strategy.ledger.approve("early")
    strategy.start(federation.grid, num_rounds=0)
    assert strategy.ledger.forgotten_classes() == {1}


def test_names_that_renumber_nothing_hold_nothing(tmp_path: Path) -> None:
    federation = federation_of(tmp_path, WORDS)
    strategy = federation.strategy(gate=OPEN_GATE)
    strategy.submit(ForgetRequest.for_class(1, id="early"))
    strategy.start(federation.grid, initial_arrays(), num_rounds=1)
    assert strategy.ledger.entry("early").status is Status.COMMITTED


def test_the_server_may_name_the_classes_itself(tmp_path: Path) -> None:
    from flwr.serverapp.strategy import FedAvg

    from fed_unlearn.strategies import ContinualUnlearning

    strategy = ContinualUnlearning(FedAvg(), ledger=tmp_path / "ledger.db", class_names=FROM_ONE)
    assert strategy.ledger.class_names().index(1) == 0
    with pytest.raises(InvalidDataError, match=r"knows 10 that differ from index 0 on"):
        ContinualUnlearning(FedAvg(), ledger=tmp_path / "ledger.db", class_names=WORDS)


@pytest.mark.parametrize(
    ("names", "label", "index"), [(FROM_ONE, "1", 0), (FROM_ONE, "10", 9), (WORDS, "three", 3), (WORDS, "3", 3)]
)
def test_an_owner_names_a_class_by_the_label_of_its_own_data(
    tmp_path: Path, names: tuple[str, ...], label: str, index: int
) -> None:
    federation = federation_of(tmp_path, names)
    strategy = federation.strategy(gate=OPEN_GATE)
    strategy.start(federation.grid, initial_arrays(), num_rounds=1)
    OwnerQueue(tmp_path / "clients" / "1").add(new_request("class", label=label))
    strategy.start(federation.grid, num_rounds=1)
    [request] = OwnerQueue(tmp_path / "clients" / "1").requests()
    held = digits_of(1).train
    expected = set(held.of_classes({index}).ids)
    assert (request.of_class, request.count) == (index, len(expected))
    [entry] = strategy.ledger.entries()
    assert entry.status is Status.COMMITTED and entry.request.target()["of_class"] == index
    federation.task.trained_ids.clear()
    strategy.start(federation.grid, num_rounds=1)
    assert set(held.ids) - frozenset[str]().union(*federation.task.trained_ids) == expected


def test_a_label_that_the_owners_data_do_not_have_is_refused_at_the_node(tmp_path: Path) -> None:
    federation = federation_of(tmp_path, FROM_ONE)
    strategy = federation.strategy(gate=OPEN_GATE)
    strategy.start(federation.grid, initial_arrays(), num_rounds=1)
    queue = OwnerQueue(tmp_path / "clients" / "1")
    queue.add(new_request("class", label="0"))
    strategy.start(federation.grid, num_rounds=1)
    [request] = OwnerQueue(tmp_path / "clients" / "1").requests()
    assert request.refused == "'0' is not a class of the data (1..10)" and request.sample_ids == ()
    assert strategy.ledger.entries() == []


def test_data_with_the_wrong_number_of_names_are_refused() -> None:
    with pytest.raises(InvalidDataError, match=r"class_names: 3 names for 10 classes"):
        replace(digits_of(0), class_names=("a", "b", "c"))
