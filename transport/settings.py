"""Settings from a TOML file, the environment and the command line, and the section about the broker.

The command line wins over the environment, and that over the file. Whatever is wrong becomes one error that names
the place and the key: a misspelt option is never passed through. Values given in code are taken as they are.
"""

import difflib
import json
import logging
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Generic, NamedTuple, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from schemas.errors import ConfigError
from schemas.topics import Topics
from transport.address import BrokerAddress, TlsFiles
from transport.setting_problems import Problem, all_keys, alternatives, in_words, problems, section_of

log = logging.getLogger(__name__)

S = TypeVar("S", bound="FileSettings")
Table = dict[str, Any]


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

    host: str = Field("127.0.0.1", min_length=1)
    port: int = Field(1883, ge=1, le=65535)
    prefix: str = "fl"
    username: str | None = None
    password_file: Path | None = None
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    keep_alive_s: int = Field(60, ge=5, le=3600)

    @field_validator("prefix")
    @classmethod
    def _prefix_fits_topics(cls, prefix: str) -> str:
        try:
            return Topics(prefix).prefix
        except ConfigError as error:
            raise ValueError(str(error)) from error

    @model_validator(mode="after")
    def _files_belong_together(self) -> Self:
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key belong together: give both, or neither")
        if self.cert is not None and self.ca is None:
            raise ValueError("cert needs ca: the authority that the broker's own certificate comes from")
        if self.password_file is not None and self.username is None:
            raise ValueError("password_file needs username: whose password is it?")
        if self.ca is None and not _is_loopback(self.host):
            raise ValueError(
                f"host {self.host} is not this machine: set ca (and cert, key), as anything but loopback needs TLS"
            )
        return self

    @property
    def topics(self) -> Topics:
        """The topics below our prefix."""
        return Topics(self.prefix)

    def address(self) -> BrokerAddress:
        """Everything that a connection needs.

        Raises:
            ConfigError: the password cannot be read.
        """
        return BrokerAddress(
            host=self.host,
            port=self.port,
            username=self.username,
            password=_first_line(self.password_file) if self.password_file else None,
            tls=TlsFiles(self.ca, self.cert, self.key) if self.ca is not None else None,
            keep_alive_s=self.keep_alive_s,
        )


class FileSettings(BaseSettings):
    """Base of the settings of one program; `load_settings` reads them."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True, env_nested_delimiter="__")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is constructed in code is what was given: `load_settings` alone looks at the environment."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)


def load_settings(kind: type[S], path: Path | None, options: Mapping[str, Any] | None = None) -> S:
    """Settings from a file (None for none), overridden by `<PROGRAM>_<SECTION>__<KEY>` in the environment and these.

    Paths in the file are relative to the file, those from elsewhere to the current folder.

    Args:
        options: from the command line, by dotted key such as `rounds.count`; None values were not given.

    Raises:
        ConfigError: naming the place, the key, and what was expected.
    """
    layers = _Layers(
        kind,
        str(path) if path else "settings",
        file=_absolute(kind, _read(path), path.parent) if path else {},
        environment=_absolute(kind, _environment(kind), Path()),
        options=_nested({key: value for key, value in (options or {}).items() if value is not None}),
    )
    return _checked(layers)


def settings_from(kind: type[S], options: Mapping[str, Any]) -> S:
    """Settings from these options alone, by dotted key; neither a file nor the environment is looked at.

    Raises:
        ConfigError: naming the key and what was expected.
    """
    return _checked(_Layers(kind, "command line", file={}, environment={}, options=_nested(options)))


class _Layers(NamedTuple, Generic[S]):
    """Where values came from."""

    kind: type[S]
    file_name: str
    file: Table
    environment: Table
    options: Table

    def merged(self) -> Table:
        return _over(_over(self.file, self.environment), self.options)

    def explain(self, problems: list[Problem]) -> str:
        """All problems in one line, those of one place together."""
        by_place: dict[str, list[str]] = {}
        for problem in problems:
            by_place.setdefault(self._place(problem.location), []).append(in_words(self.kind, problem))
        return "; ".join(f"{place}: {'; '.join(texts)}" for place, texts in by_place.items())

    def _place(self, location: tuple[str, ...]) -> str:
        if _holds(self.options, location):
            return "command line"
        if location and _holds(self.environment, location):
            return f"{_variable(self.kind, location)} in the environment"
        if _is_table(self.options, location):
            # Keys that do not fit together: some of them come from here.
            return f"{self.file_name} and command line" if _is_table(self.file, location) else "command line"
        return self.file_name


def _checked(layers: _Layers[S]) -> S:
    mistyped = list(_mistyped(layers.kind, layers.file))
    try:
        settings = layers.kind(**layers.merged())
    except ValidationError as error:
        known = {problem.location for problem in mistyped}
        others = [problem for problem in problems(error) if problem.location not in known]
        raise ConfigError(layers.explain(mistyped + others)) from error
    if mistyped:
        raise ConfigError(layers.explain(mistyped))
    return settings


def _read(path: Path) -> Table:
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error


def _environment(kind: type[FileSettings]) -> Table:
    try:
        table: Table = EnvSettingsSource(kind)()
    except SettingsError as error:
        # pydantic-settings names the section alone.
        section = re.search(r'field "(\w+)"', str(error))
        start = _variable(kind, (section[1],) if section else ())
        names = sorted(name for name in os.environ if name.upper().startswith(start))
        raise ConfigError(
            f'{", ".join(names)} in the environment: expected JSON, such as ["room-1", "room-2"] ({error.__cause__})'
        ) from error
    _warn_of_misspelt_variables(kind)
    return table


def _warn_of_misspelt_variables(kind: type[FileSettings]) -> None:
    """Only a warning: other programs may use our prefix (Kubernetes does, for a service called coordinator)."""
    known = {_variable(kind, key).lower(): _variable(kind, key) for key in all_keys(kind)}
    prefix = str(kind.model_config.get("env_prefix", "")).lower()
    for name in os.environ:
        if name.lower().startswith(prefix) and "__" not in name and name.lower() not in known:
            near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.8)
            if near:
                log.warning("%s in the environment means nothing: did you mean %s?", name, known[near[0]])


def _variable(kind: type[FileSettings], location: tuple[str, ...]) -> str:
    return f"{kind.model_config.get('env_prefix', '')}{'__'.join(location)}".upper()


def _absolute(kind: type[BaseModel], table: Table, base: Path) -> Table:
    """Paths in full, so that they mean the same wherever they are used."""
    out: Table = {}
    for key, value in table.items():
        field = kind.model_fields.get(key)
        section = section_of(field.annotation) if field else None
        if section is not None and isinstance(value, dict):
            out[key] = _absolute(section, value, base)
        elif field is not None and isinstance(value, str) and Path in alternatives(field.annotation):
            out[key] = str((base / Path(value).expanduser()).absolute())
        else:
            out[key] = value
    return out


def _mistyped(kind: type[BaseModel], table: Table) -> Iterator[Problem]:
    """Values of another type than their key's, which pydantic would convert: TOML says `true` or "3" on purpose."""
    for key in table.keys() & kind.model_fields.keys():
        field = kind.model_fields[key]
        # Any, as mypy cannot know what the annotation of a field is.
        annotation: Any = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
        adapter: TypeAdapter[Any] = TypeAdapter(annotation)
        try:
            adapter.validate_json(json.dumps(table[key], default=str), strict=True)
        except ValidationError as error:
            wrong = [p for p in problems(error) if p.type in ("int_type", "float_type", "bool_type", "string_type")]
            yield from (problem._replace(location=(key, *problem.location)) for problem in wrong)


def _over(below: Table, above: Table) -> Table:
    """`below`, with the values of `above` instead where there are any."""
    out = dict(below)
    for key, value in above.items():
        old = out.get(key)
        out[key] = _over(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return out


def _nested(options: Mapping[str, Any]) -> Table:
    out: Table = {}
    for dotted, value in options.items():
        *sections, key = dotted.split(".")
        table = out
        for section in sections:
            table = table.setdefault(section, {})
        table[key] = value
    return out


def _holds(table: Table, location: tuple[str, ...]) -> bool:
    value = _found(table, location)
    return value is not None and not isinstance(value, dict)


def _is_table(table: Table, location: tuple[str, ...]) -> bool:
    value = _found(table, location)
    return isinstance(value, dict) and bool(value)


def _found(table: Table, location: tuple[str, ...]) -> Any:
    """What is there; None for nothing."""
    value: Any = table
    for key in location:
        if not isinstance(value, dict) or key not in value:
            return None
        value = value[key]
    return value


def _first_line(path: Path) -> str:
    try:
        return path.read_text().splitlines()[0]
    except (OSError, IndexError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the password in {path}: {error}") from error


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")
