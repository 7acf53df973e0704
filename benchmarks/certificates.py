"""Certificates for a benchmark over TLS, made with the openssl command: an authority, a broker, agents."""

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from mosquitto.render import TlsListener
from schemas.errors import FederationError
from transport.address import TlsFiles

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")
_SERVER = "broker"


def make_certificates(folder: Path, names: Iterable[str]) -> TlsListener:
    """Certificates for a broker on loopback and for these users; the listener that asks for them.

    Raises:
        FederationError: openssl is not installed, or failed.
    """
    folder.mkdir()
    _openssl(folder, "ca", "ca", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
    for name in (_SERVER, *names):
        issuer = ("-CA", str(folder / "ca.crt"), "-CAkey", str(folder / "ca.key"))
        _openssl(folder, name, name, *issuer, "-addext", "subjectAltName=IP:127.0.0.1")
    return TlsListener(
        port=0,
        ca_file=folder / "ca.crt",
        certificate_file=folder / f"{_SERVER}.crt",
        key_file=folder / f"{_SERVER}.key",
    )


def files_of(folder: Path, name: str) -> TlsFiles:
    """What a user connects with."""
    return TlsFiles(folder / "ca.crt", folder / f"{name}.crt", folder / f"{name}.key")


def _openssl(folder: Path, file_name: str, common_name: str, *options: str) -> None:
    program = shutil.which("openssl")
    if program is None:
        raise FederationError("openssl is needed for TLS: install it (apt install openssl)")
    places = ("-keyout", str(folder / f"{file_name}.key"), "-out", str(folder / f"{file_name}.crt"))
    command = [program, "req", "-x509", *_KEY, "-subj", f"/CN={common_name}", *places, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise FederationError(f"openssl could not make a certificate: {done.stderr.strip()[-300:]}")
