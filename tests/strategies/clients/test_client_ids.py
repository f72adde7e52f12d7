"""Who a client is: nodes that give one id, keys that ids are bound to, and ids that are no names."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from federation import OPEN_GATE, Federation, initial_arrays
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.proto.node_pb2 import NodeInfo
from hostile import Honest, hostile_federation

from fed_unlearn import protocol
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.simulations.inprocess import InProcessGrid
from fed_unlearn.strategies.clients.book import ClientBook, node_keys

KEYS = [f"key {client}".encode() for client in range(4)]


class Impostor:
    """Client 0, which says that it is another one while it is told to."""

    def __init__(self, name: str = "2") -> None:
        self.name: str | None = name

    def __call__(self, message: Message, context: Context, honest: Honest) -> Message:
        reply = honest()
        if self.name is not None and reply.has_content() and protocol.STAMP_KEY in reply.content:
            stamp = {**reply.content.config_records[protocol.STAMP_KEY], "client_id": self.name}
            reply.content = RecordDict({**reply.content, protocol.STAMP_KEY: ConfigRecord(stamp)})
        return reply


class PartlyConnected(InProcessGrid):
    """A grid some of whose nodes are not connected."""

    away: frozenset[int] = frozenset()

    def get_node_ids(self) -> Iterator[int]:
        return iter([node for node in super().get_node_ids() if node not in self.away])


def federation_of(folder: Path, impostor: Impostor, keys: list[bytes] | None = None) -> Federation:
    federation = hostile_federation(folder, {0: impostor})
    stores = [{"client-dir": str(folder / "clients" / str(client))} for client in range(4)]
    federation.grid = PartlyConnected(federation.grid._client_app, 4, node_configs=stores, keys=keys)
    return federation


def quarantined(federation: Federation, client: int) -> bool:
    return '"gone"' in (federation.folder / "clients" / str(client) / "state.json").read_text()


def test_nodes_that_give_one_id_both_wait_until_one_is_gone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    federation = federation_of(tmp_path, Impostor())
    strategy = federation.strategy(gate=OPEN_GATE)
    strategy.submit(ForgetRequest.for_samples(2, count=2, id="gone"))
    strategy.start(federation.grid, initial_arrays(), num_rounds=1)
    assert strategy.ledger.entry("gone").status is Status.WAITING
    assert "nodes 1 and 3 all say that they are client 2" in caplog.text
    assert not quarantined(federation, 0) and not quarantined(federation, 2)
    federation.grid.away = frozenset({1})
    strategy.start(federation.grid, num_rounds=1)
    assert strategy.ledger.entry("gone").status is Status.COMMITTED
    assert quarantined(federation, 2) and not quarantined(federation, 0)


def test_a_client_that_starts_anew_comes_back_when_its_old_node_is_gone(tmp_path: Path) -> None:
    """Node 1 is the new node of client 2; its old one, node 3, is still listed for one round."""
    federation = federation_of(tmp_path, Impostor())
    federation.grid.away = frozenset({1})
    strategy = federation.strategy()
    seen: list[set[str]] = []

    def step(event: object) -> None:
        if getattr(event, "kind", "") == "training-round":
            seen.append(set(strategy.served.audit.replies) if strategy.served and strategy.served.audit else set())
            federation.grid.away = (frozenset(), frozenset({3}), frozenset({3}))[min(len(seen), 3) - 1]

    strategy.observer = step  # type: ignore[assignment]
    told: list[tuple[int, str]] = []
    whole = federation.grid._deliver

    def note(message: Message) -> Message | None:
        told.append((message.metadata.dst_node_id, message.metadata.message_type))
        return whole(message)

    federation.grid._deliver = note  # type: ignore[method-assign]
    strategy.start(federation.grid, initial_arrays(), num_rounds=4)
    trained = [[node for node, kind in told if kind == protocol.TRAIN].count(node) for node in (1, 3)]
    assert trained == [2, 1]  # round 1: the old node; round 2: none; then the new one
    assert len(seen) == 4


def test_an_id_belongs_to_the_key_that_showed_it_first(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    impostor = Impostor()
    federation = federation_of(tmp_path, impostor, KEYS)
    impostor.name = None
    federation.strategy().start(federation.grid, initial_arrays(), num_rounds=1)
    impostor.name = "2"
    strategy = federation.strategy(gate=OPEN_GATE)
    strategy.submit(ForgetRequest.for_samples(2, count=2, id="gone"))
    strategy.start(federation.grid, num_rounds=0)
    assert strategy.ledger.entry("gone").status is Status.COMMITTED  # the true client is not kept out
    assert quarantined(federation, 2) and not quarantined(federation, 0)
    assert "node 1 is refused: node 1 says that it is client 2; it shows the key" in caplog.text


def test_a_key_cannot_take_a_second_id_and_a_bound_id_needs_its_key(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    impostor = Impostor()
    federation = federation_of(tmp_path, impostor, KEYS)
    impostor.name = None
    federation.grid.away = frozenset({3})
    strategy = federation.strategy()
    strategy.start(federation.grid, initial_arrays(), num_rounds=1)
    impostor.name = "2"
    strategy.start(federation.grid, num_rounds=1)
    assert "belongs to client 0" in caplog.text and strategy.ledger.client_key("2") is None
    book = ClientBook(strategy.ledger)
    assert "shows no key" in str(book.key_problem("0", None))
    assert book.key_problem("0", strategy.ledger.client_key("0")) is None
    assert book.key_problem("unknown", "f" * 64) is None


def test_a_changed_machine_is_bound_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    impostor = Impostor()
    impostor.name = None
    federation = federation_of(tmp_path, impostor, KEYS)
    federation.strategy().start(federation.grid, initial_arrays(), num_rounds=1)
    changed = federation_of(tmp_path, impostor, [*KEYS[:3], b"new machine"])
    strategy = federation.strategy()
    strategy.start(changed.grid, num_rounds=1)
    assert "rebind" in caplog.text
    strategy.ledger.rebind_client("3", None)
    caplog.clear()
    strategy.start(changed.grid, num_rounds=1)
    assert "refused" not in caplog.text
    assert strategy.ledger.client_key("3") == node_keys(changed.grid)[4]


@pytest.mark.parametrize("name", ["", "a" * 201, "\x1b[2J", "9" * 5000])
def test_ids_that_are_no_names_are_refused_in_words(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    federation = federation_of(tmp_path, Impostor(name))
    strategy = federation.strategy()
    strategy.start(federation.grid, initial_arrays(), num_rounds=1)
    assert strategy.ledger.known_clients() == ["1", "2", "3"]
    said = [record.getMessage() for record in caplog.records if "node 1" in record.getMessage()]
    assert any("an id" in text or "an empty id" in text for text in said)
    assert all(text.isprintable() and len(text) < 600 for text in said)


def test_keys_that_do_not_outlive_a_restart_bind_nothing() -> None:
    """Nodes of a simulation have random keys; a SuperNode without authentication registers itself when it starts."""
    start = "2026-01-01T00:00:00+00:00"

    class Nodes(PartlyConnected):
        def get_nodes(self) -> list[NodeInfo]:
            return [
                NodeInfo(node_id=1, public_key=b"a", heartbeat_interval=1e300),
                NodeInfo(
                    node_id=2, public_key=b"b", owner_aid="<id:none>", registered_at=start, last_activated_at=start
                ),
                NodeInfo(
                    node_id=3,
                    public_key=b"c",
                    owner_aid="<id:none>",
                    registered_at=start,
                    last_activated_at="2026-01-01T00:01:00+00:00",
                ),
                NodeInfo(node_id=4),
            ]

    federation = Nodes(lambda message, context: message, 4)  # type: ignore[arg-type]
    assert set(node_keys(federation)) == {3}


def test_the_log_is_where_the_names_are(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    caplog.set_level(logging.WARNING)
    federation = federation_of(tmp_path, Impostor())
    strategy = federation.strategy()
    strategy.start(federation.grid, initial_arrays(), num_rounds=1)
    assert all("client 2" not in json_of for json_of in map(str, strategy.ledger.events()))
