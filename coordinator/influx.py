"""The only place that knows influxdb-client: writes points to InfluxDB, and puts its answers into words.

Works with InfluxDB 2 and 3 (token, organisation, bucket), with InfluxDB 1.8's v2-compatible write path (user,
password, `database/retention-policy`), and with anything else that offers `/api/v2/write`. When to write, and what
happens after a failure, is decided in `shipping.py`.
"""

import contextlib
import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from coordinator.shipping import SinkError
from schemas.errors import ConfigError
from schemas.metrics import Point
from transport.settings import Section

_MAX_ANSWER_CHARS = 300


class InfluxSettings(Section):
    """`[influx]`: the server that metrics are shipped to. Secrets are in files, never here.

    Attributes:
        url: such as `https://metrics.example:8086`.
        org: the organisation; InfluxDB 1.8 has none.
        bucket: InfluxDB 1.8 takes `database` or `database/retention-policy`.
        token_file: holds the token in its first line; for InfluxDB 1.8 `user` and `password_file` instead. Neither
            file may be open to every user of the machine.
        ca: PEM file, when the server's certificate is not signed by a public authority.
        timeout_s: how long one write may take.
        batch_size: points per write, at most.
    """

    url: str
    org: str = "-"
    bucket: str = Field(min_length=1)
    token_file: Path | None = None
    user: str | None = None
    password_file: Path | None = None
    ca: Path | None = None
    timeout_s: float = Field(10.0, gt=0, le=600)
    batch_size: int = Field(500, ge=1, le=10_000)

    @field_validator("url")
    @classmethod
    def _url_is_http(cls, url: str) -> str:
        if not url.startswith(("http://", "https://")) or "@" in url:
            raise ValueError("expected http://host:port or https://host:port, without user and password")
        return url.rstrip("/")

    @model_validator(mode="after")
    def _one_kind_of_credentials(self) -> Self:
        if (self.user is None) != (self.password_file is None):
            raise ValueError("user and password_file belong together")
        if self.token_file is not None and self.user is not None:
            raise ValueError("give token_file, or user and password_file, not both")
        return self

    def token(self) -> str | None:
        """What the server is to know us by, read from the file now; None when nothing is configured.

        Raises:
            ConfigError: the file cannot be read, is empty, or is open to every user of this machine.
        """
        if self.token_file is not None:
            return _secret(self.token_file, "influx.token_file")
        if self.password_file is not None:
            return f"{self.user}:{_secret(self.password_file, 'influx.password_file')}"
        return None


class InfluxSink:
    """A bucket of an InfluxDB server; a `Sink`. The server is not asked before the first write.

    Raises:
        ConfigError: a secret or certificate file cannot be read.
    """

    def __init__(self, settings: InfluxSettings) -> None:
        self._settings = settings
        self._client: Any = None  # the library's annotations are incomplete
        self._connect()

    @property
    def target(self) -> str:
        """Names server and bucket, without secrets."""
        return f"{self._settings.url} {self._settings.org} {self._settings.bucket}"

    @property
    def batch_size(self) -> int:
        """The largest number of points for one write."""
        return self._settings.batch_size

    def write(self, points: list[Point]) -> None:
        """Write points; returns when the server has acknowledged all of them.

        Raises:
            SinkError: it did not; writing the same points again later is right, and harmless if it did after all.
            ConfigError: the token was refused before and its file can now not be read.
        """
        self._connected()
        records = [_record(point) for point in points]
        with self._errors_in_words():
            self._write_api.write(bucket=self._settings.bucket, record=records, write_precision="ns")

    def ask_version(self) -> str:
        """What the server says it is, such as `InfluxDB 1.6.7`; any server that answers HTTP counts as there.

        Raises:
            SinkError: nothing answers at that address.
            ConfigError: the token cannot be read.
        """
        from influxdb_client.rest import ApiException  # noqa: PLC0415
        from influxdb_client.service.ping_service import PingService  # noqa: PLC0415

        with self._errors_in_words():
            try:
                answer = PingService(self._connected().api_client).get_ping_with_http_info()
            except ApiException as error:
                if not error.status:
                    raise
                return f"a server that answers /ping with {error.status}"
        version = str(answer[2].get("X-Influxdb-Version", "")).removeprefix("v")
        return f"InfluxDB {version}" if version else "a server that does not say its version"

    def write_nothing(self) -> None:
        """Ask for a write without any point: the server looks at token, bucket and right, and stores nothing.

        Raises:
            SinkError: a write of points would be refused as well, and why.
            ConfigError: the token cannot be read.
        """
        from influxdb_client.rest import ApiException  # noqa: PLC0415
        from influxdb_client.service.write_service import WriteService  # noqa: PLC0415

        settings = self._settings
        with self._errors_in_words():
            try:
                WriteService(self._connected().api_client).post_write(
                    settings.org, settings.bucket, b"", precision="ns"
                )
            except ApiException as error:
                # InfluxDB 2 misses the points only after it has looked at everything else.
                if error.status != 400 or "requires points" not in _message(error):
                    raise

    def close(self) -> None:
        """Let go of the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _connected(self) -> Any:
        if self._client is None:
            self._connect()
        return self._client

    def _connect(self) -> None:
        # Loads reactivex and dozens of generated modules, which a run without a server need not pay for.
        from influxdb_client.client.influxdb_client import InfluxDBClient  # noqa: PLC0415
        from influxdb_client.client.write_api import SYNCHRONOUS  # noqa: PLC0415

        settings = self._settings
        if settings.ca is not None and not settings.ca.is_file():
            raise ConfigError(f"influx.ca: there is no file {settings.ca}")
        self._client = InfluxDBClient(
            url=settings.url,
            token=settings.token() or "",
            org=settings.org,
            timeout=int(settings.timeout_s * 1000),
            ssl_ca_cert=str(settings.ca) if settings.ca else None,
        )
        self._write_api: Any = self._client.write_api(write_options=SYNCHRONOUS)

    def _refusal(self, error: Any) -> SinkError:
        """What the server's answer means and what to do about it."""
        status = int(error.status or 0)
        said = f"{self._settings.url} answered {status}: {_message(error)}"
        if status == 0:
            return self._tls_failure(" ".join(str(error.reason).split()))
        if status == 413:
            return SinkError(f"{said}. Lower influx.batch_size", mends_itself=False, too_large=True)
        if status >= 500 and "retention policy not found" in said:
            what = f"Create the retention policy of {self._settings.bucket!r}, or correct influx.bucket"
            return SinkError(f"{said}. {what}", mends_itself=False, status=404)
        if status >= 500 and "no space left on device" in said:
            # InfluxDB 1.x keeps the file open to which it could not write, and its error with it.
            todo = "Make room on the server's disk, and restart InfluxDB if it still says so"
            return SinkError(f"{said}. {todo}", mends_itself=True)
        if status == 429 or status >= 500:
            return SinkError(said, mends_itself=True, retry_after_s=_retry_after_s(error))
        if status == 401:
            self.close()  # the next write reads the token anew: a person may have mended it
        return SinkError(f"{said}. {self._advice(status)}", mends_itself=False, status=status)

    @contextlib.contextmanager
    def _errors_in_words(self) -> Iterator[None]:
        from influxdb_client.client.exceptions import InfluxDBError  # noqa: PLC0415
        from urllib3.exceptions import HTTPError  # noqa: PLC0415

        try:
            yield
        except InfluxDBError as error:
            raise self._refusal(error) from error
        except (HTTPError, OSError) as error:
            raise SinkError(f"no answer from {self._settings.url}: {_reason(error)}", mends_itself=True) from error

    def _tls_failure(self, reason: str) -> SinkError:
        text = f"no TLS connection to {self._settings.url}: {reason}"
        if "CERTIFICATE" not in reason.upper():
            return SinkError(text, mends_itself=True)
        return SinkError(f"{text}. Set influx.ca to the authority that signed the certificate", mends_itself=False)

    def _advice(self, status: int) -> str:
        bucket = f"the bucket {self._settings.bucket!r}"
        match status:
            case 400:
                return (
                    f"A field with another type may be in {bucket} already: use a bucket of its own, or remove the "
                    "measurement named above"
                )
            case 401:
                return "Check influx.token_file (InfluxDB 1.8: influx.user and influx.password_file)"
            case 403:
                return f"Give the token or user the right to write to {bucket}"
            case 404:
                return (
                    f"Create {bucket} (organisation {self._settings.org!r}) or correct influx.bucket; a server "
                    "without /api/v2/write (InfluxDB before 1.8) answers the same"
                )
            case _:
                return "Check influx.url and the server's log"


def _record(point: Point) -> dict[str, Any]:
    return {
        "measurement": point.measurement,
        "tags": dict(point.tags),
        "fields": dict(point.fields),
        "time": point.time_ns,
    }


def _message(error: Any) -> str:
    """The server's own words: JSON from InfluxDB; from a proxy often a page, of which the status says enough."""
    body = error.body or ""
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else str(body)
    with contextlib.suppress(ValueError, AttributeError):
        answer = json.loads(text)
        text = str(answer.get("message") or answer.get("error") or text)
    if not text or text.lstrip().startswith("<"):
        text = str(error.reason)
    return " ".join(text.split())[:_MAX_ANSWER_CHARS]


def _retry_after_s(error: Any) -> float:
    value = str((error.headers or {}).get("Retry-After", ""))
    return float(value) if value.isdigit() else 0.0


def _reason(error: Exception) -> str:
    # urllib3's own text starts with the address of an object in memory.
    return str(error).rpartition(">: ")[2] or type(error).__name__


def _secret(path: Path, key: str) -> str:
    """The first line of a file that not everybody may read."""
    try:
        line = path.read_text().partition("\n")[0].strip()
        # The group is left alone: systemd hands a service its credentials as files of mode 0440.
        exposed = path.stat().st_mode & stat.S_IROTH
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{key}: cannot read {path}: {error}") from error
    if not line:
        raise ConfigError(f"{key}: the first line of {path} is empty")
    if exposed:
        raise ConfigError(f"{key}: every user of this machine can read {path}: chmod 600 {path}")
    return line
