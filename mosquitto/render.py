"""Turns `BrokerSettings` into the three files that Mosquitto reads: configuration, ACL and passwords.

The templates are plain Jinja2, so that Ansible renders the same ones; what this module adds is checking (no
listener that would let anyone in) and the password file. It starts nothing.
"""

import base64
import hashlib
import ipaddress
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2

from mosquitto.sizing import BrokerLimits
from schemas.errors import ConfigError
from schemas.identifiers import COORDINATOR_ID, MONITOR_ID, checked_identifier
from schemas.topics import Topics

QUIET_LOG = ("error", "warning", "notice", "information")
"""Connections, refused clients and trouble."""

REFUSALS_LOG = (*QUIET_LOG, "debug")
"""Also each packet, and with them each refused publish: Mosquitto logs those at debug only."""

# What mosquitto_passwd writes. Users' passwords here are random tokens, which no number of iterations would
# make harder to guess, and a thousand agents that come back at once must not keep the broker busy hashing.
_PBKDF2_ITERATIONS = 101
_SALT_BYTES = 12
_HASH_BYTES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainListener:
    """A listener without encryption; on loopback unless every user has a password.

    Attributes:
        client_id_is_user: see `TlsListener`.
    """

    port: int
    address: str = "127.0.0.1"
    client_id_is_user: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsListener:
    """A listener that takes client certificates of one authority only.

    Attributes:
        address: interface to listen on; empty for all.
        crl_file: revoked certificates; read again on SIGHUP.
        client_id_is_user: replace the client id by the user name, so that nobody can throw another device out
            by connecting with its client id. One user then has one connection: the latest.
    """

    port: int
    address: str = ""
    ca_file: Path
    certificate_file: Path
    key_file: Path
    crl_file: Path | None = None
    client_id_is_user: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerSettings:
    """What an operator decides about a broker.

    Attributes:
        passwords: by user; empty when certificates identify everyone. Only salted hashes are written.
        allow_anonymous: on loopback alone; the ACL lets an anonymous client read models and nothing else.
        os_user: what a broker started as root becomes; empty to stay who one is.
        log_destination: as in mosquitto.conf: `stderr`, `syslog` or `file /path`.
        autosave_interval_s: how much of retained messages and queues a power cut may cost.
        session_expiry_days: after this the queue of a device that never came back is dropped.
        max_keepalive_s: a dead connection is noticed after 1.5 times this at the latest.
    """

    limits: BrokerLimits
    plain_listeners: tuple[PlainListener, ...] = ()
    tls_listeners: tuple[TlsListener, ...] = ()
    topic_prefix: str = "fl"
    passwords: Mapping[str, str] = field(default_factory=dict, repr=False)
    allow_anonymous: bool = False
    os_user: str = ""
    log_destination: str = "stderr"
    log_types: tuple[str, ...] = QUIET_LOG
    sys_interval_s: int = 10
    autosave_interval_s: int = 60
    session_expiry_days: int = 1
    max_keepalive_s: int = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedBroker:
    """Where the files went; `password_file` is None when nobody has a password."""

    config_file: Path
    acl_file: Path
    password_file: Path | None
    data_folder: Path


def render(folder: Path, settings: BrokerSettings) -> RenderedBroker:
    """Write the configuration into `folder` (made when missing); rendering again replaces it.

    ACL and password file are readable by their owner alone. A running broker reads both again on SIGHUP.

    Raises:
        ConfigError: the settings would let anyone in, or hold something that the files cannot express.
    """
    _check(settings)
    folder = folder.resolve()
    rendered = RenderedBroker(
        config_file=folder / "mosquitto.conf",
        acl_file=folder / "acl",
        password_file=folder / "passwords" if settings.passwords else None,
        data_folder=folder / "data",
    )
    config = render_config(settings, rendered)
    acl = render_acl(settings.topic_prefix)
    rendered.data_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    _write(rendered.config_file, config)
    _write(rendered.acl_file, acl)
    if rendered.password_file is not None:
        _write(rendered.password_file, password_lines(settings.passwords))
    return rendered


def render_config(settings: BrokerSettings, files: RenderedBroker) -> str:
    """The text of mosquitto.conf."""
    values: dict[str, Any] = {name: getattr(settings, name) for name in settings.__slots__ if name != "passwords"}
    values |= {name: getattr(files, name) for name in files.__slots__}
    for name, value in _strings(values):
        if any(ord(character) < 32 for character in value):
            raise ConfigError(f"broker setting {name} = {value!r}: no line breaks or control characters")
    return _template("mosquitto.conf.j2").render(values)


def render_acl(topic_prefix: str, revoked_users: Sequence[str] = ()) -> str:
    """The text of the access control list.

    Args:
        revoked_users: who may do nothing any more, even on a connection that is open when the broker reads this.
    """
    return _template("acl.j2").render(
        topic_prefix=Topics(topic_prefix).prefix,
        coordinator_user=COORDINATOR_ID,
        monitor_user=MONITOR_ID,
        revoked_users=revoked_users,
    )


def password_lines(passwords: Mapping[str, str]) -> str:
    """The text of the password file, in the format of `mosquitto_passwd`, with a fresh salt for each user."""
    return "".join(f"{user}:{_password_hash(password)}\n" for user, password in sorted(passwords.items()))


def _password_hash(password: str) -> str:
    salt = secrets.token_bytes(_SALT_BYTES)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _PBKDF2_ITERATIONS, _HASH_BYTES)
    return f"$7${_PBKDF2_ITERATIONS}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def _check(settings: BrokerSettings) -> None:
    if not settings.plain_listeners and not settings.tls_listeners:
        raise ConfigError("the broker has no listener: give plain_listeners or tls_listeners")
    for listener in settings.plain_listeners:
        if not _is_loopback(listener.address) and (settings.allow_anonymous or not settings.passwords):
            raise ConfigError(
                f"plain listener {listener.address}:{listener.port}: off loopback every user needs a password; "
                "use a TLS listener, or give passwords and no allow_anonymous"
            )
        if settings.allow_anonymous and listener.client_id_is_user:
            raise ConfigError("client_id_is_user shuts out anonymous clients: choose one of the two")
    if not settings.allow_anonymous and not settings.passwords and settings.plain_listeners:
        raise ConfigError("a plain listener needs passwords or, on loopback, allow_anonymous")
    for user, password in settings.passwords.items():
        checked_identifier(user, "broker user")
        if not password:
            raise ConfigError(f"the password of broker user {user!r} is empty")


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def _strings(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = [(name, str(value)) for name, value in values.items() if isinstance(value, str | Path)]
    found += [("log_types", kind) for kind in values["log_types"]]
    for listener in (*values["plain_listeners"], *values["tls_listeners"]):
        found += [(name, str(getattr(listener, name))) for name in listener.__slots__]
    return found


def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mosquitto", "templates"),
        undefined=jinja2.StrictUndefined,
        # As Ansible sets it, so that both render the same bytes.
        trim_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 (configuration, not HTML)
    )
    return environment.get_template(name)


def _write(path: Path, text: str) -> None:
    """Replace `path` in one step by a file that only its owner can read."""
    scratch = path.with_name(path.name + ".new")
    scratch.unlink(missing_ok=True)
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    scratch.replace(path)
