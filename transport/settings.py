"""Settings from a TOML file and the environment, and the section about the broker that both sides share.

A key that does not exist is an error that names the file and the key: a misspelt option is never passed through.
"""

import difflib
import os
import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from schemas.errors import ConfigError
from schemas.topics import Topics
from transport.address import BrokerAddress, TlsFiles

S = TypeVar("S", bound="FileSettings")


class Section(BaseModel):
    """One table of a settings file."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class BrokerSection(Section):
    """`[broker]`: where the broker is and how we introduce ourselves.

    Attributes:
        prefix: the topic prefix of this federation.
        password_file: holds the password of `username` in its first line; the file should have mode 0600.
        ca, cert, key: PEM files for TLS; without `ca` the connection is plain, which only loopback may use.
    """

    host: str = "127.0.0.1"
    port: int = Field(1883, ge=1, le=65535)
    prefix: str = "fl"
    username: str | None = None
    password_file: Path | None = None
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    keep_alive_s: int = Field(60, ge=5, le=3600)

    @property
    def topics(self) -> Topics:
        """The topics below our prefix."""
        return Topics(self.prefix)

    def address(self) -> BrokerAddress:
        """Everything that a connection needs.

        Raises:
            ConfigError: the password cannot be read, or the connection would be plain and not on loopback.
        """
        if self.ca is None and not _is_loopback(self.host):
            raise ConfigError(
                f"broker {self.host} is not this machine: set broker.ca (and broker.cert, broker.key), as anything "
                "but loopback needs TLS"
            )
        tls = TlsFiles(self.ca, self.cert, self.key) if self.ca is not None else None
        return BrokerAddress(
            host=self.host,
            port=self.port,
            username=self.username,
            password=_first_line(self.password_file) if self.password_file else None,
            tls=tls,
            keep_alive_s=self.keep_alive_s,
        )


class FileSettings(BaseSettings):
    """Base of the settings of one program: a TOML file, overridden by `<PROGRAM>_<SECTION>__<KEY>`."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_nested_delimiter="__", nested_model_default_partial_update=True
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file; command-line options are applied afterwards."""
        del settings_cls, dotenv_settings, file_secret_settings
        return env_settings, init_settings


def load_settings(kind: type[S], path: Path | None) -> S:
    """Read a settings file (None for defaults and environment alone).

    Raises:
        ConfigError: naming the file, the key, and what was expected.
    """
    try:
        table = tomllib.loads(path.read_text()) if path else {}
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    try:
        return kind(**_resolved(table, path.parent if path else Path()))
    except ValidationError as error:
        raise ConfigError(_explain(error, kind, path)) from error


_PATH_KEYS = ("_file", "_folder", "_path")
_PATH_NAMES = ("ca", "cert", "key", "data", "folder")


def _resolved(table: dict[str, Any], base: Path) -> dict[str, Any]:
    """Paths in a file are relative to the file, whoever reads it from wherever."""
    out: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            out[key] = _resolved(value, base)
        elif isinstance(value, str) and (key.endswith(_PATH_KEYS) or key in _PATH_NAMES):
            out[key] = str(base / Path(value).expanduser())
        else:
            out[key] = value
    return out


def _explain(error: ValidationError, kind: type[FileSettings], path: Path | None) -> str:
    lines = []
    for problem in error.errors(include_url=False):
        where = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            near = difflib.get_close_matches(where, _all_keys(kind), n=1)
            hint = f": did you mean {near[0]!r}?" if near else ""
            lines.append(f"there is no key {where!r}{hint}")
        else:
            lines.append(f"{where}: {problem['msg']} (found {problem['input']!r})")
    origin = str(path) if path else "settings"
    env_prefix = str(kind.model_config.get("env_prefix", ""))
    overridden = sorted(name for name in os.environ if env_prefix and name.startswith(env_prefix))
    if overridden:
        origin += f" (with {', '.join(overridden)} from the environment)"
    return f"{origin}: " + "; ".join(lines)


def _all_keys(kind: type[BaseModel], prefix: str = "") -> list[str]:
    keys = []
    for name, field in kind.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            keys += _all_keys(inner, f"{prefix}{name}.")
        keys.append(prefix + name)
    return keys


def _first_line(path: Path) -> str:
    try:
        return path.read_text().splitlines()[0]
    except (OSError, IndexError) as error:
        raise ConfigError(f"cannot read the password in {path}: {error}") from error


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")
