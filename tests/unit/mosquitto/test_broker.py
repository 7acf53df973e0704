"""What a private broker says when it cannot start; real ones are in tests/integration."""

from pathlib import Path

import pytest

from mosquitto import broker
from mosquitto.broker import BrokerError, BrokerMissingError, PrivateBroker, find_mosquitto


def test_missing_program_is_reported_with_the_package_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(broker, "_SYSTEM_FOLDERS", str(tmp_path))

    with pytest.raises(BrokerMissingError, match="sudo apt install mosquitto"):
        find_mosquitto()


def test_program_is_found_in_system_folders_when_not_on_the_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "sbin" / "mosquitto"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(broker, "_SYSTEM_FOLDERS", str(program.parent))

    assert find_mosquitto() == str(program)


def test_start_quotes_what_the_program_said_when_it_ends_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "mosquitto"
    program.write_text("#!/bin/sh\necho the disk is on fire >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    private_broker = PrivateBroker(tmp_path / "broker")

    with pytest.raises(BrokerError, match="the disk is on fire"):
        private_broker.start()

    assert not private_broker.running
