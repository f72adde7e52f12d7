"""``fed-unlearn client rebind``: an id goes to another key."""

import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fed_unlearn.ledger import Ledger
from fed_unlearn.simulations.cli import BAD_INPUT, run_command

OLD = "0" * 64


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.db"
    opened = Ledger(path)
    opened.bind_client("a", OLD)
    opened.close()
    return path


def key_of(path: Path) -> str | None:
    opened = Ledger(path)
    try:
        return opened.client_key("a")
    finally:
        opened.close()


@pytest.mark.parametrize("form", ["ssh", "pem"])
def test_a_client_is_bound_to_the_key_of_a_file(ledger: Path, tmp_path: Path, form: str) -> None:
    public = ec.generate_private_key(ec.SECP384R1()).public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    ssh = public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    file = tmp_path / "key.pub"
    file.write_bytes(ssh if form == "ssh" else pem)
    assert run_command(["client", "rebind", str(ledger), "a", "--key", str(file)]) == 0
    assert key_of(ledger) == hashlib.sha256(pem).hexdigest()


def test_without_a_file_the_next_key_is_taken(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["client", "rebind", str(ledger), "a"]) == 0
    assert key_of(ledger) is None
    assert capsys.readouterr().out == "a: bound to the next key that shows it\n"


def test_the_ledgers_key_may_stand_elsewhere(ledger: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = (tmp_path / "ledger.key").rename(tmp_path / "safe.key")
    assert run_command(["client", "rebind", str(ledger), "a"]) == BAD_INPUT
    assert "the ledger's key is missing" in capsys.readouterr().err
    assert run_command(["client", "rebind", str(ledger), "a", "--ledger-key", str(key)]) == 0
    opened = Ledger(ledger, key=key)
    assert opened.client_key("a") is None
    opened.close()


def test_a_device_is_no_key(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["client", "rebind", str(ledger), "a", "--ledger-key", "/dev/zero"]) == BAD_INPUT
    assert "/dev/zero: not a ledger's key" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a", "--key", "none.pub"], "cannot be read"),
        (["a", "--key", "nonsense.pub"], "holds no public key"),
        (["b\x1b[2J"], "is not in the ledger"),
    ],
)
def test_what_cannot_be_bound_is_one_line(
    ledger: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    (tmp_path / "nonsense.pub").write_bytes(b"\xff nonsense")
    arguments = [str(tmp_path / item) if item.endswith(".pub") else item for item in arguments]
    assert run_command(["client", "rebind", str(ledger), *arguments]) == BAD_INPUT
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and "\x1b" not in error and len(error) <= 401
    assert key_of(ledger) == OLD
