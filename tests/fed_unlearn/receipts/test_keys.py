"""The key of receipts: made once, closed to others, and never replaced."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.receipts import default_receipt_key, public_key_file, read_public_key, signing_key
from fed_unlearn.receipts.keys import fingerprint, public_pem, read_private_key

PEM = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
PUBLIC_PEM = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def test_a_key_is_made_at_first_use_and_stays(tmp_path: Path) -> None:
    path = default_receipt_key(tmp_path / "run" / "ledger.db")
    before = os.umask(0)
    try:
        key = signing_key(path)
    finally:
        os.umask(before)
    public = public_key_file(path)
    assert (path.name, public.name) == ("receipts.key", "receipts.pub")
    assert path.stat().st_mode & 0o777 == 0o600
    assert public.stat().st_mode & 0o777 == 0o644
    assert sorted(file.name for file in path.parent.iterdir()) == ["receipts.key", "receipts.pub"]
    assert fingerprint(read_public_key(public)) == fingerprint(key.public_key())
    assert path.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")
    assert fingerprint(signing_key(path).public_key()) == fingerprint(key.public_key())


def test_the_public_key_is_what_openssl_would_write(tmp_path: Path) -> None:
    """RFC 8410, section 10.1 and 10.3: an Ed25519 key pair in PEM."""
    private = b"-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n"
    public = b"-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n"
    path = tmp_path / "given.key"
    path.touch(mode=0o600)
    path.write_bytes(private)
    assert public_pem(signing_key(path)) == public
    assert public_key_file(path).read_bytes() == public
    assert path.read_bytes() == private


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o644, 0o777])
def test_a_key_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "receipts.key"
    signing_key(path)
    path.chmod(mode)
    with pytest.raises(FedUnlearnError, match=f"others can read .*{mode:04o}.*chmod 600"):
        signing_key(path)
    path.chmod(0o400)
    signing_key(path)


def write_closed(path: Path, content: bytes) -> Path:
    path.touch(mode=0o600)
    path.write_bytes(content)
    return path


def test_what_is_no_key_is_refused(tmp_path: Path) -> None:
    rsa_key = rsa.generate_private_key(65537, 2048)
    curve = ec.generate_private_key(ec.SECP256R1())
    mine = Ed25519PrivateKey.generate()
    refused = {
        "empty": b"",
        "text": b"not a key",
        "large": b"x" * 10**6,
        "rsa": rsa_key.private_bytes(*PEM, serialization.NoEncryption()),
        "curve": curve.private_bytes(*PEM, serialization.NoEncryption()),
        "password": mine.private_bytes(*PEM, serialization.BestAvailableEncryption(b"secret")),
        "cut": mine.private_bytes(*PEM, serialization.NoEncryption())[:60],
    }
    for name, content in refused.items():
        path = write_closed(tmp_path / f"{name}.key", content)
        with pytest.raises(FedUnlearnError, match="no private key; an Ed25519 private key in PEM"):
            signing_key(path)
        assert path.read_bytes() == content
        assert not public_key_file(path).exists()


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_public_key_in_place_of_the_private_one_is_told_as_such(tmp_path: Path, mode: int) -> None:
    path = write_closed(tmp_path / "receipts.pub", public_pem(Ed25519PrivateKey.generate()))
    path.chmod(mode)
    with pytest.raises(FedUnlearnError, match=r"receipts.pub: a public key; the private key .* was expected") as told:
        read_private_key(path)
    assert "chmod" not in str(told.value)


def test_what_is_no_public_key_is_refused(tmp_path: Path) -> None:
    curve = ec.generate_private_key(ec.SECP256R1()).public_key()
    refused = {"empty": b"", "binary": b"\xff\0" * 50, "curve": curve.public_bytes(*PUBLIC_PEM)}
    for name, content in refused.items():
        path = write_closed(tmp_path / name, content)
        with pytest.raises(FedUnlearnError, match="no public key; an Ed25519 public key in PEM"):
            read_public_key(path)
    for path in (tmp_path, tmp_path / "missing", Path("/dev/zero"), Path("a\0b")):
        with pytest.raises(FedUnlearnError):
            read_public_key(path)


def test_a_public_key_of_another_key_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "receipts.key"
    signing_key(path)
    earlier = public_key_file(path).read_bytes()
    path.unlink()
    with pytest.raises(FedUnlearnError, match="public key of another private key"):
        signing_key(path)
    assert not path.exists(), "no new key is left beside it"
    assert public_key_file(path).read_bytes() == earlier


def test_a_key_that_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FedUnlearnError, match="cannot be made"):
        signing_key(tmp_path / "file" / "receipts.key")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    with pytest.raises(FedUnlearnError, match="not a file"):
        signing_key(tmp_path)


MAKING = """
import sys, time
from pathlib import Path
from fed_unlearn.receipts.keys import fingerprint, signing_key
print("ready", flush=True)
sys.stdin.readline()
print(fingerprint(signing_key(Path(sys.argv[1])).public_key()))
"""


@pytest.mark.slow
def test_processes_that_make_the_key_at_once_end_with_one(tmp_path: Path) -> None:
    path = tmp_path / "receipts.key"
    for _ in range(3):
        makers = [
            subprocess.Popen(
                [sys.executable, "-c", MAKING, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for _ in range(4)
        ]
        for maker in makers:
            assert maker.stdout is not None and maker.stdout.readline() == "ready\n"
        for maker in makers:
            assert maker.stdin is not None
            maker.stdin.write("\n")
            maker.stdin.flush()
        found = {maker.communicate(timeout=60)[0].strip() for maker in makers}
        assert all(maker.returncode == 0 for maker in makers)
        assert found == {fingerprint(read_private_key(path).public_key())}
        assert found == {fingerprint(read_public_key(public_key_file(path)))}
        assert sorted(file.name for file in tmp_path.iterdir()) == ["receipts.key", "receipts.pub"]
        path.unlink()
        public_key_file(path).unlink()


def test_the_one_who_comes_second_takes_the_first_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process writes the key between the look and the writing."""
    path = tmp_path / "receipts.key"
    first = fingerprint(signing_key(path).public_key())
    real = Path.exists
    monkeypatch.setattr(Path, "exists", lambda self, **options: self != path and real(self, **options))
    from fed_unlearn.receipts import keys

    keys._make(path)
    monkeypatch.undo()
    assert fingerprint(signing_key(path).public_key()) == first
    assert len(list(tmp_path.iterdir())) == 2
