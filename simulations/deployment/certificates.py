"""Certificates of a SuperLink and keys of its nodes, as Flower takes them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP384R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fed_unlearn.checkpoints import make_private_folder, write_atomically
from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.text import quoted

DAYS = 397
"""Days for which a server's certificate is valid: about 13 months, the longest that browsers take. Launch makes new
ones at every start."""

_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_BACKDATED = timedelta(hours=1)  # for clocks that are behind


def make_certificates(folder: Path, hosts: Sequence[str]) -> None:
    """Write the certificates of a SuperLink: ``ca.crt``, ``server.crt`` and ``server.key``.

    The authority is used once: its key is written nowhere, so that nobody can make another certificate with it.

    Parameters
    ----------
    folder : Path
        Folder of the certificates, made if it is not there.
    hosts : sequence of str
        Names and IP addresses at which the SuperLink is reached.
    """
    make_private_folder(folder)
    authority, server = generate_private_key(SECP384R1()), generate_private_key(SECP384R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fed-unlearn launch")])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0])])
    signs = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    own = (
        _certificate(issuer, issuer, authority.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(signs, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(authority.public_key()), critical=False)
        .sign(authority, hashes.SHA256())
    )
    of_server = (
        _certificate(subject, issuer, server.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), critical=False)
        .sign(authority, hashes.SHA256())
    )
    write_atomically(folder / "server.key", _private(server, PrivateFormat.PKCS8))
    write_atomically(folder / "server.crt", of_server.public_bytes(Encoding.PEM))
    write_atomically(folder / "ca.crt", own.public_bytes(Encoding.PEM))


def make_node_key(path: Path) -> None:
    """Write the key of a node, and its public key beside it with ``.pub`` at the end. A key that is there stays.

    Parameters
    ----------
    path : Path
        The file of the private key, which only its owner can read.
    """
    public = path.with_name(f"{path.name}.pub")
    if path.exists() and public.exists():
        return
    make_private_folder(path.parent)
    key = generate_private_key(SECP384R1())
    write_atomically(path, _private(key, PrivateFormat.OpenSSH))
    write_atomically(public, key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH))


def _certificate(subject: x509.Name, issuer: x509.Name, key: EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + timedelta(days=DAYS))
    )


def alternative_name(host: str) -> str:
    """A host as openssl takes it in ``subjectAltName``: ``IP:ADDRESS`` or ``DNS:NAME``.

    Raises
    ------
    InvalidParameterError
        If it is neither a name nor an IP address.
    """
    if isinstance(_general_name(host), x509.IPAddress):
        return f"IP:{host}"
    return f"DNS:{host}"


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        if not _HOST_NAME.fullmatch(host):
            raise InvalidParameterError(
                f"--host {quoted(host)}: expected a name or an IP address, without port"
            ) from None
        return x509.DNSName(host)


def _private(key: EllipticCurvePrivateKey, form: PrivateFormat) -> bytes:
    return key.private_bytes(Encoding.PEM, form, NoEncryption())
