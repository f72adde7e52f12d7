"""Owners get a signed receipt at their node: once for each end, whatever is lost, and only where the node keeps it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fault_trials import PLAN, Trial, trained
from federation import DigitsTask
from flwr.app import ConfigRecord, Context, Message, MetricRecord
from shared_requests import asked, instead

from fed_unlearn import protocol
from fed_unlearn.arrays import unpack
from fed_unlearn.gate import Gate, Thresholds
from fed_unlearn.owner import KeptReceipts, OwnerQueue, new_request
from fed_unlearn.protocol.owner_receipts import _KEEPER_KEY
from fed_unlearn.receipts import Receipt, public_pem, read_public_key, verify
from fed_unlearn.requests import ForgetRequest


def queue_of(trial: Trial, client: int) -> OwnerQueue:
    return OwnerQueue(trial.folder / "clients" / str(client))


def kept_of(trial: Trial, client: int) -> KeptReceipts:
    return KeptReceipts(trial.folder / "clients" / str(client))


def receipts_of(trial: Trial, client: int, request_id: str) -> list[Receipt]:
    """What the node has, each checked with the server's own key."""
    key = read_public_key(trial.strategy.ledger.path.with_name("receipts.pub"))
    return [verify(file.read_bytes(), key).receipt for file in kept_of(trial, client).files(request_id)]


def sent_receipts(trial: Trial) -> list[tuple[int, str]]:
    """A list that fills with client and type of every message that brings a receipt."""
    found: list[tuple[int, str]] = []
    send = trial.grid.send_and_receive

    def noting(messages: list[Message], *, timeout: float | None = None) -> object:
        sent = list(messages)
        for message in sent:
            if protocol.RECEIPTS_KEY in message.content:
                found.append((message.metadata.dst_node_id - 1, message.metadata.message_type))
        return send(sent, timeout=timeout)

    trial.grid.send_and_receive = noting  # type: ignore[method-assign,assignment]
    return found


def two_samples(trial: Trial, client: int) -> list[str]:
    return sorted(trial.ids_of(client))[:2]


def test_each_kind_of_request_has_its_receipt_at_the_node(tmp_path: Path) -> None:
    trial = trained(tmp_path, receipts=True)
    sent = sent_receipts(trial)
    requests = {
        1: queue_of(trial, 1).add(new_request("samples", two_samples(trial, 1))),
        2: queue_of(trial, 2).add(new_request("class", of_class=3)),
        3: queue_of(trial, 3).add(new_request("all")),
    }
    trial.train(1)
    assert sorted(sent) == [(client, protocol.REQUESTS) for client in (1, 2, 3)], "once, and nobody else"
    issued = {path.name: path.read_bytes() for path in (tmp_path / "receipts").glob("*.json")}
    for client, request_id in requests.items():
        [receipt] = receipts_of(trial, client, request_id)
        [answer] = queue_of(trial, client).find(request_id).answers.values()
        assert (receipt.status, receipt.request) == ("committed", answer.request)
        [file] = kept_of(trial, client).files(request_id)
        assert file.read_bytes() == issued[f"{answer.request}.json"]
    trial.restart()
    trial.train(1)
    assert len(sent) == 3, "and not again"


def test_it_costs_no_message_of_its_own(tmp_path: Path) -> None:
    trial = trained(tmp_path, receipts=True)
    queue_of(trial, 1).add(new_request("samples", two_samples(trial, 1)))
    trial.train(1)
    assert asked(trial)[protocol.REQUESTS] == 1, "the end is told at once, with the receipt"
    trial.serve()
    assert asked(trial)[protocol.REQUESTS] == 0


@pytest.mark.parametrize("fault", ["silent", "deaf", "raises"])
def test_what_is_lost_is_repeated_until_the_node_says_that_it_has_it(tmp_path: Path, fault: str) -> None:
    trial = trained(tmp_path, receipts=True)
    request_id = queue_of(trial, 2).add(new_request("samples", two_samples(trial, 2)))
    sent = sent_receipts(trial)
    trial.grid.fault(fault, 2, protocol.REQUESTS)
    trial.train(1)
    assert sent and len(receipts_of(trial, 2, request_id)) == (fault == "silent")
    trial.grid.heal()
    trial.restart()
    sent = sent_receipts(trial)
    trial.serve()
    assert len(receipts_of(trial, 2, request_id)) == 1 and sent == [(2, protocol.REQUESTS)]
    trial.serve()
    assert len(sent) == 1


def test_a_node_that_was_away_gets_it_when_it_is_back(tmp_path: Path) -> None:
    trial = trained(tmp_path, receipts=True)
    request_id = queue_of(trial, 2).add(new_request("samples", two_samples(trial, 2)))
    trial.grid.fault("leaves", 2, protocol.REQUESTS)
    trial.train(1)
    assert receipts_of(trial, 2, request_id) == []
    trial.grid.heal()
    trial.train(1)
    assert len(receipts_of(trial, 2, request_id)) == 1


def test_a_receipt_that_could_not_be_written_goes_out_as_soon_as_it_is(tmp_path: Path) -> None:
    trial = trained(tmp_path, receipts=True)
    request_id = queue_of(trial, 2).add(new_request("samples", two_samples(trial, 2)))
    (tmp_path / "receipts").touch()
    trial.train(1)
    [answer] = queue_of(trial, 2).find(request_id).answers.values()
    assert answer.status == "committed" and kept_of(trial, 2).files(request_id) == []
    (tmp_path / "receipts").unlink()
    trial.serve()
    assert len(receipts_of(trial, 2, request_id)) == 1


def test_a_second_end_has_a_receipt_of_its_own(tmp_path: Path) -> None:
    forgetting = Thresholds(max_forget_accuracy=0.05, max_retain_drop=None, max_total_retain_drop=None)
    parameters = {"instance-wise": {"max_steps": 60, "retained": "anchors"}}
    plan = replace(PLAN, parameters=parameters, reopen_relapsed=True, max_holder_steps=12)
    trial = trained(tmp_path, gate=Gate(sample_thresholds=forgetting, max_training_drop=1.0), plan=plan, receipts=True)
    known = unpack(trial.train(6).arrays)
    request_id = queue_of(trial, 2).add(new_request("samples", sorted(trial.ids_of(2))[:4]))
    trial.serve()
    trial.serve()
    assert [receipt.number for receipt in receipts_of(trial, 2, request_id)] == [1]
    for client in range(4):
        trial.grid.spoil(instead(known), client, protocol.TRAIN, 1)
    trial.train(1)
    assert [receipt.number for receipt in receipts_of(trial, 2, request_id)] == [1, 2]


# ---------------------------------------------------------------------- other versions


def older(trial: Trial, client: int) -> None:
    """Let a node be of a version that knows nothing of receipts."""
    trial.grid.spoil(lambda reply: reply.content.pop(_KEEPER_KEY), client, protocol.IDENTIFY)  # type: ignore[arg-type]


def test_an_older_node_is_sent_none_and_answered_as_before(tmp_path: Path) -> None:
    trial = trained(tmp_path, receipts=True)
    older(trial, 2)
    trial.restart()
    sent = sent_receipts(trial)
    request_id = queue_of(trial, 2).add(new_request("samples", two_samples(trial, 2)))
    trial.train(1)
    asked(trial)
    trial.serve()
    trial.serve()
    [answer] = queue_of(trial, 2).find(request_id).answers.values()
    assert answer.status == "committed" and sent == [] and asked(trial)[protocol.REQUESTS] == 0
    trial.grid.heal()
    trial.restart()
    trial.serve()
    assert len(receipts_of(trial, 2, request_id)) == 1, "once the node was updated"


def test_an_older_server_sends_none_and_its_node_works_as_before(tmp_path: Path) -> None:
    trial = trained(tmp_path)
    request_id = queue_of(trial, 2).add(new_request("samples", two_samples(trial, 2)))
    trial.train(1)
    [answer] = queue_of(trial, 2).find(request_id).answers.values()
    assert answer.status == "committed" and not list(tmp_path.rglob("receipts*"))


# ---------------------------------------------------------------------- hostile servers


Rewrite = Callable[[str], str]


def rewriting(trial: Trial, record: ConfigRecord | MetricRecord | Rewrite) -> None:
    """Let what reaches the nodes be another record, or a rewritten one."""
    send = trial.grid.send_and_receive

    def changing(messages: list[Message], *, timeout: float | None = None) -> object:
        sent = list(messages)
        for message in sent:
            if protocol.RECEIPTS_KEY in message.content:
                if callable(record):
                    text = str(message.content.config_records[protocol.RECEIPTS_KEY]["receipts"])
                    message.content[protocol.RECEIPTS_KEY] = ConfigRecord({"receipts": record(text)})
                else:
                    message.content[protocol.RECEIPTS_KEY] = record
        return send(sent, timeout=timeout)

    trial.grid.send_and_receive = changing  # type: ignore[method-assign,assignment]


HOSTILE: dict[str, ConfigRecord | MetricRecord | Rewrite] = {
    "a record of another kind": MetricRecord({"receipts": 1}),
    "no JSON": ConfigRecord({"receipts": "{"}),
    "endless": ConfigRecord({"receipts": "[" * 100_000}),
    "a changed figure": lambda text: text.replace('\\"attempts\\":1', '\\"attempts\\":2'),
    "not of this request": lambda text: text.replace('"owner_request":"', '"owner_request":"0123456789abcdef')[:-16],
    "no receipt": lambda text: text.replace('{\\"receipt\\"', '\\u001b[31m<script>{\\"receipt\\"'),
}


@pytest.mark.parametrize("record", HOSTILE.values(), ids=HOSTILE)
def test_no_receipt_harms_a_node(
    tmp_path: Path, record: ConfigRecord | MetricRecord | Rewrite, caplog: pytest.LogCaptureFixture
) -> None:
    trial = trained(tmp_path, receipts=True)
    rewriting(trial, record)
    request_id = queue_of(trial, 2).add(new_request("samples", two_samples(trial, 2)))
    trial.train(1)
    [answer] = queue_of(trial, 2).find(request_id).answers.values()
    assert answer.status == "committed", "all else goes on"
    assert kept_of(trial, 2).files(request_id) == []
    assert "client 2: a receipt of request" in caplog.text or "client 2: receipts are not kept now" in caplog.text
    assert "\x1b" not in caplog.text
    assert trial.serve(ForgetRequest.for_class(3)).requests


def test_another_key_is_refused_said_and_offered_again_once_the_owner_takes_it(tmp_path: Path) -> None:
    trial = trained(tmp_path, receipts=True)
    node = tmp_path / "clients" / "2"
    (node / "receipts.pub").write_bytes(public_pem(Ed25519PrivateKey.generate()))
    request_id = queue_of(trial, 2).add(new_request("samples", two_samples(trial, 2)))
    asked(trial)
    trial.train(1)
    assert kept_of(trial, 2).files(request_id) == [] and "another key" in kept_of(trial, 2).refusal(request_id)
    assert asked(trial)[protocol.REQUESTS] <= 2, "it is not asked about again and again"
    with (node / "receipts.pub").open("ab") as file:
        file.write(trial.strategy.ledger.path.with_name("receipts.pub").read_bytes())
    trial.train(1)
    assert len(receipts_of(trial, 2, request_id)) == 1 and kept_of(trial, 2).refusal(request_id) == ""


class NamedTask(DigitsTask):
    """Clients with names that occur nowhere else."""

    def client_id(self, context: Context) -> str:
        return f"saint-olga-{context.node_config['partition-id']}"


def test_clients_names_are_in_no_receipt(tmp_path: Path) -> None:
    trial = Trial(tmp_path, receipts=True)
    trial.federation.task.__class__ = NamedTask
    trial.train()
    queue_of(trial, 2).add(new_request("samples", two_samples(trial, 2)))
    queue_of(trial, 3).add(new_request("all"))
    trial.train(1)
    assert trial.strategy.ledger.known_clients()[0] == "saint-olga-0"
    files = [path for path in tmp_path.rglob("*") if "receipts" in path.parts and path.suffix in (".json", ".html")]
    assert len(files) == 6 and [path for path in files if "clients" in path.parts]
    for path in files:
        assert "olga" not in path.read_text() and "olga" not in path.name
