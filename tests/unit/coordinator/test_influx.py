"""The settings of the metrics server: what is accepted, and where secrets come from."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from coordinator.influx import InfluxSettings, InfluxSink
from schemas.errors import ConfigError
from tests.secret_files import write_secret

URL = "http://127.0.0.1:8086"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"url": "127.0.0.1:8086"}, "expected http"),
        ({"url": "http://user:secret@127.0.0.1"}, "without user and password"),
        ({"bucket": ""}, "at least 1 character"),
        ({"user": "writer"}, "belong together"),
        ({"password_file": "p"}, "belong together"),
        ({"token_file": "t", "user": "writer", "password_file": "p"}, "not both"),
        ({"batch_size": 0}, "greater than or equal to 1"),
        ({"bukket": "x"}, "Extra inputs"),
    ],
)
def test_settings_are_refused_when_they_cannot_work(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        InfluxSettings(**({"url": URL, "bucket": "fl"} | changes))


def test_token_is_the_first_line_when_file_has_several(tmp_path: Path) -> None:
    write_secret(tmp_path / "token", "  secret \nnot this\n")

    assert InfluxSettings(url=URL, bucket="fl", token_file=tmp_path / "token").token() == "secret"


def test_token_is_user_and_password_when_server_is_of_1_8(tmp_path: Path) -> None:
    write_secret(tmp_path / "password", "pass:word\n")
    settings = InfluxSettings(url=URL, bucket="fl/weeks", user="writer", password_file=tmp_path / "password")

    assert settings.token() == "writer:pass:word"


def test_no_token_is_sent_when_none_is_configured() -> None:
    assert InfluxSettings(url=URL, bucket="fl").token() is None


@pytest.mark.parametrize("content", [None, "", "\nsecret", b"\xff\xfe"])
def test_sink_names_key_and_file_when_token_cannot_be_read(tmp_path: Path, content: str | bytes | None) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    with pytest.raises(ConfigError, match=r"influx\.token_file: .*token"):
        InfluxSink(InfluxSettings(url=URL, bucket="fl", token_file=path))


def test_sink_refuses_a_token_when_every_user_can_read_it(tmp_path: Path) -> None:
    path = write_secret(tmp_path / "token", "secret")
    path.chmod(0o644)

    with pytest.raises(ConfigError, match=r"influx\.token_file: every user of this machine can read .*: chmod 600"):
        InfluxSink(InfluxSettings(url=URL, bucket="fl", token_file=path))


def test_token_is_read_when_service_manager_hands_it_over_by_group(tmp_path: Path) -> None:
    path = write_secret(tmp_path / "token", "secret")
    path.chmod(0o440)

    assert InfluxSettings(url=URL, bucket="fl", token_file=path).token() == "secret"


def test_sink_names_the_file_when_certificate_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"influx\.ca: there is no file .*ca\.crt"):
        InfluxSink(InfluxSettings(url=URL, bucket="fl", ca=tmp_path / "ca.crt"))


def test_target_names_no_secret_when_logged(tmp_path: Path) -> None:
    write_secret(tmp_path / "token", "secret")
    sink = InfluxSink(InfluxSettings(url=URL + "/", org="home", bucket="fl", token_file=tmp_path / "token"))

    assert sink.target == "http://127.0.0.1:8086 home fl"
    sink.close()


def test_client_library_is_not_loaded_when_no_server_is_configured() -> None:
    code = "import sys, coordinator.influx, coordinator.shipping; sys.exit('influxdb_client' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
