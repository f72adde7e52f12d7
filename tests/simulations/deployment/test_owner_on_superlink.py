"""Owners ask at their nodes of a real SuperLink: served, told back, and no id in anything but that node's folder."""

from __future__ import annotations

import json
import os
import random
import signal
import uuid
from pathlib import Path

import pytest
from canaries import found_anywhere
from deployed import Deployed, deployed, eventually
from PIL import Image
from sklearn.datasets import load_digits
from stores import stored_requests

from fed_unlearn.locks import who_works_on
from fed_unlearn.owner import OwnerQueue, new_request

SCENARIO = """
name = "owners"
[run]
threads = 1
[data]
dataset = "folder:{data}"
[clients]
count = 2
[model]
name = "small-cnn"
[training]
learning-rate = 0.05
[serve]
owner-seconds = 3.0
retry-seconds = 5.0
[unlearning]
max-request-norm = 12
[gate.sample]
max-forget-accuracy = "none"
max-retain-drop = "none"
max-total-retain-drop = "none"
[[timeline]]
train = {{ rounds = 2 }}
"""


def images_named_by_uuids(folder: Path) -> None:
    digits, numbers = load_digits(), random.Random(0)
    for part, chosen in (("train", range(400)), ("test", range(400, 600))):
        for position in chosen:
            place = folder / part / str(digits.target[position])
            place.mkdir(parents=True, exist_ok=True)
            name = uuid.UUID(int=numbers.getrandbits(128), version=4)
            Image.fromarray((digits.images[position] * 15).astype("uint8")).save(place / f"{name}.png")


def told(federation: Deployed, number: int) -> dict[str, str]:
    """How the requests at a node stand, by its own word."""
    command = ("fed-unlearn", "forget", "--client-dir", str(federation.client_dir(number)), "--status", "--json")
    body = json.loads(federation.run(*command).stdout)
    return {item["id"]: item["servers"][0]["status"] if item["servers"] else item["status"] for item in body}


@pytest.mark.slow
def test_an_owners_samples_are_forgotten_and_named_nowhere_else(tmp_path: Path) -> None:
    out, data = tmp_path / "run", tmp_path / "data"
    images_named_by_uuids(data)
    (tmp_path / "owners.toml").write_text(SCENARIO.format(data=data))
    with deployed(tmp_path / "federation", 2) as federation:
        federation.start_node(0)
        federation.start_node(1)
        federation.start("serve", "fed-unlearn", "serve", str(tmp_path / "owners.toml"), "--out", str(out))
        node = federation.client_dir(1)
        eventually((node / "state.json").exists, 240, "the node has answered", 1)

        # Which images the node has, the owner knows; here it is found by asking for one after the other.
        every = sorted(path.relative_to(data).as_posix() for path in (data / "train").rglob("*.png"))
        asked = tmp_path / "federation" / "clients" / "1" / "asked"
        asked.write_text("\n".join(every))
        refused = OwnerQueue(node).add(new_request("samples", every))
        of_class = federation.run("fed-unlearn", "forget", "--client-dir", str(node), "--class", "3").stdout.strip()
        eventually(lambda: told(federation, 1).get(refused) == "refused", 240, "what it does not have is refused", 1)
        eventually(lambda: told(federation, 1).get(of_class) == "committed", 240, "its class is forgotten", 1)
        [stored] = stored_requests(node / "state.json").values()
        own = [str(name) for name in stored["sample_ids"]]
        assert own and all(name.startswith("train/3/") for name in own)

        server = who_works_on(out / "ledger.db")
        assert server is not None
        # The owner has its receipt, and anybody can check it with the public key.
        receipt, shown = node / "receipts" / f"{of_class}.json", tmp_path / "federation" / "clients" / "1" / "shown"
        eventually(receipt.exists, 240, "the receipt is at the node", 1)
        forget = ("fed-unlearn", "forget", "--client-dir", str(node))
        federation.run(*forget, "--receipt", of_class, "--out", str(shown))
        assert shown.read_bytes() == receipt.read_bytes()
        verified = federation.run("fed-unlearn", "receipt", "verify", str(shown), "--key", str(out / "receipts.pub"))
        assert "committed" in verified.stdout
        assert (node / "receipts.pub").read_bytes() == (out / "receipts.pub").read_bytes()
        assert f"{of_class}: receipt in {receipt}" in federation.run(*forget, "--status").stdout

        again = OwnerQueue(node).add(new_request("samples", own[:1]))
        os.kill(server, signal.SIGKILL)
        federation.kill("node-1")
        federation.start_node(1)
        eventually(lambda: told(federation, 1).get(again) == "rejected", 300, "both are back, and it is answered", 1)

        federation.run("fed-unlearn", "serve", "--stop", str(out))
        federation.processes["serve"].wait(60)
        assert federation.run("fed-unlearn", "ledger", "verify", str(out)).stdout.startswith("intact")
        shown = federation.run("fed-unlearn", "request", "list", str(out), "--json").stdout
        (out / "shown").write_text(shown)
        assert sorted(entry["status"] for entry in json.loads(shown)) == ["committed", "rejected"]

        canaries = [Path(name).stem for name in every]
        elsewhere = [path for path in federation.folder.rglob("*") if path.is_file() and node not in path.parents]
        assert federation.folder / "superlink.db" in elsewhere
        assert found_anywhere([*elsewhere, out, node / "receipts"], canaries) == []
        assert found_anywhere([node], canaries)
