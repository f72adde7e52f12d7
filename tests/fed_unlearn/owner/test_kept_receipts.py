"""What a node keeps of receipts: those of its owner's requests, signed by one key, and no more than it must."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.ledger import Ledger
from fed_unlearn.owner import KeptReceipts, OwnerAnswer, OwnerRequest, ReceiptRefusedError, new_request
from fed_unlearn.owner.receipts import MOST_OF_A_REQUEST
from fed_unlearn.receipts import SignedReceipt, issue, public_pem, read_public_key, receipt_of, sign, verify
from fed_unlearn.requests import ClientScope, ForgetRequest, SampleScope

KEY, OTHER_KEY = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()


def raw(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()


class Server:
    """A ledger in which an owner's request has ended, as the server takes it over."""

    def __init__(self, folder: Path, request: OwnerRequest, client: str = "hospital-7") -> None:
        self.ledger = Ledger(folder / "ledger.db")
        self.id = f"owner-{self.ledger.client_reference(client)}-{request.id}"
        scope = SampleScope(client, count=request.count, queued=request.id) if request.count else ClientScope(client)
        self.ledger.receive(ForgetRequest(scope, id=self.id))
        self.ledger.withdraw(self.id)

    def receipt(self, key: Ed25519PrivateKey = KEY) -> SignedReceipt:
        return issue(self.ledger, self.id, key)

    def text(self, key: Ed25519PrivateKey = KEY) -> str:
        return self.receipt(key).content.decode()


@pytest.fixture
def request_() -> OwnerRequest:
    return new_request("samples", ["a", "b"])


@pytest.fixture
def server(tmp_path: Path, request_: OwnerRequest) -> Server:
    return Server(tmp_path / "server", request_)


@pytest.fixture
def node(tmp_path: Path) -> Path:
    folder = tmp_path / "node"
    folder.mkdir()
    return folder


def test_the_first_receipt_is_kept_with_its_key_and_only_once(
    node: Path, server: Server, request_: OwnerRequest
) -> None:
    kept, text = KeptReceipts(node), server.text()
    assert kept.files(request_.id) == [] and kept.refusal(request_.id) == ""
    for _ in range(2):
        kept.keep(request_, server.ledger.identity, text, raw(KEY))
    [file] = kept.files(request_.id)
    assert file.read_text() == text and file.stat().st_mode & 0o077 == 0 == file.parent.stat().st_mode & 0o077
    assert kept.checked(file, request_) == text.encode()
    assert verify(file.read_bytes(), read_public_key(node / "receipts.pub")).receipt.request == server.id
    assert sorted(path.name for path in node.rglob("*") if path.is_file()) == [
        f"{request_.id}.json",
        "receipts.lock",
        "receipts.pub",
    ]


def test_another_key_is_refused_until_the_owner_takes_it(node: Path, server: Server, request_: OwnerRequest) -> None:
    kept, ledger = KeptReceipts(node), server.ledger.identity
    kept.keep(request_, ledger, server.text(), raw(KEY))
    foreign = server.text(OTHER_KEY)
    with pytest.raises(ReceiptRefusedError, match="another key has signed it"):
        kept.keep(request_, ledger, foreign, raw(OTHER_KEY))
    assert len(kept.files(request_.id)) == 1 and "another key" in kept.refusal(request_.id)
    assert (node / "receipts.pub").read_bytes() == public_pem(KEY)
    with (node / "receipts.pub").open("ab") as file:
        file.write(public_pem(OTHER_KEY))
    kept.keep(request_, ledger, foreign, raw(OTHER_KEY))
    assert [path.read_text() for path in kept.files(request_.id)][1:] == [foreign] and not kept.refusal(request_.id)
    for path in kept.files(request_.id):
        assert kept.checked(path, request_)


def test_a_key_that_the_owner_has_put_there_counts_from_the_first_receipt_on(
    node: Path, server: Server, request_: OwnerRequest
) -> None:
    (node / "receipts.pub").write_bytes(public_pem(OTHER_KEY))
    kept = KeptReceipts(node)
    with pytest.raises(ReceiptRefusedError, match="another key"):
        kept.keep(request_, server.ledger.identity, server.text(), raw(KEY))
    kept.keep(request_, server.ledger.identity, server.text(OTHER_KEY), raw(OTHER_KEY))
    (node / "receipts.pub").write_text("no key")
    with pytest.raises(FedUnlearnError, match="expected Ed25519 public keys"):
        kept.keep(request_, server.ledger.identity, server.text(), raw(KEY))


def test_what_is_not_this_requests_receipt_is_refused_and_pins_no_key(
    tmp_path: Path, node: Path, server: Server, request_: OwnerRequest
) -> None:
    kept, ledger, signed = KeptReceipts(node), server.ledger.identity, server.receipt()
    text = signed.content.decode()
    of_another = Server(tmp_path / "more", new_request("samples", ["c", "d"]))
    referenced = signed.receipt.model_copy(update={"request": "0" * 16, "named_by": "reference", "samples": 3})
    refused = {
        "another ledger": ("0" * 8, text, raw(KEY)),
        "another request": (of_another.ledger.identity, of_another.text(), raw(KEY)),
        "another number of samples": (ledger, sign(referenced, KEY).content.decode(), raw(KEY)),
        "a changed byte": (ledger, text.replace('"attempts":0', '"attempts":1'), raw(KEY)),
        "another key than it says": (ledger, text, raw(OTHER_KEY)),
        "no receipt": (ledger, "\x1b[31m ../../x \ud800", raw(KEY)),
        "deep": (ledger, "[" * 60_000, raw(KEY)),
        "no key": (ledger, text, "ff" * 32),
    }
    for name, (whose, content, key) in refused.items():
        with pytest.raises(ReceiptRefusedError):
            kept.keep(request_, whose, content, key)
        assert kept.refusal(request_.id) and kept.refusal(request_.id).isprintable(), name
    assert kept.files(request_.id) == [] and not (node / "receipts.pub").exists()
    fits = signed.receipt.model_copy(update={"request": "0" * 16, "named_by": "reference"})
    kept.keep(request_, ledger, sign(fits, KEY).content.decode(), raw(KEY))
    assert len(kept.files(request_.id)) == 1 and not kept.refusal(request_.id)


def test_the_answer_says_which_request_it_is(node: Path, server: Server, request_: OwnerRequest) -> None:
    answer = OwnerAnswer(owner_request=request_.id, status="withdrawn", request=f"owner-{'0' * 16}-{request_.id}")
    answered = request_.model_copy(update={"answers": {server.ledger.identity: answer}})
    with pytest.raises(ReceiptRefusedError, match="another request"):
        KeptReceipts(node).keep(answered, server.ledger.identity, server.text(), raw(KEY))


def test_a_request_of_the_whole_client_has_a_receipt_too(tmp_path: Path, node: Path) -> None:
    request = new_request("all")
    server = Server(tmp_path / "all", request)
    KeptReceipts(node).keep(request, server.ledger.identity, server.text(), raw(KEY))
    [file] = KeptReceipts(node).files(request.id)
    assert b"hospital-7" not in file.read_bytes()


def test_no_server_fills_the_disk(node: Path, server: Server, request_: OwnerRequest) -> None:
    kept, ledger = KeptReceipts(node), server.ledger.identity
    for _ in range(MOST_OF_A_REQUEST):
        kept.keep(request_, ledger, server.text(), raw(KEY))
    with pytest.raises(ReceiptRefusedError, match="no more are kept"):
        kept.keep(request_, ledger, server.text(), raw(KEY))
    assert len(kept.files(request_.id)) == MOST_OF_A_REQUEST


def test_no_id_leads_out_of_the_folder(node: Path) -> None:
    (node / "x.json").write_text("secret")
    kept = KeptReceipts(node)
    assert kept.files("../x") == [] and kept.refusal("../x") == "" and kept.files("") == []


def test_a_receipt_that_was_changed_on_disk_is_not_handed_out(
    node: Path, server: Server, request_: OwnerRequest
) -> None:
    kept = KeptReceipts(node)
    kept.keep(request_, server.ledger.identity, server.text(), raw(KEY))
    [file] = kept.files(request_.id)
    file.write_text(file.read_text().replace("withdrawn", "committed"))
    with pytest.raises(ReceiptRefusedError, match="changed"):
        kept.checked(file, request_)
    (node / "receipts.pub").unlink()
    with pytest.raises(ReceiptRefusedError, match="is missing"):
        kept.checked(file, request_)


@pytest.mark.parametrize("named_by", ["id", "reference"])
def test_receipts_that_were_swapped_are_not_handed_out(
    tmp_path: Path, node: Path, server: Server, request_: OwnerRequest, named_by: str
) -> None:
    """Both requests are of two samples, and both receipts are as the server signed them."""
    kept, other = KeptReceipts(node), new_request("samples", ["c", "d"])
    of_both = {request_.id: (request_, server), other.id: (other, Server(tmp_path / "more", other))}
    for request, its_server in of_both.values():
        receipt = its_server.receipt().receipt
        if named_by == "reference":
            reference = request.id[::-1]
            receipt = receipt.model_copy(update={"request": reference, "named_by": named_by})
        kept.keep(request, its_server.ledger.identity, sign(receipt, KEY).content.decode(), raw(KEY))
        kept.checked(kept.files(request.id)[0], request)
    [mine], [others] = kept.files(request_.id), kept.files(other.id)
    contents = mine.read_bytes(), others.read_bytes()
    mine.write_bytes(contents[1])
    others.write_bytes(contents[0])
    for request in (request_, other):
        with pytest.raises(ReceiptRefusedError, match=f"receipt of another request than {request.id}"):
            kept.checked(kept.files(request.id)[0], request)


def test_receipts_of_one_request_keep_their_order(node: Path, server: Server, request_: OwnerRequest) -> None:
    kept, first = KeptReceipts(node), receipt_of(server.ledger, server.id)
    for number in (1, 2, 3):
        signed = sign(first.model_copy(update={"number": number}), KEY)
        kept.keep(request_, server.ledger.identity, signed.content.decode(), raw(KEY))
    assert [path.name for path in kept.files(request_.id)] == [
        f"{request_.id}.json",
        f"{request_.id}.2.json",
        f"{request_.id}.3.json",
    ]
