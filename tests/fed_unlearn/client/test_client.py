"""The client side of an app of its user's own, reached by real Flower messages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from federation import DigitsTask
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.client import NumPyClient
from flwr.clientapp import ClientApp
from torch import Tensor
from torch.utils.data import Dataset

from fed_unlearn import protocol
from fed_unlearn.client import current_session, install, retained
from fed_unlearn.client.store import ClientStore
from fed_unlearn.data.images import ClientData, ImageSet
from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.simulations.inprocess import InProcessGrid

IDS = ("a", "b", "c", "d", "e", "f")
FINGERPRINT = "f" * 64
Data = Dataset[tuple[Tensor, int]]


class Plain(Data):
    """A user's dataset without ids; the label of a sample is its position."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.zeros(1, 2, 2), index


class Named(Plain):
    """A user's dataset that has ids of its own."""

    def __init__(self, ids: Sequence[object]) -> None:
        super().__init__(len(ids))
        self.ids = ids


def images(count: int) -> ImageSet:
    return ImageSet(torch.zeros(count, 1, 2, 2), torch.arange(count), IDS[:count])


def data_of(client: int) -> ClientData:
    return ClientData(images(6), images(2), images(2), class_count=10, fingerprint=FINGERPRINT)


def answer(message: Message, **facts: object) -> Message:
    return Message(RecordDict({"facts": ConfigRecord(facts)}), reply_to=message)  # type: ignore[arg-type]


def ask(app: ClientApp, folder: Path, kind: str, client: int = 0) -> Message:
    stores = [{"client-dir": str(folder / str(number))} for number in range(2)]
    [reply] = InProcessGrid(app, 2, node_configs=stores).send_and_receive([Message(RecordDict(), client + 1, kind)])
    return reply


def labels_left(folder: Path, dataset: Data) -> list[int]:
    """The labels that a handler of client 0 sees in the retained view of its dataset."""
    app = ClientApp()
    install(app, DigitsTask(data_of=data_of))

    @app.query("look")
    def look(message: Message, context: Context) -> Message:
        view = retained(dataset, context)
        return answer(message, labels=[int(view[index][1]) for index in range(len(view))])  # type: ignore[arg-type]

    reply = ask(app, folder, "query.look")
    assert reply.has_content(), reply.error.reason
    stamp = protocol.read_stamp(reply)
    assert stamp is not None and stamp.retained
    return list(reply.content.config_records["facts"]["labels"])  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Client 0 has b tombstoned and e quarantined, client 1 has a quarantined."""
    store = ClientStore(tmp_path / "0", FINGERPRINT)
    store.quarantine("r1", ["b"], 1)
    store.confirm("r1", 0)
    store.quarantine("r2", ["e"], 1)
    ClientStore(tmp_path / "1", FINGERPRINT).quarantine("r3", ["a"], 1)
    return tmp_path


@pytest.mark.parametrize(
    ("dataset", "labels"),
    [
        (images(6), [0, 2, 3, 5]),
        (images(3), [0, 2]),
        (Plain(6), [0, 2, 3, 5]),
        (Named(["e", "x", "b"]), [1]),
        (Named(["x"]), [0]),
        (Named([]), []),
    ],
)
def test_the_retained_view_leaves_out_what_is_quarantined_or_tombstoned(
    folder: Path, dataset: Data, labels: list[int]
) -> None:
    assert labels_left(folder, dataset) == labels


def test_ids_that_are_numbers_are_compared_as_text(folder: Path) -> None:
    ClientStore(folder / "0", FINGERPRINT).quarantine("r4", ["12"], 1)
    assert labels_left(folder, Named([11, 12, 13])) == [0, 2]


def test_samples_that_cannot_be_told_apart_are_refused(folder: Path) -> None:
    app = ClientApp()
    install(app, DigitsTask(data_of=data_of))

    @app.query("look")
    def look(message: Message, context: Context) -> Message:
        return answer(message, size=len(retained(Plain(5), context)))  # type: ignore[arg-type]

    reply = ask(app, folder, "query.look")
    assert reply.has_error()
    assert "given 5 samples without ids; the task's data set has 6: give it the client's whole" in reply.error.reason


def test_outside_a_handler_there_is_advice(tmp_path: Path) -> None:
    context = Context(run_id=1, node_id=1, node_config={"partition-id": 0}, state=RecordDict(), run_config={})
    for call in (lambda: retained(Plain(6), context), current_session):
        with pytest.raises(
            FedUnlearnError, match=r"call fed_unlearn\.client\.install\(app, task\) where the ClientApp"
        ):
            call()


def test_after_a_handler_the_session_is_over(folder: Path) -> None:
    app = ClientApp()
    install(app, DigitsTask(data_of=data_of))

    @app.query("fail")
    def fail(message: Message, context: Context) -> Message:
        current_session()
        raise ValueError("secret")

    reply = ask(app, folder, "query.fail")
    assert reply.has_error() and "secret" not in reply.error.reason and "ValueError" in reply.error.reason
    with pytest.raises(FedUnlearnError):
        current_session()


def test_an_app_that_is_not_installed_has_no_session(folder: Path) -> None:
    app = ClientApp()

    @app.query("look")
    def look(message: Message, context: Context) -> Message:
        retained(Plain(6), context)
        return answer(message)

    assert "install(app, task)" in ask(app, folder, "query.look").error.reason


def test_the_context_of_another_client_is_refused(folder: Path) -> None:
    app = ClientApp()
    install(app, DigitsTask(data_of=data_of))

    @app.query("look")
    def look(message: Message, context: Context) -> Message:
        other = Context(1, 2, {**context.node_config, "partition-id": 1}, RecordDict(), {})
        retained(Plain(6), other)
        return answer(message)

    assert "the context of another client" in ask(app, folder, "query.look").error.reason


def test_a_second_install_is_refused_and_harmless(folder: Path) -> None:
    app = ClientApp()
    install(app, DigitsTask(data_of=data_of))
    with pytest.raises(FedUnlearnError, match="installed in this ClientApp already; install them once"):
        install(app, DigitsTask(data_of=data_of))
    reply = ask(app, folder, "query.requests")
    stamp = protocol.read_stamp(reply)
    assert stamp is not None and stamp.client_id == "0"


def test_an_app_made_with_a_client_fn_is_refused() -> None:
    app = ClientApp(client_fn=lambda context: NumPyClient().to_client())
    with pytest.raises(FedUnlearnError, match=r"made with a client_fn; unlearning needs the Message API"):
        install(app, DigitsTask(data_of=data_of))


def handler(uses_retained: bool) -> Callable[[Message, Context], Message]:
    def handle(message: Message, context: Context) -> Message:
        if uses_retained:
            retained(data_of(0).train, context)
        return answer(message, calls=1)

    return handle


@pytest.mark.parametrize("uses_retained", [True, False])
@pytest.mark.parametrize("client", [0, 1])
def test_handlers_registered_before_and_after_install_are_stamped(
    folder: Path, uses_retained: bool, client: int
) -> None:
    app = ClientApp()
    app.train()(handler(uses_retained))
    app.query("before")(handler(uses_retained))
    install(app, DigitsTask(data_of=data_of))
    app.evaluate()(handler(uses_retained))
    app.query("after")(handler(uses_retained))
    expected = ClientStore(folder / str(client), FINGERPRINT).tombstone_digest()
    for kind in ("train", "query.before", "evaluate", "query.after"):
        reply = ask(app, folder, kind, client)
        assert reply.has_content(), reply.error.reason
        assert dict(reply.content.config_records["facts"]) == {"calls": 1}
        stamp = protocol.read_stamp(reply)
        assert stamp is not None
        assert (stamp.client_id, stamp.tombstones, stamp.retained) == (str(client), expected, uses_retained)
