"""Real servers for metrics: Debian's InfluxDB 1.6.7 behind a proxy that adds the v2 write path, and VictoriaMetrics.

InfluxDB 1.6.7 has no `/api/v2/write`. nginx maps it to `/write` and a token to a user, as which the server itself
then checks the rights: a wrong token is refused by nginx (401), everything else by InfluxDB.
"""

import contextlib
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

PACKAGES = {"influxd": "influxdb", "nginx": "nginx-light", "victoria-metrics": "victoria-metrics"}
"""Program to Debian package."""

WRITE_TOKEN = "may-write"
READ_TOKEN = "may-only-read"
WRITER, READER = ("writer", "writers-secret"), ("reader", "readers-secret")
ADMIN = ("admin", "admins-secret")

START_LIMIT_S = 30.0


class ServerMissingError(Exception):
    """A program that the tests need is not installed."""


class Sample(NamedTuple):
    """One value of one time series, as VictoriaMetrics gives it."""

    labels: dict[str, str]
    time_ms: int
    value: float


def find_program(name: str) -> str:
    """Path of a server's program, or ServerMissingError saying which package has it."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise ServerMissingError(f"{name} is not installed: apt-get install {PACKAGES[name]}")
    return found


def wait_until(condition: Callable[[], bool], what: str, limit_s: float = START_LIMIT_S) -> None:
    """Return as soon as the condition holds; fail after a limit."""
    end_s = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end_s:
            raise AssertionError(f"{what}: not within {limit_s:g} s")
        time.sleep(0.01)


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class InfluxServers:
    """InfluxDB on one port, with users and rights, and on another nginx with the v2 write path in front of it.

    Attributes:
        url: of nginx, for influxdb-client.
        query_url: of InfluxDB itself.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports = {"http": free_port(), "rpc": free_port(), "proxy": free_port()}
        self.url = f"http://127.0.0.1:{self._ports['proxy']}"
        self.query_url = f"http://127.0.0.1:{self._ports['http']}"
        self._database: subprocess.Popen[bytes] | None = None
        self._proxy: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        influxd, nginx = find_program("influxd"), find_program("nginx")
        self._folder.mkdir(parents=True, exist_ok=True)
        self._influxd_command = [influxd, "-config", str(self._write_influx_config())]
        config, errors = self._write_nginx_config(), self._folder / "nginx-error.log"
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(self.stop_database)
            self.start_database()
            self._query(f"CREATE USER {ADMIN[0]} WITH PASSWORD '{ADMIN[1]}' WITH ALL PRIVILEGES", ("", ""))
            for user, password in (WRITER, READER):
                self._query(f"CREATE USER {user} WITH PASSWORD '{password}'")
            command = [nginx, "-e", str(errors), "-p", str(self._folder), "-c", str(config)]
            self._proxy = self._start(command, "nginx.log", f"{self.url}/ping")
            on_failure.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        _end(self._proxy)
        self.stop_database()

    def start_database(self) -> None:
        """Start InfluxDB unless it runs; its data are those of before."""
        if self._database is None:
            self._database = self._start(self._influxd_command, "influxd.log", f"{self.query_url}/ping")

    def stop_database(self) -> None:
        """Stop InfluxDB and leave nginx, which then answers 502."""
        _end(self._database)
        self._database = None

    def create_database(self, name: str) -> None:
        """An empty database that the writer may write and the reader may read."""
        self._query(f'DROP DATABASE "{name}"')
        self._query(f'CREATE DATABASE "{name}"')
        self._query(f'GRANT WRITE ON "{name}" TO {WRITER[0]}')
        self._query(f'GRANT READ ON "{name}" TO {READER[0]}')

    def query(self, text: str, database: str) -> list[dict[str, Any]]:
        """The rows of an InfluxQL query, each with its series' tags, in nanoseconds."""
        rows = []
        for result in self._query(text, database=database)["results"]:
            assert "error" not in result, f"{text}: {result['error']}"
            for series in result.get("series", []):
                tags = series.get("tags", {})
                rows += [
                    {**tags, **dict(zip(series["columns"], values, strict=True))} for values in series.get("values", [])
                ]
        return rows

    def _query(self, text: str, user: tuple[str, str] = ADMIN, database: str = "") -> dict[str, Any]:
        place = urllib.parse.urlencode({"db": database, "epoch": "ns", "u": user[0], "p": user[1]})
        form = urllib.parse.urlencode({"q": text}).encode()
        answer: dict[str, Any] = json.loads(fetch(f"{self.query_url}/query?{place}", form))
        return answer

    def _start(self, command: list[str], log: str, ready_url: str) -> subprocess.Popen[bytes]:
        with (self._folder / log).open("ab") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
        return _ready(process, ready_url, self._folder / log)

    def _write_influx_config(self) -> Path:
        path = self._folder / "influxdb.conf"
        path.write_text(f"""
reporting-disabled = true
bind-address = "127.0.0.1:{self._ports["rpc"]}"
[meta]
  dir = "{self._folder}/meta"
[data]
  dir = "{self._folder}/data"
  wal-dir = "{self._folder}/wal"
  series-id-set-cache-size = 100
[monitor]
  store-enabled = false
[http]
  bind-address = "127.0.0.1:{self._ports["http"]}"
  auth-enabled = true
  log-enabled = false
""")
        return path

    def _write_nginx_config(self) -> Path:
        path = self._folder / "nginx.conf"
        temporary = "".join(
            f"  {kind}_temp_path {self._folder}/{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        path.write_text(f"""
daemon off;
master_process off;
pid {self._folder}/nginx.pid;
error_log {self._folder}/nginx-error.log;
events {{ }}
http {{
  access_log off;
  client_max_body_size 256k;
{temporary}
  map $http_authorization $user {{
    default "";
    "Token {WRITE_TOKEN}" "&u={WRITER[0]}&p={WRITER[1]}";
    "Token {READ_TOKEN}" "&u={READER[0]}&p={READER[1]}";
    "~^Token (?<name>[a-z]+):(?<secret>[a-z-]+)$" "&u=$name&p=$secret";
  }}
  # A bucket is "database" or, as InfluxDB 1.8 reads it, "database/retention-policy".
  map $arg_bucket $place {{
    default "db=$arg_bucket";
    "~^(?<database>[^/%]+)(/|%2F)(?<policy>.+)$" "db=$database&rp=$policy";
  }}
  map $arg_precision $unit {{ default $arg_precision; us u; "" ns; }}
  server {{
    listen 127.0.0.1:{self._ports["proxy"]};
    default_type application/json;
    location = /api/v2/write {{
      if ($user = "") {{ return 401 '{{"code":"unauthorized","message":"unauthorized access"}}'; }}
      rewrite ^ /write?$place&precision=$unit$user? break;
      proxy_set_header Authorization "";
      proxy_pass {self.query_url};
    }}
    location / {{ proxy_pass {self.query_url}; }}
  }}
}}
""")
        return path


class VictoriaMetrics:
    """VictoriaMetrics on a free port. It takes the v2 write path as it is, any bucket and any token."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        program = find_program("victoria-metrics")
        self._folder.mkdir(parents=True, exist_ok=True)
        log = self._folder / "victoria-metrics.log"
        command = [
            program,
            f"-httpListenAddr=127.0.0.1:{self._port}",
            f"-storageDataPath={self._folder}/data",
            "-retentionPeriod=100y",
            # Without it, a point that was sent twice is there twice.
            "-dedup.minScrapeInterval=1ms",
        ]
        with log.open("ab") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
        self._process = _ready(process, f"{self.url}/health", log)
        return self

    def __exit__(self, *_: object) -> None:
        _end(self._process)

    def export(self, name: str) -> list[Sample]:
        """All samples of the series `measurement_field`, by time."""
        fetch(f"{self.url}/internal/force_flush")
        fetch(f"{self.url}/internal/resetRollupResultCache")
        # The reduction of repeated points shows in queries and in reduced exports.
        query = urllib.parse.urlencode({"match[]": name, "reduce_mem_usage": "0"})
        series = [json.loads(line) for line in fetch(f"{self.url}/api/v1/export?{query}").splitlines()]
        samples = [
            Sample(one["metric"], time_ms, value)
            for one in series
            for time_ms, value in zip(one["timestamps"], one["values"], strict=True)
        ]
        return sorted(samples, key=lambda sample: sample.time_ms)


def fetch(url: str, body: bytes | None = None) -> str:
    """The answer's text to a GET, or to a POST when there is a body."""
    with urllib.request.urlopen(url, body, timeout=30) as answer:  # noqa: S310 - loopback
        text: str = answer.read().decode()
        return text


@contextlib.contextmanager
def stopped(servers: InfluxServers) -> Iterator[None]:
    """InfluxDB is down inside the block and up again after it."""
    servers.stop_database()
    try:
        yield
    finally:
        servers.start_database()


def _ready(process: subprocess.Popen[bytes], url: str, log: Path) -> subprocess.Popen[bytes]:
    """The process, once it answers; otherwise it is ended."""

    def answers() -> bool:
        if process.poll() is not None:
            raise AssertionError(f"a server ended while it started:\n{log.read_text()[-2000:]}")
        try:
            fetch(url)
        except OSError:
            return False
        return True

    try:
        wait_until(answers, f"{url} answers")
    except AssertionError:
        _end(process)
        raise
    return process


def _end(process: subprocess.Popen[bytes] | None) -> None:
    if process is None:
        return
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
