"""Where the page is served and who may see it: checked before anything listens.

On this machine anybody who is logged in may look. Beyond it a token is needed, or TLS, or both.
"""

import ipaddress
import os
import secrets
import stat
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from schemas.errors import ConfigError
from transport.settings import FileSettings, Section

DEFAULT_PORT = 8700
LEAST_TOKEN_CHARACTERS = 16


class WebSection(Section):
    """`[web]`: the live page.

    Attributes:
        host: the address to listen on; anything but this machine needs `token_file`, or `tls_cert` and `tls_key`.
        port: 0 takes a free one.
        token_file: holds the token in its first line, readable by its owner alone; made when missing.
        tls_cert, tls_key: PEM files of the page's own certificate.
    """

    host: str = Field("127.0.0.1", min_length=1)
    port: int = Field(DEFAULT_PORT, ge=0, le=65535)
    token_file: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None

    @model_validator(mode="after")
    def _others_need_a_token_or_tls(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key belong together: give both, or neither")
        if not self.is_loopback and self.token_file is None and self.tls_cert is None:
            raise ValueError(
                f"host {self.host} lets other machines see the page: set token_file (the file is made when missing), "
                "or tls_cert and tls_key, or all three"
            )
        return self

    @property
    def is_loopback(self) -> bool:
        """Only this machine can see the page."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def token(self) -> str | None:
        """What a browser must know; None when everybody may look. Made, with its file, when there is none yet.

        Raises:
            ConfigError: the file cannot be read or made, others can read it, or it holds no good token.
        """
        if self.token_file is None:
            return None
        if not self.token_file.exists():
            _make_token(self.token_file)
        return _read_token(self.token_file)

    def check_tls(self) -> None:
        """Raises ConfigError when the certificate's key can be read by everybody or the files are not there."""
        for path in filter(None, (self.tls_cert, self.tls_key)):
            if not os.access(path, os.R_OK):
                raise ConfigError(f"web: cannot read {path}: expected a PEM file that this user may read")
        if self.tls_key is not None and self.tls_key.stat().st_mode & stat.S_IRWXO:
            raise ConfigError(f"web.tls_key: everybody can read {self.tls_key}: chmod 600 {self.tls_key}")


class WebOptions(FileSettings):
    """Settings of a page without a run's file; COORDINATOR_WEB__HOST and the like in the environment."""

    model_config = SettingsConfigDict(env_prefix="COORDINATOR_")

    web: WebSection = WebSection()


def _make_token(path: Path) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(f"{secrets.token_urlsafe(24)}\n")
    except OSError as error:
        raise ConfigError(f"web.token_file: cannot make {path}: {error.strerror or error}") from error


def _read_token(path: Path) -> str:
    try:
        mode = path.stat().st_mode
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"web.token_file: cannot read {path}: {error}") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(f"web.token_file: others can read {path}: chmod 600 {path}")
    token = lines[0].strip() if lines else ""
    if len(token) < LEAST_TOKEN_CHARACTERS:
        raise ConfigError(
            f"web.token_file: the first line of {path} must hold at least {LEAST_TOKEN_CHARACTERS} characters; "
            "delete the file to have a good token made"
        )
    return token
