"""`edge-agent doctor` against real brokers: login, rights, TLS, and that it disturbs nobody."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from edge_agent.cli import app
from edge_agent.doctor import device
from edge_agent.doctor.findings import ok
from learning.datasets import Examples
from learning.folders import write_folder
from mosquitto.broker import PrivateBroker
from mosquitto.render import TlsListener
from schemas import wire
from schemas.messages import CoordinatorStatus, Standing
from schemas.topics import Address, Kind, Topics
from tests.integration.certificates import Authority
from tests.integration.mqtt_probe import Probe

AGENT = "pi-1"
TOPICS = Topics()
STATUS = TOPICS.build(Address(Kind.STATUS, AGENT))
COORDINATOR_STATUS = TOPICS.build(Address(Kind.COORDINATOR_STATUS))


@pytest.fixture(autouse=True)
def _torch_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare every test the seconds that loading PyTorch takes."""
    monkeypatch.setattr(device, "check_torch", lambda: ok("PyTorch", "there"))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A device's folder with room data and a password file."""
    images = np.zeros((20, 1, 28, 28), np.uint8)
    write_folder(tmp_path / "data", Examples(images, np.arange(20, dtype=np.int64) % 4, 10, "room"))
    (tmp_path / "password").write_text(f"password of {AGENT}\n")
    return tmp_path


def examine(home: Path, broker_lines: str, *options: str) -> tuple[int, dict[str, dict[str, str]]]:
    """The doctor's exit code and findings, by check."""
    config = home / "agent.toml"
    config.write_text(f'agent_id = "{AGENT}"\ndata_folder = "data"\nstate_folder = "state"\n[broker]\n{broker_lines}\n')
    result = CliRunner().invoke(app, ["doctor", str(config), "--json", *options])
    return result.exit_code, {found["check"]: found for found in json.loads(result.stdout)["findings"]}


def plain(broker: PrivateBroker, user: str = AGENT) -> str:
    return f'port = {broker.port}\nusername = "{user}"\npassword_file = "password"'


def as_coordinator(broker: PrivateBroker) -> Probe:
    return Probe(broker.port, "coordinator", broker.passwords["coordinator"], "doctor-test")


@pytest.fixture
def coordinator_online(broker: PrivateBroker) -> Iterator[Probe]:
    """Somebody with the coordinator's rights, whose retained status is taken away afterwards."""
    with as_coordinator(broker) as probe:
        status = CoordinatorStatus(state="online", session="s", run_id="run-7")
        probe.publish(COORDINATOR_STATUS, wire.encode(status), retain=True)
        yield probe
        probe.publish(COORDINATOR_STATUS, b"", retain=True)


@pytest.fixture(autouse=True)
def _status_is_cleared(broker: PrivateBroker) -> Iterator[None]:
    yield
    with Probe(broker.port, AGENT, broker.passwords[AGENT], "doctor-clears") as probe:
        probe.publish(STATUS, b"", retain=True)


def test_device_that_can_work_is_told_so(broker: PrivateBroker, home: Path) -> None:
    exit_code, found = examine(home, plain(broker), "--model", "cnn")

    assert exit_code == 0
    statuses = {check: finding["status"] for check, finding in found.items()}
    assert {"problem", "warning"}.isdisjoint(statuses.values()) or statuses["clock"] == "warning"
    assert (statuses["login"], statuses["writing"], statuses["model"]) == ("ok", "ok", "ok")
    assert statuses["reading"] == "note"  # as there is no coordinator to read from


def test_wrong_password_is_a_problem_with_what_to_check(broker: PrivateBroker, home: Path) -> None:
    (home / "password").write_text("wrong")

    exit_code, found = examine(home, plain(broker))

    assert exit_code == 1
    assert "not authorized" in found["login"]["detail"]
    assert "broker.password_file" in found["login"]["fix"]


def test_user_of_another_device_shows_in_the_refused_publish(broker: PrivateBroker, home: Path) -> None:
    (home / "password").write_text("password of pi-2")

    exit_code, found = examine(home, plain(broker, "pi-2"))

    assert exit_code == 1
    assert found["login"]["status"] == "ok"
    assert found["writing"]["status"] == "problem"
    assert f"refused a message on {STATUS}: not authorized" in found["writing"]["detail"]
    assert f"must be '{AGENT}', the agent_id" in found["writing"]["fix"]


@pytest.mark.usefixtures("coordinator_online")
def test_right_to_read_is_shown_by_what_is_delivered(broker: PrivateBroker, home: Path) -> None:
    _, found = examine(home, plain(broker))

    assert found["reading"]["status"] == "ok"
    assert "online, run run-7" in found["reading"]["detail"]


def test_doctor_says_only_that_the_device_is_offline(
    broker: PrivateBroker, home: Path, coordinator_online: Probe
) -> None:
    coordinator_online.subscribe(*TOPICS.coordinator_filters())
    assert coordinator_online.next_message()[0] == COORDINATOR_STATUS  # the retained one, of ourselves

    examine(home, plain(broker))
    coordinator_online.publish(COORDINATOR_STATUS, b"the end")

    topic, payload = coordinator_online.next_message()
    assert (topic, json.loads(payload)["state"]) == (STATUS, "offline")
    assert coordinator_online.next_message() == (COORDINATOR_STATUS, b"the end")


def test_coordinator_is_asked_only_when_wanted_and_its_answer_counts(
    broker: PrivateBroker, home: Path, coordinator_online: Probe
) -> None:
    coordinator_online.subscribe(STATUS)

    def answer() -> None:
        _, payload = coordinator_online.next_message()
        assert json.loads(payload)["state"] == "online"
        standing = Standing(phase="waiting", run_id="run-7", closed_round=0)
        coordinator_online.send(TOPICS.build(Address(Kind.STANDING, AGENT)), wire.encode(standing))

    thread = threading.Thread(target=answer)
    thread.start()
    _, found = examine(home, plain(broker), "--ask-coordinator")
    thread.join()

    assert found["coordinator"] == {
        "check": "coordinator",
        "status": "ok",
        "detail": "it answered this device: messages pass in both directions",
        "fix": "",
    }
    assert json.loads(coordinator_online.next_message()[1])["state"] == "offline"


def test_silence_of_the_coordinator_is_a_problem(
    broker: PrivateBroker, home: Path, coordinator_online: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    del coordinator_online
    monkeypatch.setattr("edge_agent.doctor.broker.ANSWER_LIMIT_S", 0.3)

    exit_code, found = examine(home, plain(broker), "--ask-coordinator")

    assert exit_code == 1
    assert "allowed_agents" in found["coordinator"]["fix"]


def test_broker_that_is_not_there_is_a_problem(mosquitto_program: str, home: Path) -> None:
    del mosquitto_program

    exit_code, found = examine(home, "port = 1")

    assert exit_code == 1
    assert found["broker"]["detail"] == "nothing listens at 127.0.0.1:1"
    assert found["login"]["status"] == "skipped"


# -- TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki") / "ca", "homes")


@pytest.fixture(scope="module")
def tls_broker(
    mosquitto_program: str, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PrivateBroker]:
    """A broker with a TLS listener that asks for certificates."""
    assert mosquitto_program
    server = authority.issue("server", server=True)
    listener = TlsListener(
        port=0, ca_file=authority.ca_file, certificate_file=server.certificate_file, key_file=server.key_file
    )
    folder = tmp_path_factory.mktemp("tls-broker")
    with PrivateBroker(folder, {AGENT: f"password of {AGENT}"}, tls=listener) as found:
        yield found


def encrypted(broker: PrivateBroker, authority: Authority, name: str = AGENT) -> str:
    identity = authority.issue(name)
    identity.key_file.chmod(0o600)
    return (
        f'port = {broker.tls_port}\nca = "{authority.ca_file}"\n'
        f'cert = "{identity.certificate_file}"\nkey = "{identity.key_file}"'
    )


def test_tls_with_the_devices_own_certificate_is_all_well(
    tls_broker: PrivateBroker, authority: Authority, home: Path
) -> None:
    exit_code, found = examine(home, encrypted(tls_broker, authority))

    assert exit_code == 0
    assert {found[check]["status"] for check in ("authority", "certificate", "key", "TLS", "login", "writing")} == {
        "ok"
    }
    assert found["TLS"]["detail"].startswith("TLSv1.")


def test_tls_without_a_certificate_ends_at_the_login(
    tls_broker: PrivateBroker, authority: Authority, home: Path
) -> None:
    exit_code, found = examine(home, f'port = {tls_broker.tls_port}\nca = "{authority.ca_file}"')

    assert exit_code == 1
    assert found["login"]["fix"] == "set broker.cert and broker.key to this device's own"


def test_broker_of_another_authority_is_not_trusted(tls_broker: PrivateBroker, home: Path, tmp_path: Path) -> None:
    stranger = Authority(tmp_path / "strangers", "strangers")

    exit_code, found = examine(home, encrypted(tls_broker, stranger))

    assert exit_code == 1
    assert "was not accepted" in found["TLS"]["detail"]
    assert "broker.ca must be the authority" in found["TLS"]["fix"]


def test_port_without_tls_is_told_from_one_with(tls_broker: PrivateBroker, authority: Authority, home: Path) -> None:
    lines = encrypted(tls_broker, authority).replace(str(tls_broker.tls_port), str(tls_broker.port))

    exit_code, found = examine(home, lines)

    assert exit_code == 1
    assert "does broker.port speak TLS" in found["TLS"]["fix"]
