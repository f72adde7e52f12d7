"""Who is not let into a federation with TLS and keys: each is refused, it is recorded where, and nothing changes."""

import datetime
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from flwr.proto.fleet_pb2 import ActivateNodeRequest, PullMessagesRequest, PushMessagesRequest
from flwr.proto.message_pb2 import ObjectTree
from flwr.proto.node_pb2 import Node
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from fed_unlearn.ledger import Ledger
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.simulations.cli import run_command
from fed_unlearn.simulations.deployment.certificates import make_certificates, make_node_key
from fed_unlearn.simulations.deployment.federation import LocalFederation
from fed_unlearn.simulations.deployment.layout import Layout
from fed_unlearn.simulations.engines.app_run import run_app, run_settings, scenario_app
from fed_unlearn.simulations.engines.commands import environment_of, free_port, script
from fed_unlearn.simulations.run.driver import write_scenario
from fed_unlearn.simulations.scenario import load_scenario

TINY = Path(__file__).parents[2] / "support" / "tiny.toml"
pytestmark = pytest.mark.ray


@dataclass(frozen=True)
class Running:
    """A federation of two nodes that has run a scenario to its end, and stays up."""

    out: Path
    federation: LocalFederation
    run_id: str

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.federation.port}"

    @property
    def superlink_log(self) -> str:
        return (self.out / "logs" / "superlink.txt").read_text()

    def serve_until_committed(self, request: ForgetRequest, seconds: float) -> None:
        """Put a request into the ledger, and let a server that stays serve it."""
        settings = {**run_settings(self.out, "superlink", oracle=False, ledger_key=None), "stay": True}
        with closing(Ledger(self.out / "ledger.db")) as ledger, ThreadPoolExecutor(1) as pool:
            ledger.receive(request)
            run = pool.submit(run_app, self.federation.commands, scenario_app(), settings)
            deadline = time.monotonic() + seconds
            while str(ledger.entry(request.id).status) != "committed" and time.monotonic() < deadline:
                time.sleep(1.0)
            assert run_command(["serve", "--stop", str(self.out)]) == 0
            assert run.result().completed

    def nodes(self) -> list[tuple[str, str]]:
        """Id and status of the nodes that the SuperLink knows."""
        nodes = self.federation.commands.call("supernode", "list", "own")["nodes"]
        return sorted((node["node-id"], node["status"]) for node in nodes)  # type: ignore[attr-defined]

    def standing(self) -> tuple[object, ...]:
        """What no refused node may change."""
        with closing(Ledger(self.out / "ledger.db")) as ledger:
            return ledger.head(), ledger.served_model(), self.nodes()

    def fleet(self, private: ec.EllipticCurvePrivateKey, public: ec.EllipticCurvePublicKey) -> FleetHttpClient:
        """The API that nodes call, with signatures by one key for another."""
        return FleetHttpClient.from_server_address(
            self.address,
            False,
            (self.out / "keys" / "ca.crt").read_bytes(),
            interceptors=[
                RuntimeVersionHttpInterceptor(component_name="SuperNode"),
                NodeAuthHttpInterceptor(private, public),
            ],
        )

    def supernode(self, *flags: str, seconds: float = 150.0) -> str:
        """What a SuperNode prints that is to be refused, until it ends or its time is over."""
        command = [script("flower-supernode"), "--superlink", self.address, "--port", str(free_port()), *flags]
        log = self.out / "refused.txt"  # no pipe: the SuperNode's executor would keep it open
        with log.open("wb") as file:
            process = subprocess.Popen(
                command, stdout=file, stderr=file, env=environment_of(self.out / "superlink" / "home")
            )
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=seconds)
        process.kill()
        process.wait()
        return log.read_text()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    out = tmp_path_factory.mktemp("federation") / "run"
    write_scenario(load_scenario(str(TINY)), out)
    with LocalFederation(out, Layout(nodes=2, tls=True, auth=True)) as federation:
        settings = run_settings(out, "superlink", oracle=False, ledger_key=None)
        run = run_app(federation.commands, scenario_app(), settings, check=federation.check)
        assert run.completed, run.last_lines
        yield Running(out, federation, run.run_id)


def key_of(path: Path) -> ec.EllipticCurvePrivateKey:
    key = load_ssh_private_key(path.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def refused(call: object, request: object, code: int) -> str:
    with pytest.raises(httpx.HTTPStatusError) as caught:
        call(request)  # type: ignore[operator]
    assert caught.value.response.status_code == code
    return str(caught.value.response.text)


def test_a_node_that_nobody_registered(running: Running, tmp_path: Path) -> None:
    before = running.standing()
    make_node_key(tmp_path / "stranger.key")
    said = running.supernode(
        "--root-certificates", str(running.out / "keys" / "ca.crt"),
        "--auth-supernode-private-key", str(tmp_path / "stranger.key"),
    )  # fmt: skip
    assert "Exit Code: 305" in said and "Failed to activate SuperNode" in said
    assert "No SuperNode found with the given public key" in running.superlink_log
    said = running.supernode(
        "--root-certificates", str(running.out / "keys" / "ca.crt")
    )  # with a key of its own making
    assert "Exit Code: 305" in said
    assert running.standing() == before


def test_a_forged_signature_and_a_key_that_is_another_node_s(running: Running) -> None:
    before, lines = running.standing(), running.superlink_log.count("401")
    mine, theirs = (key_of(running.out / "keys" / f"node-{node}.key") for node in range(2))
    forger = ec.generate_private_key(ec.SECP384R1())
    public = theirs.public_key()
    activate = ActivateNodeRequest(public_key=public_key_to_bytes(public), heartbeat_interval=30.0)
    with running.fleet(forger, public) as fleet:
        assert "Invalid SuperNode authentication" in refused(fleet.ActivateNode, activate, 401)
    with running.fleet(mine, mine.public_key()) as fleet:
        refused(fleet.ActivateNode, activate, 401)
        for node_id, _ in running.nodes():
            request = PullMessagesRequest(node=Node(node_id=int(node_id)))
            with running.fleet(forger, forger.public_key()) as stranger:
                refused(stranger.PullMessages, request, 401)
    assert running.superlink_log.count("401") >= lines + 4
    assert running.standing() == before


def test_a_request_that_is_sent_again_later(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    before = running.standing()
    key = key_of(running.out / "keys" / "node-0.key")
    activate = ActivateNodeRequest(public_key=public_key_to_bytes(key.public_key()), heartbeat_interval=30.0)
    then = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=310)
    monkeypatch.setattr("flwr.supernode.node_auth_http_interceptor.now", lambda: then)
    with running.fleet(key, key.public_key()) as fleet:
        refused(fleet.ActivateNode, activate, 401)
    assert running.standing() == before


def test_a_reply_to_a_message_of_a_run_that_is_over(running: Running) -> None:
    before = running.standing()
    key = key_of(running.out / "keys" / "node-0.key")
    own = None
    with running.fleet(key, key.public_key()) as fleet:
        for node_id, _ in running.nodes():
            request = PushMessagesRequest(node=Node(node_id=int(node_id)), message_object_trees=[ObjectTree()])
            reply = request.messages_list.add()
            reply.error.code, metadata = 2, reply.metadata
            metadata.run_id, metadata.src_node_id, metadata.dst_node_id = int(running.run_id), int(node_id), 1
            metadata.message_id, metadata.reply_to_message_id = "again", "first"
            metadata.created_at, metadata.ttl, metadata.message_type = time.time(), 60.0, "train"
            with pytest.raises(httpx.HTTPStatusError) as caught:
                fleet.PushMessages(request)
            if caught.value.response.status_code != 401:  # 401: the node id is the other node's
                own = caught.value.response.text
    assert own is not None and "Internal server error" not in own
    assert running.standing() == before


def test_another_authority_and_no_encryption(running: Running, tmp_path: Path) -> None:
    before = running.standing()
    make_certificates(tmp_path, ("127.0.0.1", "localhost"))
    own = ("--auth-supernode-private-key", str(running.out / "keys" / "node-0.key"), "--max-retries", "1")
    said = running.supernode("--root-certificates", str(tmp_path / "ca.crt"), *own, seconds=60.0)
    assert "SuperNode ID" not in said and ("CERTIFICATE_VERIFY_FAILED" in said or "Connection attempt failed" in said)
    said = running.supernode("--insecure", "--max-retries", "1", seconds=60.0)
    assert "SuperNode ID" not in said
    assert running.standing() == before


def test_a_registered_node_that_claims_another_s_id(running: Running, tmp_path: Path) -> None:
    store = running.out / "clients" / "0" / "state.json"
    make_node_key(tmp_path / "impostor.key")
    running.federation.commands.register_node(tmp_path / "impostor.key.pub")
    time.sleep(6.0)
    impostor = subprocess.Popen(
        [
            script("flower-supernode"), "--superlink", running.address, "--port", str(free_port()),
            "--root-certificates", str(running.out / "keys" / "ca.crt"),
            "--auth-supernode-private-key", str(tmp_path / "impostor.key"),
            "--node-config", f'partition-id=0 num-partitions=2 client-dir="{tmp_path / "store"}"',
        ],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        env=environment_of(running.out / "superlink" / "home"),
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while sum(status == "online" for _, status in running.nodes()) < 3:
            assert time.monotonic() < deadline, "the impostor's node did not come"
        with closing(Ledger(running.out / "ledger.db")) as ledger:
            known = ledger.client_key("0")
        running.serve_until_committed(ForgetRequest.for_class(5, id="later"), 300.0)
    finally:
        impostor.terminate()
        impostor.wait()
    log = (running.out / "log.txt").read_text()
    assert "says that it is client 0; it shows the key" in log and "the id is bound to the key" in log
    with closing(Ledger(running.out / "ledger.db")) as ledger:
        assert str(ledger.entry("later").status) == "committed"
        assert ledger.client_key("0") == known
    assert "later" in store.read_text()
    assert (
        not (tmp_path / "store" / "state.json").exists() or "later" not in (tmp_path / "store/state.json").read_text()
    )
    assert run_command(["ledger", "verify", str(running.out)]) == 0
