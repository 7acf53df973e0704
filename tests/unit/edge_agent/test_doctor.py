"""The doctor's checks of the device, of certificates, and their order; integration has the broker's."""

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from edge_agent import device_lock
from edge_agent.config import AgentConfig
from edge_agent.doctor import broker, checkup, device
from edge_agent.doctor.certificates import read_certificates
from edge_agent.doctor.checkup import examine
from edge_agent.doctor.findings import Finding, Status, ok, problem
from edge_agent.doctor.table import show_findings
from learning.datasets import Examples
from learning.folders import write_folder
from schemas.errors import ConfigError, StorageError
from tests.integration.certificates import Authority
from transport.settings import BrokerSection

NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture
def config(tmp_path: Path) -> AgentConfig:
    """An agent whose room has 20 images, in private folders."""
    images = np.zeros((20, 1, 28, 28), np.uint8)
    write_folder(tmp_path / "data", Examples(images, np.arange(20, dtype=np.int64) % 4, 10, "room"))
    (tmp_path / "state").mkdir(mode=0o700)
    return AgentConfig(agent_id="kitchen", data_folder=tmp_path / "data", state_folder=tmp_path / "state")


def with_tls(config: AgentConfig, authority: Authority, name: str = "kitchen") -> AgentConfig:
    identity = authority.issue(name)
    section = BrokerSection(
        host="broker.example", ca=authority.ca_file, cert=identity.certificate_file, key=identity.key_file
    )
    return config.model_copy(update={"broker": section})


# -- the device


def test_data_is_described_when_it_can_be_read(config: AgentConfig) -> None:
    assert device.check_data(config) == ok("data", "20 examples of 1x28x28 in 4 of 10 classes")


def test_data_that_others_can_read_is_warned_about(config: AgentConfig) -> None:
    config.data_folder.chmod(0o755)
    (config.data_folder / "examples.npz").chmod(0o644)

    finding = device.check_data(config)

    assert (finding.status, finding.fix) == (Status.WARNING, f"chmod -R go= {config.data_folder}")


def test_missing_data_is_a_problem(config: AgentConfig, tmp_path: Path) -> None:
    finding = device.check_data(config.model_copy(update={"data_folder": tmp_path / "nowhere"}))

    assert finding.status is Status.PROBLEM
    assert "coordinator partition" in finding.fix


@pytest.mark.parametrize(
    ("model", "status"),
    [("cnn", Status.OK), ("mlp", Status.PROBLEM), ("nothing", Status.PROBLEM), (None, Status.SKIPPED)],
)
def test_model_is_tried_on_the_rooms_data(config: AgentConfig, model: str | None, status: Status) -> None:
    assert device.check_model(config, model).status is status


def test_state_folder_that_can_be_written_is_left_as_it_was(config: AgentConfig) -> None:
    assert device.check_state(config).status is Status.OK
    assert list(config.state_folder.iterdir()) == []


def test_state_folder_that_can_be_made_is_not_made(config: AgentConfig, tmp_path: Path) -> None:
    finding = device.check_state(config.model_copy(update={"state_folder": tmp_path / "a" / "b"}))

    assert finding.status is Status.OK
    assert not (tmp_path / "a").exists()


def test_state_folder_below_a_file_is_a_problem_with_the_command_that_helps(
    config: AgentConfig, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()

    finding = device.check_state(config.model_copy(update={"state_folder": tmp_path / "file" / "state"}))

    assert finding.status is Status.PROBLEM
    assert finding.fix.startswith("sudo install -d -m 0700")


@pytest.mark.parametrize(("free_mb", "status"), [(40, Status.PROBLEM), (400, Status.WARNING), (4000, Status.OK)])
def test_disk_is_judged_by_what_is_free(
    config: AgentConfig, monkeypatch: pytest.MonkeyPatch, free_mb: int, status: Status
) -> None:
    class Usage:
        free = free_mb * device.MB

    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage)

    assert device.check_disk(config).status is status


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("MemTotal: 8000000 kB\nMemAvailable: 7000000 kB\n", Status.OK),
        ("MemAvailable: 300000 kB\n", Status.WARNING),
        ("MemAvailable: 100000 kB\n", Status.PROBLEM),
        ("something else\n", Status.SKIPPED),
    ],
)
def test_memory_is_judged_by_what_is_available(tmp_path: Path, text: str, status: Status) -> None:
    (tmp_path / "meminfo").write_text(text)

    assert device.check_memory(tmp_path / "meminfo").status is status


@pytest.mark.parametrize(
    ("controllers", "status"), [("cpuset cpu io memory pids\n", Status.OK), ("cpuset cpu io pids\n", Status.WARNING)]
)
def test_limits_are_a_warning_when_the_kernel_does_not_count_memory(
    tmp_path: Path, controllers: str, status: Status
) -> None:
    (tmp_path / "controllers").write_text(controllers)

    assert device.check_limits(tmp_path / "controllers").status is status


def test_limits_are_skipped_when_nothing_says(tmp_path: Path) -> None:
    assert device.check_limits(tmp_path / "controllers").status is Status.SKIPPED


@pytest.mark.parametrize(
    ("temperature_c", "throttled", "status"),
    [(48.3, False, Status.OK), (81.0, True, Status.WARNING), (48.3, None, Status.NOTE), (None, None, Status.NOTE)],
)
def test_sensors_are_a_warning_when_the_cpu_is_held_back(
    tmp_path: Path, temperature_c: float | None, throttled: bool | None, status: Status
) -> None:
    assert device.check_sensors(temperature_c, throttled, tmp_path / "swaps").status is status


def test_sensors_name_compressed_swap_when_it_is_on(tmp_path: Path) -> None:
    (tmp_path / "swaps").write_text("Filename Type Size\n/dev/zram0 partition 1048576\n")

    assert "compressed swap is on" in device.check_sensors(48.3, False, tmp_path / "swaps").detail


def test_clock_before_the_installation_is_a_problem() -> None:
    finding = device.check_clock(now_s=0.0)

    assert finding.status is Status.PROBLEM
    assert "1970-01-01 00:00:00 UTC is before this software was installed" in finding.detail


@pytest.mark.parametrize(("known", "status"), [(True, Status.OK), (False, Status.WARNING), (None, Status.NOTE)])
def test_clock_is_as_good_as_what_confirms_it(
    monkeypatch: pytest.MonkeyPatch, known: bool | None, status: Status
) -> None:
    monkeypatch.setattr(device, "_ntp_synchronised", lambda: known)

    assert device.check_clock().status is status


# -- certificates and TLS


def test_certificate_is_read_with_name_and_dates(tmp_path: Path) -> None:
    identity = Authority(tmp_path / "ca", "homes").issue("kitchen")

    (found,) = read_certificates(identity.certificate_file)

    assert found.common_name == "kitchen"
    assert found.not_before == identity.certificate.not_valid_before_utc
    assert found.not_after == identity.certificate.not_valid_after_utc


def test_bundle_of_certificates_is_read_in_order(tmp_path: Path) -> None:
    authorities = [Authority(tmp_path / name, name) for name in ("one", "two")]
    bundle = tmp_path / "bundle.crt"
    bundle.write_text("".join(f"# {a}\n{a.ca_file.read_text()}" for a in authorities))

    assert [found.common_name for found in read_certificates(bundle)] == ["one", "two"]


@pytest.mark.parametrize(
    "content",
    ["", "not PEM", "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n", "\0\xff"],
)
def test_file_without_a_certificate_is_refused_by_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "some.crt"
    path.write_text(content)

    with pytest.raises(ConfigError, match=r"some\.crt holds"):
        read_certificates(path)


def test_certificate_of_another_device_is_a_problem(config: AgentConfig, tmp_path: Path) -> None:
    wrong = with_tls(config, Authority(tmp_path / "ca", "homes"), "bath")
    assert wrong.broker.cert is not None

    finding = broker._check_own(wrong, wrong.broker.cert, NOW)

    assert finding.status is Status.PROBLEM
    assert "is for 'bath', but agent_id is 'kitchen'" in finding.detail


@pytest.mark.parametrize(("days", "status"), [(-1, Status.PROBLEM), (10, Status.WARNING), (200, Status.OK)])
def test_certificate_is_judged_by_how_long_it_is_valid(
    config: AgentConfig, tmp_path: Path, days: int, status: Status
) -> None:
    good = with_tls(config, Authority(tmp_path / "ca", "homes"))
    assert good.broker.cert is not None
    ends = read_certificates(good.broker.cert)[0].not_after

    assert broker._check_own(good, good.broker.cert, ends - timedelta(days=days)).status is status


def test_certificate_that_is_not_valid_yet_points_to_the_clock(config: AgentConfig, tmp_path: Path) -> None:
    good = with_tls(config, Authority(tmp_path / "ca", "homes"))
    assert good.broker.cert is not None

    finding = broker._check_own(good, good.broker.cert, datetime(1970, 1, 1, tzinfo=UTC))

    assert finding.status is Status.PROBLEM
    assert "is the clock right?" in finding.fix


@pytest.mark.parametrize(("mode", "status"), [(0o600, Status.OK), (0o640, Status.WARNING)])
def test_key_that_others_can_read_is_warned_about(tmp_path: Path, mode: int, status: Status) -> None:
    key = tmp_path / "kitchen.key"
    key.touch(mode=mode)

    assert broker._check_key_mode(key).status is status


# -- the whole


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process that loads PyTorch, and a broker that nobody can reach."""
    monkeypatch.setattr(device, "check_torch", lambda: ok("PyTorch", "there"))
    monkeypatch.setattr(broker, "check_reach", lambda _: problem("broker", "nothing listens", "start it"))


def config_file(config: AgentConfig) -> Path:
    path = config.state_folder.parent / "agent.toml"
    path.write_text('agent_id = "kitchen"\ndata_folder = "data"\nstate_folder = "state"\n')
    return path


def found_by(path: Path, model: str | None = None) -> dict[str, Finding]:
    return {finding.check: finding for finding in examine(path, model, ask_coordinator=False)}


def test_examination_ends_with_a_configuration_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text("agent_di = 'x'")

    (finding,) = examine(path, None, ask_coordinator=False)

    assert (finding.check, finding.status) == ("configuration", Status.PROBLEM)
    assert "there is no key 'agent_di': did you mean 'agent_id'?" in finding.detail


@pytest.mark.usefixtures("quick")
def test_examination_skips_what_depends_on_something_broken(config: AgentConfig) -> None:
    found = found_by(config_file(config), "cnn")

    assert found["model"].status is Status.OK
    assert found["broker"].status is Status.PROBLEM
    assert found["login"] == Finding("login", Status.SKIPPED, "the broker cannot be reached")


@pytest.mark.usefixtures("quick")
def test_examination_does_not_log_in_while_the_agent_runs(config: AgentConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "check_reach", lambda _: ok("broker", "there"))
    monkeypatch.setattr(broker, "check_session", lambda *_, **__: pytest.fail("it would throw the agent out"))

    with device_lock.hold(config.state_folder):
        login = found_by(config_file(config))["login"]

    assert login.status is Status.SKIPPED
    assert "the agent is running (pid" in login.detail


@pytest.mark.usefixtures("quick")
def test_examination_does_not_log_in_when_it_cannot_see_whether_the_agent_runs(
    config: AgentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker, "check_reach", lambda _: ok("broker", "there"))
    monkeypatch.setattr(broker, "check_session", lambda *_, **__: pytest.fail("it might throw the agent out"))
    config.state_folder.mkdir(parents=True, exist_ok=True)
    (config.state_folder / "agent.lock").symlink_to("agent.lock")  # as unreadable for root as for anybody

    login = found_by(config_file(config))["login"]

    assert login.status is Status.SKIPPED
    assert "agent.lock" in login.detail


def test_every_check_says_what_it_is_about_to_do_when_it_takes_long(
    config: AgentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkup, "_examine_broker", lambda *_, **__: iter(()))
    monkeypatch.setattr(device, "check_torch", lambda: ok("PyTorch", "there"))
    said: list[str] = []

    list(examine(config_file(config), None, ask_coordinator=False, announce=said.append))

    assert said == [
        "reading the room's data",
        "loading PyTorch",
        "trying the model on the room's data",
        "connecting to 127.0.0.1:1883",
    ]


@pytest.mark.parametrize(
    ("findings", "verdict"),
    [
        ([ok("a", "x")], "the agent can work"),
        ([ok("a", "x"), Finding("b", Status.WARNING, "y", "z")], "the agent can work, with 1 warning"),
        ([problem("a", "x", "do y"), problem("b", "x", "y")], "2 problems: the agent cannot work like this"),
    ],
)
def test_findings_are_shown_with_a_verdict(
    capsys: pytest.CaptureFixture[str], findings: list[Finding], verdict: str
) -> None:
    shown = show_findings(lambda _: findings, quiet=False)

    lines = capsys.readouterr().out.splitlines()
    assert shown == findings
    assert lines[-1] == verdict
    assert all(any(f"-> {finding.fix}" in line for line in lines) for finding in findings if finding.fix)


# -- one agent per state folder


def test_lock_is_held_once_and_goes_with_the_block(tmp_path: Path) -> None:
    folder = tmp_path / "state"

    with device_lock.hold(folder):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert device_lock.holder(folder) is not None
        with pytest.raises(StorageError, match="in use by another process, pid"), device_lock.hold(folder):
            pytest.fail("the second one got it, too")

    assert device_lock.holder(folder) is None
    with device_lock.hold(folder):
        pass


def test_lock_names_the_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StorageError, match=r"state_folder .*file/state cannot be written"):
        device_lock.hold(tmp_path / "file" / "state").__enter__()
