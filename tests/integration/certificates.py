"""A certificate authority for tests: server and client certificates and a revocation list, made on the fly."""

import ipaddress
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_VALID_FROM = datetime(2020, 1, 1, tzinfo=UTC)
_VALID_FOR = timedelta(days=36500)


@dataclass(frozen=True, slots=True)
class Identity:
    """One party's certificate and key, as PEM files."""

    certificate_file: Path
    key_file: Path
    certificate: x509.Certificate


class Authority:
    """Issues certificates into its own folder."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            self._builder(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_signing_only(), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.ca_file = _write(folder / "ca.crt", _pem(certificate))

    def issue(self, common_name: str, server: bool = False, address: str = "127.0.0.1") -> Identity:
        """A certificate for a device, or for a broker at this address."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        usage = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        place = x509.IPAddress(ipaddress.ip_address(address))
        certificate = (
            self._builder(subject, key.public_key())
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.SubjectAlternativeName([place]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return Identity(
            certificate_file=_write(self._folder / f"{common_name}.crt", _pem(certificate)),
            key_file=_write(self._folder / f"{common_name}.key", _key_pem(key)),
            certificate=certificate,
        )

    def revoke(self, *identities: Identity) -> Path:
        """A revocation list of exactly these, as a PEM file."""
        builder = x509.CertificateRevocationListBuilder().issuer_name(self._name)
        builder = builder.last_update(_VALID_FROM).next_update(_VALID_FROM + _VALID_FOR)
        for identity in identities:
            entry = x509.RevokedCertificateBuilder().serial_number(identity.certificate.serial_number)
            builder = builder.add_revoked_certificate(entry.revocation_date(_VALID_FROM).build())
        revoked = builder.sign(self._key, hashes.SHA256())
        return _write(self._folder / "revoked.crl", revoked.public_bytes(serialization.Encoding.PEM))

    def client_context(self, identity: Identity | None) -> ssl.SSLContext:
        """What a client that trusts this authority connects with; None for one without a certificate."""
        context = ssl.create_default_context(cafile=str(self.ca_file))
        if identity is not None:
            context.load_cert_chain(identity.certificate_file, identity.key_file)
        return context

    def _builder(self, subject: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return x509.CertificateBuilder(
            issuer_name=self._name,
            subject_name=subject,
            public_key=public_key,
            serial_number=x509.random_serial_number(),
            not_valid_before=_VALID_FROM,
            not_valid_after=_VALID_FROM + _VALID_FOR,
        )


def _signing_only() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
