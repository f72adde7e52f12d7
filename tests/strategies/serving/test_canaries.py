"""Ids of samples that an owner asks to have forgotten are nowhere but in the folder of that client's node."""

from __future__ import annotations

import base64
import hashlib
import logging
import random
import uuid
from dataclasses import replace
from pathlib import Path

import pytest
from canaries import found_anywhere
from fault_trials import PLAN, few_digits
from federation import OPEN_GATE, DigitsTask, Federation, initial_arrays, make_app
from flwr.app import Context, Message
from flwr.common.serde import message_to_proto

from fed_unlearn.data.images import ClientData, ImageSet
from fed_unlearn.gate import Gate, Thresholds
from fed_unlearn.owner import OwnerQueue, new_request
from fed_unlearn.requests import SampleScope
from fed_unlearn.simulations.cli import run_command
from fed_unlearn.simulations.inprocess import InProcessGrid

OWNER = 2
_STRANGER = str(uuid.UUID(int=random.Random("stranger").getrandbits(128), version=4))


def with_uuids(client: int) -> ClientData:
    """A client's digits under ids that occur nowhere else."""
    data, numbers = few_digits(client), random.Random(client)
    ids = [str(uuid.UUID(int=numbers.getrandbits(128), version=4)) for _ in data.train.ids]
    return replace(data, train=ImageSet(data.train.images, data.train.labels, ids))


class Recorded:
    """A ClientApp; every message and reply is written down as Flower sends it."""

    def __init__(self, task: DigitsTask, folder: Path) -> None:
        self._app, self._folder, self.count = make_app(task), folder, 0
        folder.mkdir()

    def __call__(self, message: Message, context: Context) -> Message:
        reply = self._app(message, context)
        for what in (message, reply):
            (self._folder / str(self.count)).write_bytes(message_to_proto(what).SerializeToString())
            self.count += 1
        return reply


def test_the_search_finds_every_form_at_every_place(tmp_path: Path) -> None:
    canary = str(uuid.UUID(int=random.Random(7).getrandbits(128), version=4))
    digest = hashlib.sha256(canary.encode())
    hidden = {
        "raw": canary.encode(),
        "hex": canary.encode().hex().encode(),
        "capital": canary.encode().hex().upper().encode(),
        "digest": digest.digest(),
        "hexdigest": digest.hexdigest().encode(),
        "short": digest.hexdigest()[:16].encode(),
        **{f"base64-{n}": base64.b64encode(b"x" * n + canary.encode() + b"yz") for n in range(7)},
        **{f"url-{n}": base64.urlsafe_b64encode(b"\xff" * n + canary.encode() + b"\xff") for n in range(7)},
    }
    for name, content in hidden.items():
        file = tmp_path / name
        file.write_bytes(b"\x00" * 100 + content + b"\xff" * 100)
        assert found_anywhere([file], [str(uuid.uuid4()), canary]), name
        assert not found_anywhere([file], [str(uuid.uuid4())]), name
    (tmp_path / canary).mkdir()
    (tmp_path / canary / "empty").touch()
    [find] = found_anywhere([tmp_path / canary], [canary])
    assert "its name" in find
    with pytest.raises(FileNotFoundError):
        found_anywhere([tmp_path / "missing"], [canary])


def test_a_find_across_two_blocks_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("canaries._BLOCK", 64)
    canary = str(uuid.uuid4())
    (tmp_path / "file").write_bytes(b"." * 50 + canary.encode() + b"." * 50)
    assert len([find for find in found_anywhere([tmp_path], [canary]) if find.endswith("raw")]) == 1


@pytest.mark.parametrize("fails", [False, True], ids=["committed", "failed"])
def test_no_id_leaves_the_owners_node(tmp_path: Path, fails: bool, capfd: pytest.CaptureFixture[str]) -> None:
    """Refused, withdrawn, served and audited: all that the server has, sends and gets, and every other client's folder."""
    log = logging.FileHandler(tmp_path / "log", delay=False)
    for name in ("fed_unlearn", "flwr"):
        logging.getLogger(name).addHandler(log)
        logging.getLogger(name).setLevel(logging.DEBUG)
    task = DigitsTask(data_of=with_uuids)
    app = Recorded(task, tmp_path / "wire")
    stores = [{"client-dir": str(tmp_path / "clients" / str(client))} for client in range(4)]
    grid = InProcessGrid(app, 4, node_configs=stores)  # type: ignore[arg-type]
    federation = Federation(task, make_app(task), grid, tmp_path)
    never = Thresholds(max_forget_accuracy=0.0, max_retain_drop=0.0, max_total_retain_drop=0.0)
    gate = Gate(sample_thresholds=never, max_attempts=1, max_repair_rounds=0) if fails else OPEN_GATE
    plan = replace(PLAN, parameters={"instance-wise": {"max_steps": 1 if fails else 10}})
    receipts = tmp_path / "receipts"
    strategy = federation.strategy(gate=gate, plan=plan, receipts=receipts)
    strategy.start(grid, initial_arrays(), num_rounds=2)
    folder, ids = tmp_path / "clients" / str(OWNER), list(with_uuids(OWNER).train.ids)
    asked = tmp_path / "clients" / str(OWNER) / "asked"
    for lines in (ids[:4], [*ids[4:6], _STRANGER], ids[6:9]):
        asked.write_text("\n".join(lines))
        assert (
            run_command(["forget", "--client-dir", str(folder), "--samples", str(asked), "--note", "of my life"]) == 0
        )
    assert run_command(["forget", "--client-dir", str(folder), "--class", "3"]) == 0
    strategy.start(grid, num_rounds=1)
    OwnerQueue(folder).add(new_request("samples", [ids[0], *ids[10:12]]))  # one of them is forgotten already
    for _ in range(2):
        strategy.ledger.close()
        strategy = federation.strategy(gate=gate, plan=plan, receipts=receipts)
        strategy.start(grid, num_rounds=1)
    (tmp_path / "shown").write_text("".join(capfd.readouterr()))
    assert run_command(["forget", "--client-dir", str(folder), "--status"]) == 0
    told = capfd.readouterr().out  # the owner alone is told which of the ids are unknown
    (tmp_path / "told").write_text(told.replace(_STRANGER, ""))
    assert told.count(_STRANGER) == 1
    assert run_command(["request", "list", str(strategy.ledger.path)]) == 0
    strategy.ledger.close()
    for name in ("fed_unlearn", "flwr"):
        logging.getLogger(name).removeHandler(log)
    log.close()
    with (tmp_path / "shown").open("a") as shown:
        shown.write("".join(capfd.readouterr()))

    requests = OwnerQueue(folder).requests()
    statuses = [next(iter(request.answers.values())).status for request in requests]
    ending = "failed" if fails else "committed"
    assert statuses[:4] == [ending, "refused", ending, ending] and statuses[4] == ("rejected" if fails else "committed")
    canaries = [*dict.fromkeys((*ids[:12], _STRANGER, *_of_class(3)))]
    elsewhere = [path for path in tmp_path.iterdir() if path.name != "clients"]
    elsewhere += [path for path in (tmp_path / "clients").iterdir() if path != folder]
    assert app.count > 50 and {path.name for path in elsewhere} >= {
        "wire",
        "server",
        "log",
        "shown",
        "receipts",
        "0",
        "1",
        "3",
    }
    assert len(list(receipts.glob("*.json"))) == 4 == len(list((folder / "receipts").glob("*.json")))
    elsewhere += [folder / "receipts"]  # the owner may show a receipt to anybody
    assert found_anywhere(elsewhere, canaries) == []
    assert found_anywhere([folder], ids[:1]), "the search finds them where they may be"
    for entry in federation.strategy().ledger.entries():
        assert isinstance(entry.request.scope, SampleScope) and entry.request.scope.sample_ids == ()


def _of_class(label: int) -> list[str]:
    train = with_uuids(OWNER).train
    return [name for name, own in zip(train.ids, train.labels.tolist(), strict=True) if own == label]
