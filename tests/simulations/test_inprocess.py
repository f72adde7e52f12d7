import copy
import time

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.simulations.inprocess import InProcessGrid, copy_records, set_task_identity

app = ClientApp()
seen: list[RecordDict] = []


@app.query("echo")
def echo(message: Message, context: Context) -> Message:
    seen.append(message.content)
    return Message(message.content, reply_to=message)


@app.query("count")
def count(message: Message, context: Context) -> Message:
    calls = int(str(context.state.config_records.get("calls", ConfigRecord({"n": 0}))["n"])) + 1
    context.state["calls"] = ConfigRecord({"n": calls})
    if message.content.config_records["order"]["fail"]:
        raise ValueError("asked to fail")
    facts = {"calls": calls, "client": context.node_config["partition-id"], "of": context.node_config["num-partitions"]}
    return Message(RecordDict({"facts": ConfigRecord({**facts, **context.run_config})}), reply_to=message)


@app.query("interrupt")
def interrupt(message: Message, context: Context) -> Message:
    raise KeyboardInterrupt


@app.query("nothing")
def nothing(message: Message, context: Context) -> Message:
    return None  # type: ignore[return-value]


@app.train()
def train(message: Message, context: Context) -> Message:
    client = int(context.node_config["partition-id"])
    arrays = ArrayRecord([array.numpy() + client for array in message.content.array_records["arrays"].values()])
    metrics = MetricRecord({"num-examples": client + 1})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


def message(node: int, kind: str = "query.count", *, fail: bool = False) -> Message:
    return Message(RecordDict({"order": ConfigRecord({"fail": fail})}), node, kind)


def plain(content: RecordDict) -> dict[str, dict[str, object]]:
    """All values of all records, nothing of which is shared with them."""
    return {
        name: {
            key: (value.dtype, tuple(value.shape), value.data) if isinstance(value, Array) else copy.deepcopy(value)
            for key, value in record.items()
        }
        for name, record in content.items()
    }


def test_messages_can_be_built_outside_of_a_flower_run() -> None:
    """If this fails, Flower has moved its TaskIdentity: see set_task_identity."""
    set_task_identity(run_id=1, node_id=0)
    built = message(5)
    assert (built.metadata.run_id, built.metadata.src_node_id, built.metadata.dst_node_id) == (1, 0, 5)


def test_clients_are_nodes_in_order_and_know_who_they_are() -> None:
    grid = InProcessGrid(app, 3, run_config={"seed": 7})
    assert list(grid.get_node_ids()) == [1, 2, 3]
    replies = list(grid.send_and_receive([message(node) for node in (3, 1)]))
    facts = [dict(reply.content.config_records["facts"]) for reply in replies]
    assert facts == [{"calls": 1, "client": 2, "of": 3, "seed": 7}, {"calls": 1, "client": 0, "of": 3, "seed": 7}]
    assert [reply.metadata.src_node_id for reply in replies] == [3, 1]


def test_states_last_and_an_exception_undoes_what_the_client_changed() -> None:
    grid = InProcessGrid(app, 1)
    orders = [message(1), message(1, fail=True), message(1)]
    first, failed, second = grid.send_and_receive(orders)
    assert first.content.config_records["facts"]["calls"] == 1
    assert failed.has_error() and failed.error.code == 2
    assert failed.error.reason == "ValueError: asked to fail"
    assert second.content.config_records["facts"]["calls"] == 2


def test_an_action_that_is_not_registered_and_a_reply_that_is_none_are_error_replies() -> None:
    grid = InProcessGrid(app, 1)
    replies = list(grid.send_and_receive([message(1, "query.unknown"), message(1, "query.nothing")]))
    assert [reply.error.code for reply in replies] == [2, 2]


def test_an_interrupt_passes_through() -> None:
    with pytest.raises(KeyboardInterrupt):
        InProcessGrid(app, 1).send_and_receive([message(1, "query.interrupt")])


def test_messages_to_unknown_nodes_are_dropped_and_replies_can_be_pulled_once() -> None:
    grid = InProcessGrid(app, 2)
    ids = list(grid.push_messages([message(1), message(9), message(2)]))
    assert len(ids) == 2
    pulled = list(grid.pull_messages(ids))
    assert [reply.metadata.src_node_id for reply in pulled] == [1, 2]
    assert list(grid.pull_messages(ids)) == []


def test_nothing_that_crosses_the_grid_is_shared() -> None:
    sent = RecordDict(
        {
            "arrays": ArrayRecord([np.arange(4, dtype=np.float32)]),
            "metrics": MetricRecord({"losses": [1.0, 2.0]}),
            "config": ConfigRecord({"names": ["a"]}),
        }
    )
    original = plain(sent)
    assert plain(copy_records(sent)) == original
    grid = InProcessGrid(app, 1)
    seen.clear()
    (reply,) = grid.send_and_receive([Message(sent, 1, "query.echo")])
    assert plain(seen[0]) == original and plain(reply.content) == original
    for content in (seen[0], reply.content):
        content.array_records["arrays"]["0"] = Array(np.zeros(4, dtype=np.float32))
        content.metric_records["metrics"]["losses"].append(3.0)  # type: ignore[union-attr,arg-type]
        content.config_records["config"]["names"].append("b")  # type: ignore[union-attr,arg-type]
        content["more"] = ConfigRecord()
        assert plain(sent) == original
    assert np.array_equal(sent.array_records["arrays"]["0"].numpy(), np.arange(4, dtype=np.float32))


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint8", "bool"])
def test_arrays_arrive_as_they_were_sent(dtype: str) -> None:
    array = np.asfortranarray(np.arange(6).reshape(2, 3).astype(dtype))
    sent = RecordDict({"arrays": ArrayRecord([array, np.array(3, dtype=dtype)])})
    (reply,) = InProcessGrid(app, 1).send_and_receive([Message(sent, 1, "query.echo")])
    received = reply.content.array_records["arrays"].to_numpy_ndarrays()
    assert [item.dtype for item in received] == [np.dtype(dtype)] * 2
    assert np.array_equal(received[0], array) and received[1] == np.array(3, dtype=dtype)
    received[0][0, 0] = 1
    assert np.array_equal(sent.array_records["arrays"].to_numpy_ndarrays()[0], array)


def test_a_stock_strategy_runs_on_it_and_averages_as_by_hand() -> None:
    initial = ArrayRecord([np.array([1.0, 2.0])])
    result = FedAvg(fraction_evaluate=0.0).start(InProcessGrid(app, 3), initial, num_rounds=2)
    # Client k adds k and weighs k + 1: each round adds (0 * 1 + 1 * 2 + 2 * 3) / 6 = 8 / 6.
    assert np.allclose(result.arrays.to_numpy_ndarrays()[0], np.array([1.0, 2.0]) + 2 * 8 / 6)


def test_a_message_costs_little() -> None:
    grid = InProcessGrid(app, 1)
    grid.send_and_receive([message(1)])
    times = []
    for _ in range(200):
        started = time.perf_counter()
        grid.send_and_receive([message(1)])
        times.append(time.perf_counter() - started)
    assert sorted(times)[len(times) // 2] < 0.0005


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(InvalidParameterError, match="0 clients"):
        InProcessGrid(app, 0)
    with pytest.raises(InvalidParameterError, match="1 node configurations were given for 2 clients"):
        InProcessGrid(app, 2, node_configs=[{}])
