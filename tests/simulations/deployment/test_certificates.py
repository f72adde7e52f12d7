"""Certificates and keys, judged by openssl, ssh-keygen and Python's own TLS."""

import os
import shutil
import socket
import ssl
import subprocess
import threading
from pathlib import Path

import pytest

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.simulations.deployment.certificates import alternative_name, make_certificates, make_node_key

HOSTS = ("127.0.0.1", "localhost", "server.example", "::1")


def verified(folder: Path, *options: str) -> bool:
    command = [
        "openssl",
        "verify",
        "-x509_strict",
        "-purpose",
        "sslserver",
        "-CAfile",
        str(folder / "ca.crt"),
        *options,
    ]
    return subprocess.run([*command, str(folder / "server.crt")], capture_output=True).returncode == 0


def handshake(server: Path, client: Path, host: str) -> str | None:
    """Why a client that trusts one authority does not take a server's certificate; None if it does."""
    listening, calling = socket.socketpair()
    of_server, of_client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cafile=client / "ca.crt")
    of_server.load_cert_chain(server / "server.crt", server / "server.key")

    def serve() -> None:
        try:
            of_server.wrap_socket(listening, server_side=True).close()
        except OSError:
            listening.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        of_client.wrap_socket(calling, server_hostname=host).close()
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    finally:
        calling.close()
        thread.join()
    return None


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_openssl_takes_the_certificate_for_its_hosts_and_for_no_other(tmp_path: Path) -> None:
    make_certificates(tmp_path / "keys", HOSTS)
    assert all(verified(tmp_path / "keys", "-verify_ip", host) for host in ("127.0.0.1", "::1"))
    assert all(verified(tmp_path / "keys", "-verify_hostname", host) for host in ("localhost", "server.example"))
    assert not verified(tmp_path / "keys", "-verify_ip", "10.0.0.1")
    assert not verified(tmp_path / "keys", "-verify_hostname", "other.example")
    assert not verified(tmp_path / "keys", "-attime", str(os.stat(tmp_path).st_mtime_ns // 10**9 + 398 * 86_400))


def test_a_client_of_another_authority_takes_no_connection(tmp_path: Path) -> None:
    for name in ("mine", "theirs"):
        make_certificates(tmp_path / name, HOSTS)
    assert handshake(tmp_path / "mine", tmp_path / "mine", "localhost") is None
    assert "unable to get local issuer" in str(handshake(tmp_path / "mine", tmp_path / "theirs", "localhost"))
    assert "Hostname mismatch" in str(handshake(tmp_path / "mine", tmp_path / "mine", "other.example"))


def test_private_files_are_their_owner_s_and_the_authority_s_key_is_nowhere(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        make_certificates(tmp_path / "keys", HOSTS)
        make_node_key(tmp_path / "keys" / "node-0.key")
    finally:
        os.umask(previous)
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    assert {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "keys").iterdir()} == dict.fromkeys(
        ("ca.crt", "server.crt", "server.key", "node-0.key", "node-0.key.pub"), 0o600
    )
    keys = [path for path in (tmp_path / "keys").iterdir() if b"PRIVATE KEY" in path.read_bytes()]
    assert {path.name for path in keys} == {"server.key", "node-0.key"}


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen")
def test_ssh_keygen_reads_a_node_s_key_which_stays_when_it_is_there(tmp_path: Path) -> None:
    key, public = tmp_path / "node-0.key", tmp_path / "node-0.key.pub"
    make_node_key(key)
    read = subprocess.run(["ssh-keygen", "-y", "-f", str(key)], capture_output=True, text=True, check=True).stdout
    assert read.split()[:2] == public.read_text().split()[:2]
    assert read.startswith("ecdsa-sha2-nistp384 ")
    before = key.read_bytes()
    make_node_key(key)
    assert key.read_bytes() == before
    make_node_key(tmp_path / "node-1.key")
    assert (tmp_path / "node-1.key").read_bytes() != before


def test_hosts_are_names_or_addresses() -> None:
    assert [alternative_name(host) for host in HOSTS] == [
        *("IP:127.0.0.1", "DNS:localhost", "DNS:server.example", "IP:::1"),
    ]
    for host in ("a b", "host:9093", "", "$(reboot)", "a'b"):
        with pytest.raises(InvalidParameterError, match="expected a name or an IP address"):
            alternative_name(host)
