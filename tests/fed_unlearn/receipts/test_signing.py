"""Every change of a receipt is refused, and the message says why."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st
from pages import blocks
from receipt_ledgers import opened, write

from fed_unlearn.receipts import RefusedReceiptError, SignedReceipt, issue, public_pem, read_receipt, sign, verify
from fed_unlearn.receipts.signing import MOST_BYTES, is_signed, sign_bytes

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key()

RFC_8032 = [  # section 7.1, tests 1 to 3: secret key, public key, message, signature
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe2"
        "4655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aee"
        "b00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28d"
        "c027beceea1ec40a",
    ),
]


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> SignedReceipt:
    with opened(write(tmp_path_factory.mktemp("signed") / "ledger.db")) as ledger:
        return issue(ledger, "r1", KEY)


@pytest.mark.parametrize(("secret", "public", "message", "signature"), RFC_8032)
def test_signatures_are_those_of_rfc_8032(secret: str, public: str, message: str, signature: str) -> None:
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secret))
    content, expected = bytes.fromhex(message), bytes.fromhex(signature)
    assert key.public_key() == Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
    assert sign_bytes(content, key) == expected
    assert is_signed(content, expected, key.public_key())
    assert not is_signed(content + b"x", expected, key.public_key())


def test_a_receipt_is_accepted_as_it_was_signed(signed: SignedReceipt) -> None:
    assert verify(signed.content, PUBLIC) == signed
    assert signed.content.isascii()
    assert (
        signed.content == json.dumps(json.loads(signed.content), sort_keys=True, separators=(",", ":")).encode() + b"\n"
    )


def test_the_signature_can_be_checked_without_this_library(signed: SignedReceipt) -> None:
    """As the schema describes it: the bytes of the receipt as they stand in the file, after a line that says what it is."""
    content = signed.content
    body = content[len(b'{"receipt":') : content.index(b',"signature":{"algorithm":')]
    value = bytes.fromhex(json.loads(content)["signature"]["value"])
    PUBLIC.verify(value, b"fed_unlearn receipt 1\n" + body)


@pytest.mark.skipif(shutil.which("openssl") is None or shutil.which("xxd") is None, reason="needs openssl and xxd")
def test_openssl_checks_it_as_the_page_says(signed: SignedReceipt, tmp_path: Path) -> None:
    [recipe] = [item.text for item in blocks("text", "receipts.md") if "openssl" in item.text]
    (tmp_path / "r1.json").write_bytes(signed.content)
    (tmp_path / "receipts.pub").write_bytes(public_pem(PUBLIC))

    def told() -> str:
        return subprocess.run(["bash", "-c", recipe], cwd=tmp_path, capture_output=True, text=True).stdout.strip()

    assert told() == "Signature Verified Successfully"
    (tmp_path / "r1.json").write_bytes(signed.content.replace(b'"attempts":1', b'"attempts":2'))
    assert told() == "Signature Verification Failure"


def one_byte_changed(content: bytes) -> Iterator[bytes]:
    """Every byte flipped in several ways, left out, doubled, and with a space or a NUL before it."""
    for at in range(len(content)):
        for mask in (0x01, 0x02, 0x10, 0x20, 0x80, 0xFF):
            yield content[:at] + bytes([content[at] ^ mask]) + content[at + 1 :]
        yield content[:at] + content[at + 1 :]
    for at in range(len(content) + 1):
        for byte in (b" ", b"\0", b"0", b"\n"):
            yield content[:at] + byte + content[at:]


def test_one_byte_changed_anywhere_is_refused(signed: SignedReceipt) -> None:
    accepted = []
    for changed in one_byte_changed(signed.content):
        try:
            verify(changed, PUBLIC)
        except RefusedReceiptError:
            continue
        accepted.append(changed)
    assert accepted == []


def test_every_start_of_a_receipt_is_refused(signed: SignedReceipt) -> None:
    for length in range(len(signed.content)):
        with pytest.raises(RefusedReceiptError):
            verify(signed.content[:length], PUBLIC)


def spelled(content: bytes, old: str, new: str) -> bytes:
    assert old.encode() in content, old
    return content.replace(old.encode(), new.encode(), 1)


SPELLINGS: dict[str, Callable[[bytes], bytes]] = {
    "indented": lambda content: json.dumps(json.loads(content), indent=2, sort_keys=True).encode() + b"\n",
    "other order of keys": lambda content: (
        json.dumps(dict(reversed(json.loads(content).items())), separators=(",", ":")).encode() + b"\n"
    ),
    "no line feed": lambda content: content[:-1],
    "two line feeds": lambda content: content + b"\n",
    "a carriage return": lambda content: content[:-1] + b"\r\n",
    "a byte order mark": lambda content: b"\xef\xbb\xbf" + content,
    "a key twice": lambda content: spelled(content, '"attempts":1', '"attempts":1,"attempts":1'),
    "a key twice, the first another": lambda content: spelled(content, '"attempts":1', '"attempts":2,"attempts":1'),
    "a float as 0.00": lambda content: spelled(content, '"value":0.0', '"value":0.00'),
    "a float as 0": lambda content: spelled(content, '"value":0.0', '"value":0'),
    "a float as -0.0": lambda content: spelled(content, '"value":0.0', '"value":-0.0'),
    "a float with an exponent": lambda content: spelled(content, '"value":0.98', '"value":9.8e-1'),
    "a float with more digits": lambda content: spelled(content, '"value":0.98', '"value":0.98000000000000001'),
    "an integer as a float": lambda content: spelled(content, '"attempts":1', '"attempts":1.0'),
    "an integer as true": lambda content: spelled(content, '"attempts":1', '"attempts":true'),
    "an integer as text": lambda content: spelled(content, '"attempts":1', '"attempts":"1"'),
    "an escape in a text": lambda content: spelled(content, '"request":"r1"', '"request":"\\u00721"'),
    "an escaped slash": lambda content: spelled(content, "Ed25519", "Ed2551\\u0039"),
    "a key escaped": lambda content: spelled(content, '"attempts"', '"\\u0061ttempts"'),
    "capital digits": lambda content: content.replace(
        json.loads(content)["signature"]["value"].encode(), json.loads(content)["signature"]["value"].upper().encode()
    ),
    "UTF-16": lambda content: content.decode().encode("utf-16"),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_same_in_another_spelling_is_refused(signed: SignedReceipt, spelling: str) -> None:
    changed = SPELLINGS[spelling](signed.content)
    assert changed != signed.content
    with pytest.raises(RefusedReceiptError):
        verify(changed, PUBLIC)


def test_a_signature_with_a_larger_scalar_is_refused(signed: SignedReceipt) -> None:
    """RFC 8032, 5.1.7: S must be below the order of the group; S + L would fit the equation too."""
    order = 2**252 + 27742317777372353535851937790883648493
    value = bytes.fromhex(signed.signature.value)
    larger = (int.from_bytes(value[32:], "little") + order).to_bytes(32, "little")
    changed = signed.content.replace(signed.signature.value.encode(), (value[:32] + larger).hex().encode())
    with pytest.raises(RefusedReceiptError, match="signature does not fit"):
        verify(changed, PUBLIC)


def leaves(body: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    for key, value in body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ():
        yield (*path, key)
        yield from leaves(value, (*path, key))


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 10**6), st.floats(allow_nan=False), st.text(max_size=20),
    st.sampled_from(["failed", "committed", "class", "f" * 64, "r2", "measured", [], {}, [0], ["other"]]),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_another_content_written_in_the_same_way_is_refused(signed: SignedReceipt, data: st.DataObject) -> None:
    """Edits of meaning: a value, a name, an entry more or less, serialised as receipts are."""
    body = json.loads(signed.content)
    *way, last = data.draw(st.sampled_from(list(leaves(body))))
    place = body
    for step in way:
        place = place[step]
    match data.draw(st.sampled_from(["set", "remove", "add"])):
        case "set":
            place[last] = data.draw(VALUES)
        case "remove":
            del place[last]
        case "add" if isinstance(place, dict):
            place[data.draw(st.text(max_size=8))] = data.draw(VALUES)
        case "add":
            place.insert(0, data.draw(VALUES))
    changed = json.dumps(body, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    if changed == signed.content:
        return
    with pytest.raises(RefusedReceiptError):
        verify(changed, PUBLIC)


def test_another_key_is_refused_and_both_are_named(signed: SignedReceipt) -> None:
    other = Ed25519PrivateKey.generate().public_key()
    with pytest.raises(RefusedReceiptError, match=f"{signed.signature.key[:16]} signed it, and the key [0-9a-f]{{16}}"):
        verify(signed.content, other)


def test_a_receipt_that_claims_a_key_it_was_not_signed_with_is_refused(signed: SignedReceipt) -> None:
    forged = sign(signed.receipt, Ed25519PrivateKey.generate())
    claimed = forged.content.replace(forged.signature.key.encode(), signed.signature.key.encode())
    with pytest.raises(RefusedReceiptError, match="signature does not fit"):
        verify(claimed, PUBLIC)


def test_the_signature_of_another_receipt_is_refused(signed: SignedReceipt) -> None:
    other = sign(signed.receipt.model_copy(update={"attempts": 2}), KEY)
    mixed = SignedReceipt(signed.receipt, other.signature)
    with pytest.raises(RefusedReceiptError, match="signature does not fit"):
        verify(mixed.content, PUBLIC)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 100,
        b"\xff\xfe\xfd",
        b"null",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"receipt":' * 20_000,
        b"1" * 10_000,
        b'{"receipt":{"version":2},"signature":{}}',
        b" " * (MOST_BYTES + 1),
        b'{"receipt":NaN}',
    ],
    ids=lambda content: f"{content[:12]!r} of {len(content)}",
)
def test_what_is_no_receipt_is_refused_in_one_line(content: bytes) -> None:
    with pytest.raises(RefusedReceiptError) as refused:
        verify(content, PUBLIC)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 400
    with pytest.raises(RefusedReceiptError):
        read_receipt(content)


def test_the_reason_says_what_was_wrong(signed: SignedReceipt) -> None:
    why = {
        "its bytes were changed": signed.content + b" ",
        "receipt.attempts": spelled(signed.content, '"attempts":1', '"attempts":-1'),
        "receipt.client": spelled(signed.content, '"attempts":1', '"client":"mary","attempts":1'),
        "signature does not fit": spelled(signed.content, '"attempts":1', '"attempts":2'),
        "larger than": signed.content + b" " * MOST_BYTES,
    }
    for expected, content in why.items():
        with pytest.raises(RefusedReceiptError, match=expected):
            verify(content, PUBLIC)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_finite_float_reads_back_as_it_was(signed: SignedReceipt, value: float) -> None:
    after = {"forget_accuracy": signed.receipt.audits.after["forget_accuracy"].model_copy(update={"value": value})}
    audits = signed.receipt.audits.model_copy(update={"after": after})
    again = sign(signed.receipt.model_copy(update={"audits": audits}), KEY)
    found = verify(again.content, PUBLIC).receipt.audits.after["forget_accuracy"].value
    assert str(found) == str(value)


def test_a_receipt_from_a_file_says_the_same(signed: SignedReceipt, tmp_path: Path) -> None:
    (tmp_path / "r1.json").write_bytes(signed.content)
    assert verify((tmp_path / "r1.json").read_bytes(), PUBLIC).receipt == signed.receipt
