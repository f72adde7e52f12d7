"""A SuperNode without a SuperLink: Flower's own Runtime API, with messages that a test puts there."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from flwr.app import Context, Message, RecordDict
from flwr.cli.build import build_fab_from_disk
from flwr.common.config import get_fused_config_from_fab, get_metadata_from_config, get_project_config
from flwr.supercore.constant import TaskType
from flwr.supercore.fab import Fab
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree, no_object_id_recompute
from flwr.supercore.inflatable.inflatable_utils import pull_and_inflate_object_from_tree
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode.main import create_app
from flwr.supernode.nodestate import NodeStateFactory

NODE_ID = 7
SECRET = b"0123456789abcdef"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class LoneSuperNode:
    """Its Runtime API answers at ``address``."""

    def __init__(self, node_config: Mapping[str, str | int]) -> None:
        objects = ObjectStoreFactory()
        self._factory = NodeStateFactory(objectstore_factory=objects)
        self.state, self.store = self._factory.state(), objects.store()
        self.state.set_node_id(NODE_ID)
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._node_config = dict(node_config)
        app = create_app(state_factory=self._factory, superexec_auth_secret=SECRET)
        config = uvicorn.Config(app, host="127.0.0.1", port=self.port, log_level="error", workers=1)
        self.server = uvicorn.Server(config)

    def begin_run(self, run_id: int, app: Path, overrides: Mapping[str, str | int | bool]) -> None:
        """Make a run of a Flower app known."""
        content = build_fab_from_disk(app)
        fab = Fab(hashlib.sha256(content).hexdigest(), content, {})
        run = Run.create_empty(run_id)
        run.fab_id, run.fab_version = get_metadata_from_config(get_project_config(app))
        run.fab_hash, run.override_config, run.series_id = fab.hash_str, dict(overrides), run_id
        settings = get_fused_config_from_fab(content, run)
        context = Context(run_id, NODE_ID, dict(self._node_config), RecordDict(), settings, series_id=run_id)
        self.state.set_run_series_context(run_id, context)
        self.state.store_run(run)
        self.state.store_fab(fab)
        self._fab_hash = fab.hash_str

    def put(self, run_id: int, kind: str, content: RecordDict) -> str:
        """Offer a message to the executor, and return its id."""
        TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = run_id, 1, 1
        message = Message(content, dst_node_id=NODE_ID, message_type=kind)
        message.metadata.__dict__["_run_id"] = run_id
        assert self.state.create_task(task_type=TaskType.CLIENT_APP, run_id=run_id, fab_hash=self._fab_hash)
        with no_object_id_recompute():
            message.metadata.__dict__["_message_id"] = message.object_id
            self.store.preregister(run_id, get_object_tree(message))
            for name, item in get_all_nested_objects(message).items():
                self.store.put(name, item.deflate())
        self.state.store_message(message)
        return str(message.metadata.message_id)

    def reply(self, seconds: float = 120) -> Message:
        """Wait for the next reply."""
        deadline = time.monotonic() + seconds
        while not (found := self.state.get_messages_legacy(is_reply=True, limit=1)):
            assert time.monotonic() < deadline, "no reply came"
            time.sleep(0.02)
        name = found[0].metadata.message_id
        tree = self.store.get_object_tree(name)

        def pull(object_id: str) -> bytes:
            while not (content := self.store.get(object_id)):
                time.sleep(0.02)
            return content

        whole = pull_and_inflate_object_from_tree(tree, pull, lambda object_id: None, return_type=Message)
        self.state.delete_messages(message_ids=[name, whole.metadata.reply_to_message_id])
        return whole


@contextmanager
def lone_supernode(node_config: Mapping[str, str | int]) -> Iterator[LoneSuperNode]:
    node = LoneSuperNode(node_config)
    thread = threading.Thread(target=node.server.run)
    thread.start()
    try:
        while not node.server.started:
            assert thread.is_alive()
            time.sleep(0.02)
        yield node
    finally:
        node.server.should_exit = True
        thread.join()
