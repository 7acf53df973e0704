"""The page is served to this machine, or to others who know a token or over TLS, or not at all."""

from pathlib import Path

import pytest

from coordinator.web.settings import WebOptions, WebSection
from schemas.errors import ConfigError
from transport.settings import load_settings


def settings(**options: object) -> WebSection:
    return load_settings(WebOptions, None, {f"web.{name}": value for name, value in options.items()}).web


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_page_on_this_machine_needs_nothing(host: str) -> None:
    assert settings(host=host).token() is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "page.example", "localhost.example"])  # noqa: S104
def test_page_for_others_without_token_or_tls_is_refused_with_what_to_do(host: str) -> None:
    with pytest.raises(
        ConfigError, match=r"web: host .* set token_file \(the file is made when missing\), or tls_cert"
    ):
        settings(host=host)


def test_page_for_others_is_served_with_a_token_or_with_tls(tmp_path: Path) -> None:
    assert settings(host="192.168.1.5", token_file=str(tmp_path / "token")).token() is not None
    assert settings(host="192.168.1.5", tls_cert="page.crt", tls_key="page.key").token() is None


def test_certificate_without_its_key_is_refused() -> None:
    with pytest.raises(ConfigError, match="tls_cert and tls_key belong together"):
        settings(tls_cert="page.crt")


def test_token_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    file = tmp_path / "page.token"

    first = settings(token_file=str(file)).token()

    assert first is not None
    assert len(first) >= 32
    assert file.stat().st_mode & 0o777 == 0o600
    assert settings(token_file=str(file)).token() == first


def test_token_that_others_can_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "page.token"
    file.write_text("a token of enough characters\n")
    file.chmod(0o640)

    with pytest.raises(ConfigError, match=f"others can read {file}: chmod 600 {file}"):
        settings(token_file=str(file)).token()


@pytest.mark.parametrize("text", ["", "\n", "short\n", "ä" * 20])
def test_token_that_can_be_guessed_or_typed_wrongly_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "page.token"
    file.touch(mode=0o600)
    file.write_text(text)

    with pytest.raises(ConfigError, match=r"web\.token_file"):
        settings(token_file=str(file)).token()


def test_token_file_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot make .*/nowhere/page.token: No such file or directory"):
        settings(token_file=str(tmp_path / "nowhere" / "page.token")).token()


def test_key_that_everybody_can_read_is_refused(tmp_path: Path) -> None:
    for name in ("page.crt", "page.key"):
        (tmp_path / name).write_text("PEM")
    (tmp_path / "page.key").chmod(0o644)
    files = {"tls_cert": str(tmp_path / "page.crt"), "tls_key": str(tmp_path / "page.key")}

    with pytest.raises(ConfigError, match=r"everybody can read .*page\.key: chmod 600"):
        settings(**files).check_tls()
    (tmp_path / "page.key").chmod(0o600)
    settings(**files).check_tls()
    (tmp_path / "page.crt").unlink()
    with pytest.raises(ConfigError, match=r"cannot read .*page\.crt"):
        settings(**files).check_tls()
