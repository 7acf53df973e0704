"""What the roles write: read by the programs that read it on a host, and the same as what the demo uses."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from coordinator.config import RunConfig
from edge_agent.config import AgentConfig
from mosquitto.render import BrokerSettings, RenderedBroker, TlsListener, render_acl, render_config
from mosquitto.sizing import limits_for
from tests.ansible.rendering import CHUNK_BYTES, MODEL_BYTES, NUM_AGENTS
from transport.settings import load_settings

MOST_EXPOSURE = 2.5
ETC = Path("/etc/federation/broker")

pytestmark = pytest.mark.timeout(300)


def test_brokers_configuration_is_the_demos_when_rendered_by_ansible(rendered: dict[str, Path]) -> None:
    tls = ETC / "tls"
    listener = TlsListener(
        port=8883,
        ca_file=tls / "ca.crt",
        certificate_file=tls / "broker.crt",
        key_file=tls / "broker.key",
        crl_file=tls / "revoked.crl",
    )
    limits = limits_for(MODEL_BYTES, NUM_AGENTS, CHUNK_BYTES)
    settings = BrokerSettings(limits=limits, tls_listeners=(listener,), os_user="mosquitto")
    files = RenderedBroker(
        config_file=ETC / "mosquitto.conf",
        acl_file=ETC / "acl",
        password_file=None,
        data_folder=Path("/var/lib/federation-broker"),
    )

    expected = render_config(settings, files).replace("/federation-broker\n", "/federation-broker/\n")

    assert rendered["broker-mosquitto.conf"].read_text() == expected


def test_access_rules_are_the_demos_when_rendered_by_ansible(rendered: dict[str, Path]) -> None:
    assert rendered["broker-acl"].read_text() == render_acl("fl")


def test_agents_configuration_is_accepted_when_rendered(rendered: dict[str, Path]) -> None:
    config = load_settings(AgentConfig, rendered["edge_agent-agent.toml"])

    assert config.agent_id == "pi1"
    assert (config.broker.host, config.broker.port) == ("192.168.1.10", 8883)
    assert config.broker.ca is not None
    assert config.threads == 3


def test_site_settings_complete_a_run_when_its_file_has_no_broker(
    rendered: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for line in rendered["coordinator-coordinator.env"].read_text().splitlines():
        if line and not line.startswith("#"):
            monkeypatch.setenv(*line.split("=", 1))
    run_file = tmp_path / "run.toml"
    run_file.write_text("[rounds]\ncount = 3\n")

    config = load_settings(RunConfig, run_file)

    assert config.broker.host == "192.168.1.10"
    assert config.runs_folder == Path("/var/lib/federation/runs")
    assert config.influx is not None
    assert (config.influx.url, config.influx.bucket) == ("https://192.168.1.10:8086", "fl")


@pytest.mark.parametrize("unit", ["edge_agent-edge-agent.service", "coordinator-coordinator-run@.service"])
def test_unit_is_hardened_when_systemd_judges_it(rendered: dict[str, Path], tmp_path: Path, unit: str) -> None:
    name = unit.partition("-")[2].replace("@.", "@run.")
    path = tmp_path / name
    shutil.copy(rendered[unit], path)

    judged = systemd_analyze("security", "--offline=yes", "--no-pager", str(path))

    exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", judged.stdout)
    assert exposure, judged.stdout + judged.stderr
    assert float(exposure[1]) <= MOST_EXPOSURE


@pytest.mark.parametrize("unit", ["edge_agent-edge-agent.service", "coordinator-coordinator-run@.service"])
def test_unit_is_valid_when_systemd_reads_it(rendered: dict[str, Path], tmp_path: Path, unit: str) -> None:
    root = tmp_path / "opt"
    for part in ("edge-agent", "coordinator"):
        program = root / part / "current" / "bin" / part
        program.parent.mkdir(parents=True)
        program.touch(0o755)
    path = tmp_path / unit.partition("-")[2].replace("@.", "@run.")
    path.write_text(rendered[unit].read_text().replace("/opt/federation", str(root)))

    verified = systemd_analyze("verify", "--man=no", str(path))

    ours = [line for line in verified.stderr.splitlines() if path.name in line]
    assert ours == []
    assert verified.returncode == 0, verified.stderr


def test_agents_unit_notifies_and_restarts_when_read(rendered: dict[str, Path]) -> None:
    unit = rendered["edge_agent-edge-agent.service"].read_text().splitlines()

    assert {"Type=notify", "Restart=always", "WatchdogSec=120", "CapabilityBoundingSet="} <= set(unit)
    assert {"MemoryHigh=55%", "MemoryMax=70%", "CPUWeight=50"} <= set(unit)
    assert "RestartPreventExitStatus=3" in unit


def test_swap_is_sized_when_compressed(rendered: dict[str, Path]) -> None:
    assert "PERCENT=50" in rendered["edge_agent-zramswap"].read_text().splitlines()


def test_proxy_keeps_passwords_out_of_addresses_when_tokens_become_users(rendered: dict[str, Path]) -> None:
    lines = rendered["influxdb-nginx.conf"].read_text()

    assert "&p=" not in lines
    assert "proxy_set_header Authorization $federation_user;" in lines
    assert "ssl;" in lines


def test_only_shell_scripts_of_ours_are_on_the_path_when_rendered(rendered: dict[str, Path]) -> None:
    for name in ("edge_agent-edge-agent.sh", "coordinator-coordinator.sh"):
        checked = subprocess.run(["sh", "-n", str(rendered[name])], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr


def test_agents_configuration_holds_no_unknown_key_when_rendered(rendered: dict[str, Path]) -> None:
    table = tomllib.loads(rendered["edge_agent-agent.toml"].read_text())

    assert table.keys() == {"agent_id", "data_folder", "state_folder", "threads", "broker"}


def systemd_analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed: apt-get install systemd")
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
