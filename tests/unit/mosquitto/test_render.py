"""The rendered files: who is let in, which topics each user gets, and what is refused beforehand."""

import base64
import hashlib
from dataclasses import replace
from pathlib import Path

import jinja2
import pytest

from mosquitto.render import (
    BrokerSettings,
    PlainListener,
    TlsListener,
    password_lines,
    render,
    render_acl,
)
from mosquitto.sizing import limits_for
from schemas.errors import ConfigError
from schemas.identifiers import COORDINATOR_ID, MONITOR_ID
from schemas.topics import TO_AGENT, TO_COORDINATOR, Address, Kind, Topics

LIMITS = limits_for(model_bytes=190_000, num_agents=5)
PLAIN = PlainListener(port=1883)
TLS = TlsListener(
    port=8883, ca_file=Path("/pki/ca.crt"), certificate_file=Path("/pki/b.crt"), key_file=Path("/pki/b.key")
)
WITH_PASSWORDS = BrokerSettings(limits=LIMITS, plain_listeners=(PLAIN,), passwords={"pi-1": "secret"})
WITH_CERTIFICATES = BrokerSettings(limits=LIMITS, tls_listeners=(TLS,))


def config_lines(folder: Path, settings: BrokerSettings) -> list[str]:
    return render(folder, settings).config_file.read_text().splitlines()


def rights(acl: str, user: str) -> list[tuple[str, str]]:
    """(access, topic filter) of every line that applies to a user, patterns filled in."""
    found: list[tuple[str, str]] = []
    current = ""
    for line in acl.splitlines():
        word, _, rest = line.partition(" ")
        if word == "user":
            current = rest
        elif word == "pattern" or (word == "topic" and current == user):
            access, topic_filter = rest.split(" ")
            found.append((access, topic_filter.replace("%u", user)))
    return found


def matches(topic_filter: str, topic: str) -> bool:
    filters, levels = topic_filter.split("/"), topic.split("/")
    if filters[-1] == "#":
        filters, levels = filters[:-1], levels[: len(filters) - 1]
    return len(filters) == len(levels) and all(f in ("+", level) for f, level in zip(filters, levels, strict=True))


def may(access: str, user: str, topic: str, prefix: str = "fl") -> bool:
    """Mosquitto's reading of the list: a matching deny wins, else any line that grants."""
    granted = [kind for kind, topic_filter in rights(render_acl(prefix), user) if matches(topic_filter, topic)]
    return "deny" not in granted and (access in granted or "readwrite" in granted)


@pytest.mark.parametrize("prefix", ["fl", "homes/north"])
@pytest.mark.parametrize("kind", list(Kind))
def test_acl_grants_each_topic_to_exactly_its_sender_and_receivers(kind: Kind, prefix: str) -> None:
    topic = Topics(prefix).build(Address(kind, "pi-1", "run-1", 3, 7))
    readers = {user for user in ("pi-1", "pi-2", COORDINATOR_ID, MONITOR_ID) if may("read", user, topic, prefix)}
    writers = {user for user in ("pi-1", "pi-2", COORDINATOR_ID, MONITOR_ID) if may("write", user, topic, prefix)}

    if kind in TO_COORDINATOR:
        watched = {MONITOR_ID} if kind in (Kind.STATUS, Kind.REPORT) else set()
        # Its own status tells an agent whether another process uses its id.
        itself = {"pi-1"} if kind is Kind.STATUS else set()
        assert (writers, readers) == ({"pi-1"}, {COORDINATOR_ID} | watched | itself)
    elif kind in TO_AGENT:
        assert (writers, readers) == ({COORDINATOR_ID}, {"pi-1"})
    elif kind is Kind.MODEL:
        # The agents' pattern holds for every user; it shows the coordinator only what it wrote itself.
        assert (writers, readers) == ({COORDINATOR_ID}, {"pi-1", "pi-2", COORDINATOR_ID})
    else:
        assert (writers, readers) == ({COORDINATOR_ID}, {"pi-1", "pi-2", COORDINATOR_ID, MONITOR_ID})


@pytest.mark.parametrize("user", [COORDINATOR_ID, MONITOR_ID])
@pytest.mark.parametrize("kind", TO_COORDINATOR)
def test_acl_keeps_other_users_from_posing_as_an_agent_of_their_name(user: str, kind: Kind) -> None:
    assert not may("write", user, Topics().build(Address(kind, user, "run-1", 3, 7)))


def test_config_names_every_limit_and_the_listener(tmp_path: Path) -> None:
    lines = config_lines(tmp_path, WITH_PASSWORDS)

    assert "listener 1883 127.0.0.1" in lines
    assert "allow_anonymous false" in lines
    assert f"password_file {tmp_path}/passwords" in lines
    assert f"acl_file {tmp_path}/acl" in lines
    assert f"max_packet_size {LIMITS.max_packet_bytes}" in lines
    assert f"max_inflight_messages {LIMITS.max_inflight_messages}" in lines
    assert f"max_inflight_bytes {LIMITS.max_inflight_bytes}" in lines
    assert f"max_queued_messages {LIMITS.max_queued_messages}" in lines
    assert f"max_queued_bytes {LIMITS.max_queued_bytes}" in lines
    assert f"max_connections {LIMITS.max_connections}" in lines
    assert f"memory_limit {LIMITS.memory_bytes}" in lines


def test_config_asks_for_certificates_when_the_listener_is_tls(tmp_path: Path) -> None:
    lines = config_lines(tmp_path, replace(WITH_CERTIFICATES, tls_listeners=(replace(TLS, crl_file=Path("/r.crl")),)))

    assert "listener 8883" in lines
    assert "require_certificate true" in lines
    assert "use_identity_as_username true" in lines
    assert "use_username_as_clientid true" in lines
    assert "tls_version tlsv1.2" in lines
    assert "crlfile /r.crl" in lines
    assert not any(line.startswith("password_file") for line in lines)


def test_config_sets_the_operating_system_user_only_when_given(tmp_path: Path) -> None:
    without = config_lines(tmp_path / "a", WITH_PASSWORDS)
    with_user = config_lines(tmp_path / "b", replace(WITH_PASSWORDS, os_user="mosquitto"))

    assert not any(line.startswith("user ") for line in without)
    assert "user mosquitto" in with_user


def test_passwords_are_stored_as_salted_hashes_that_mosquitto_can_check() -> None:
    (line,) = password_lines({"pi-1": "secret"}).splitlines()
    user, _, hashed = line.partition(":")
    _, scheme, iterations, salt, digest = hashed.split("$")

    assert (user, scheme) == ("pi-1", "7")
    expected = hashlib.pbkdf2_hmac("sha512", b"secret", base64.b64decode(salt), int(iterations), 64)
    assert base64.b64decode(digest) == expected
    assert password_lines({"pi-1": "secret"}) != line + "\n"


def test_settings_do_not_show_passwords_when_printed() -> None:
    assert "secret" not in repr(WITH_PASSWORDS)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (BrokerSettings(limits=LIMITS), "no listener"),
        (replace(WITH_PASSWORDS, passwords={}), "needs passwords"),
        (
            replace(WITH_PASSWORDS, plain_listeners=(PlainListener(port=1, address="0.0.0.0"),), passwords={}),  # noqa: S104
            "off loopback",
        ),
        (
            replace(WITH_PASSWORDS, plain_listeners=(PlainListener(port=1, address="10.0.0.1"),), allow_anonymous=True),
            "off loopback",
        ),
        (
            replace(WITH_PASSWORDS, plain_listeners=(replace(PLAIN, client_id_is_user=True),), allow_anonymous=True),
            "choose one",
        ),
        (replace(WITH_PASSWORDS, passwords={"pi-1": ""}), "is empty"),
        (replace(WITH_PASSWORDS, passwords={"pi 1": "x"}), "broker user"),
        (replace(WITH_PASSWORDS, passwords={"a:b\nc": "x"}), "broker user"),
        (replace(WITH_PASSWORDS, topic_prefix="fl/#"), "prefix"),
        (replace(WITH_PASSWORDS, topic_prefix="fl\ntopic write x"), "control characters"),
        (replace(WITH_PASSWORDS, log_destination="stderr\nallow_anonymous true"), "control characters"),
        (replace(WITH_CERTIFICATES, tls_listeners=(replace(TLS, ca_file=Path("/a\nb")),)), "control characters"),
    ],
)
def test_render_refuses_settings_that_let_anyone_in_or_break_the_file(
    tmp_path: Path, settings: BrokerSettings, complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        render(tmp_path, settings)

    assert not (tmp_path / "mosquitto.conf").exists()


def test_plain_listener_off_loopback_is_accepted_when_everyone_has_a_password(tmp_path: Path) -> None:
    settings = replace(WITH_PASSWORDS, plain_listeners=(PlainListener(port=1883, address="10.0.0.1"),))

    assert "listener 1883 10.0.0.1" in config_lines(tmp_path, settings)


def test_anonymous_is_allowed_when_the_listener_is_on_loopback(tmp_path: Path) -> None:
    lines = config_lines(tmp_path, replace(WITH_PASSWORDS, passwords={}, allow_anonymous=True))

    assert "allow_anonymous true" in lines


def test_templates_render_the_same_when_given_plain_dictionaries_as_ansible_does(tmp_path: Path) -> None:
    rendered = render(tmp_path, WITH_CERTIFICATES)
    source = (Path(__file__).parents[3] / "mosquitto/templates/mosquitto.conf.j2").read_text()
    template = jinja2.Template(source, trim_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined)
    settings = WITH_CERTIFICATES

    text = template.render(
        allow_anonymous=False,
        password_file="",
        acl_file=str(rendered.acl_file),
        os_user="",
        data_folder=str(rendered.data_folder),
        autosave_interval_s=settings.autosave_interval_s,
        session_expiry_days=settings.session_expiry_days,
        limits={name: getattr(LIMITS, name) for name in LIMITS.__slots__},
        max_keepalive_s=settings.max_keepalive_s,
        sys_interval_s=settings.sys_interval_s,
        log_destination="stderr",
        log_types=list(settings.log_types),
        plain_listeners=[],
        tls_listeners=[{name: getattr(TLS, name) for name in TLS.__slots__}],
    )

    assert text == rendered.config_file.read_text()


def test_readme_explains_every_setting_and_limit() -> None:
    readme = (Path(__file__).parents[3] / "mosquitto/README.md").read_text()
    config = (Path(__file__).parents[3] / "mosquitto/templates/mosquitto.conf.j2").read_text()
    settings = {*BrokerSettings.__slots__, *PlainListener.__slots__, *TlsListener.__slots__} - {"passwords"}
    written = {line.split(" ")[0] for line in config.splitlines() if "limits." in line}

    assert {name for name in settings | written if f"`{name}`" not in readme} == set()
