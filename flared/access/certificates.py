"""Certificates of a cluster's own: its authority, the requests of its nodes, and what it makes of them. Pure.

The authority's key is kept *sealed*: as encrypted PKCS #8 under a passphrase that is made of the cluster's secret, so
that the file alone, in a backup or on a lost disk, is worth nothing. Each secret of the keyring opens it.

Keys are of the curve P-256, which every client knows and whose handshakes are cheap. Everything is PEM.
RFC 5280 (certificates), RFC 2986 (requests). Each function here loads OpenSSL's bindings, which takes 10 MiB: nodes
that only use their files never call one.
"""

from __future__ import annotations

import hmac
import ipaddress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

AUTHORITY_DAYS = 3650
CERTIFICATE_DAYS = 365
RENEW_DAYS = 60
"""A certificate is renewed when less is left: a month before the doctors warn."""
CLOCK_SKEW = timedelta(hours=1)
"""A new certificate is valid at hosts whose clocks are late by so much."""
NAMES_MAX = 32
REQUEST_BYTES_MAX = 8192
_BEGIN, _END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"
_UTC = timezone.utc  # noqa: UP017  # what Debian 12's Python calls it, too


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """What a certificate says."""

    names: tuple[str, ...]
    """Host names, names of nodes and IP addresses it is valid for."""
    begins: float
    """In seconds since 1970, as the next."""
    ends: float
    issuer: str
    """The name of the authority."""

    def days_left(self, now: float) -> float:
        return (self.ends - now) / 86400


@dataclass(frozen=True, slots=True)
class Authority:
    """A cluster's own authority; ``key`` is sealed."""

    certificate: bytes
    key: bytes


def make_authority(title: str, secret: bytes, now: float) -> Authority:
    """Make the authority of a new cluster, which others see as ``title``."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    key = _make_key()
    name = _name(title)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    certificate = _dated(builder, now, AUTHORITY_DAYS).sign(key, hashes.SHA256())
    return Authority(_pem(certificate), _seal_key(key, secret))


def make_request(node: str, names: Iterable[str], key: bytes) -> bytes:
    """Return the request of a node for a certificate of its name and these others, with its key in PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    names = list(dict.fromkeys((node, *names)))[:NAMES_MAX]
    builder = x509.CertificateSigningRequestBuilder().subject_name(_name(node))
    builder = builder.add_extension(_alternatives(names), critical=False)
    request = builder.sign(_load_key(key), hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM)


def make_key() -> bytes:
    """Return a new private key in PEM, not encrypted."""
    from cryptography.hazmat.primitives import serialization

    return _make_key().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def sign_request(authority: Authority, secrets: Sequence[bytes], node: str, request: bytes, now: float) -> bytes:
    """Return a certificate for the request of this node. Raise ValueError if the request is not valid, or not the
    node's; or if none of the secrets opens the authority's key.

    It is good for servers and for clients, because nodes are both to each other.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    # Of the request only names and key are taken, and only if they are the node's own.
    asked = x509.load_pem_x509_csr(request)
    if not asked.is_signature_valid:
        raise ValueError("the request for a certificate is not signed by its own key")
    titles = [attribute.value for attribute in asked.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if titles != [node]:
        raise ValueError(f"the request for a certificate is not one of node {node}")
    names = _names_of(asked.extensions)
    if node not in names or len(names) > NAMES_MAX:
        raise ValueError(f"a request for a certificate names its node and at most {NAMES_MAX - 1} others")
    # An authority whose files do not fit would make certificates that no node believes.
    key, issuer = _open_key(authority.key, secrets), x509.load_pem_x509_certificate(authority.certificate)
    if _public_bytes(issuer.public_key()) != _public_bytes(key.public_key()):
        raise ValueError("the key of the cluster's authority is not that of its certificate")
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(node))
        .issuer_name(issuer.subject)
        .public_key(asked.public_key())
        .serial_number(x509.random_serial_number())
        .add_extension(_alternatives(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
    )
    return _pem(_dated(builder, now, CERTIFICATE_DAYS).sign(key, hashes.SHA256()))


def seal_again(authority: Authority, secrets: Sequence[bytes]) -> Authority | None:
    """Return the authority with its key sealed by the first of the secrets; None if it is so already. Raise ValueError
    if none of them opens it."""
    try:
        _open_key(authority.key, secrets[:1])
    except ValueError:
        return Authority(authority.certificate, _seal_key(_open_key(authority.key, secrets), secrets[0]))
    return None


def read_certificate(content: bytes) -> CertificateFacts:
    """Return what the first certificate in PEM says. Raise ValueError."""
    from cryptography import x509

    found = x509.load_pem_x509_certificate(content)
    begins, ends = (moment.replace(tzinfo=_UTC).timestamp() for moment in _validity(found))
    return CertificateFacts(tuple(_names_of(found.extensions)), begins, ends, found.issuer.rfc4514_string())


def is_signed_by(certificate: bytes, authority: bytes) -> bool:
    """Return whether the authority made the first certificate in PEM. Raise ValueError if one of them is not PEM."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec

    made, maker = x509.load_pem_x509_certificate(certificate), x509.load_pem_x509_certificate(authority)
    key, algorithm = maker.public_key(), made.signature_hash_algorithm
    if made.issuer != maker.subject or not isinstance(key, ec.EllipticCurvePublicKey) or algorithm is None:
        return False
    try:
        key.verify(made.signature, made.tbs_certificate_bytes, ec.ECDSA(algorithm))
    except InvalidSignature:
        return False
    return True


def is_of_key(certificate: bytes, key: bytes) -> bool:
    """Return whether the certificate is for this private key. Raise ValueError if one of them is not PEM."""
    from cryptography import x509

    public = _load_key(key).public_key()
    return _public_bytes(x509.load_pem_x509_certificate(certificate).public_key()) == _public_bytes(public)


def certificates_in(content: bytes) -> list[bytes]:
    """Return each of several certificates in PEM."""
    return [_BEGIN + part.partition(_END)[0] + _END + b"\n" for part in content.split(_BEGIN)[1:]]


def first_certificate(content: bytes) -> bytes:
    """Return the first of several certificates in PEM, with nothing before or after it."""
    begin, end = content.find(_BEGIN), content.find(_END)
    return content[max(begin, 0) : end + len(_END)] + b"\n" if end >= 0 else content


def fingerprint(content: bytes) -> str:
    """Return the SHA-256 of the first certificate in PEM, as 64 hex digits. Raise ValueError."""
    import ssl

    return sha256(ssl.PEM_cert_to_DER_cert(first_certificate(content).decode("ascii").strip())).hexdigest()


def _validity(certificate: x509.Certificate) -> tuple[datetime, datetime]:
    if hasattr(certificate, "not_valid_after_utc"):  # since cryptography 42, which warns of the other names
        return certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return certificate.not_valid_before, certificate.not_valid_after


def _public_bytes(key: CertificatePublicKeyTypes) -> bytes:
    """Return a public key in DER; before cryptography 40 keys themselves compare by identity."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _make_key() -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _load_key(content: bytes, passphrase: bytes | None = None) -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(content, passphrase)
    except TypeError as error:  # encrypted and no passphrase, or the other way round
        raise ValueError(str(error)) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("the key is not one of an elliptic curve")  # wrong content, not a wrong type
    return key


def _seal_key(key: EllipticCurvePrivateKey, secret: bytes) -> bytes:
    from cryptography.hazmat.primitives import serialization

    sealing = serialization.BestAvailableEncryption(_passphrase(secret))
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, sealing)


def _open_key(sealed: bytes, secrets: Sequence[bytes]) -> EllipticCurvePrivateKey:
    for secret in secrets:
        try:
            return _load_key(sealed, _passphrase(secret))
        except ValueError:
            continue
    raise ValueError("the key of the cluster's authority is sealed with another secret than this node has")


def _passphrase(secret: bytes) -> bytes:
    return hmac.digest(secret, b"the key of the cluster's authority", sha256).hex().encode()


def _name(title: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, title)])


def _dated(builder: x509.CertificateBuilder, now: float, days: int) -> x509.CertificateBuilder:
    moment = datetime.fromtimestamp(int(now), _UTC)
    return builder.not_valid_before(moment - CLOCK_SKEW).not_valid_after(moment + timedelta(days=days))


def _usage(*, signs: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _alternatives(names: Sequence[str]) -> x509.SubjectAlternativeName:
    from cryptography import x509

    found: list[x509.GeneralName] = []
    for name in names:
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    return x509.SubjectAlternativeName(found)


def _names_of(extensions: x509.Extensions) -> list[str]:
    from cryptography import x509

    try:
        found = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    addresses = [str(address) for address in found.get_values_for_type(x509.IPAddress)]
    return [*found.get_values_for_type(x509.DNSName), *addresses]


def _pem(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM)
