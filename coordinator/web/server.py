"""Serves the page: the only module that knows HTTP. Read-only, nothing from elsewhere, nothing logged about visitors.

Each request for data takes a look at the run's folder, at most every `LOOK_EVERY_S` however many browsers ask, and
is answered with 304 while nothing is new.
"""

import contextlib
import json
import logging
import secrets
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coordinator.run_folder import list_runs
from coordinator.web.access import COOKIE, COOKIE_AGE_S, Gate
from coordinator.web.engineer import SORTS, Question, engineer
from coordinator.web.follower import Followers, Sight
from coordinator.web.overview import overview
from coordinator.web.pages import Wanted
from coordinator.web.settings import WebSection
from schemas.errors import ConfigError, FederationError
from schemas.identifiers import is_identifier

STATIC = Path(__file__).with_name("static")
MAX_CONNECTIONS = 256
MAX_RUNS_LISTED = 100
CLOCK_STEP_S = 5
"""Sentences such as "takes longer than usual" depend on the time: a document is made anew after so long."""

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; "
    "img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}

log = logging.getLogger(__name__)

Document = Callable[[Sight | None, float], dict[str, Any]]


class Site:
    """The page of the runs in one folder.

    Args:
        clock: UTC seconds.
    """

    def __init__(self, followers: Followers, gate: Gate, *, secure: bool, clock: Callable[[], float]) -> None:
        self._followers = followers
        self._gate = gate
        self._secure = secure
        self._clock = clock
        self._session = secrets.token_hex(4)  # versions of another start are others

    def app(self, allowed_hosts: list[str]) -> Starlette:
        """The ASGI application.

        Args:
            allowed_hosts: names that a browser may know us by, so that no other site's name can be made to mean us.
        """
        return Starlette(
            routes=[
                Route("/", self._page("overview.html")),
                Route("/engineer", self._page("engineer.html")),
                Route("/enter", self._enter),
                Route("/api/overview", self._overview),
                Route("/api/engineer", self._engineer),
                Route("/api/runs", self._runs),
                Mount("/static", StaticFiles(directory=STATIC)),
            ],
            middleware=[
                Middleware(_Headers),
                Middleware(TrustedHostMiddleware, allowed_hosts=allowed_hosts, www_redirect=False),
                Middleware(GZipMiddleware, minimum_size=1000),
            ],
        )

    # -- pages

    def _page(self, name: str) -> Callable[[Request], Response]:
        def page(request: Request) -> Response:
            if not self._admits(request):
                return FileResponse(STATIC / "enter.html", status_code=401)
            return FileResponse(STATIC / name)

        return page

    def _enter(self, request: Request) -> Response:
        """Take the token, once, and send the browser to the page without it."""
        if not self._gate.is_open and not self._gate.knows(request.query_params.get("token", "")):
            return FileResponse(STATIC / "enter.html", status_code=401)
        response = RedirectResponse("/", status_code=303)
        if not self._gate.is_open:
            response.set_cookie(
                COOKIE,
                self._gate.pass_value,
                max_age=COOKIE_AGE_S,
                httponly=True,
                samesite="lax",  # strict would not come along when a link in a message leads here
                secure=self._secure,
            )
        return response

    def _admits(self, request: Request) -> bool:
        return self._gate.admits(request.cookies.get(COOKIE))

    # -- data

    async def _overview(self, request: Request) -> Response:
        wanted = Wanted(_whole(request, "page", 1), request.query_params.get("query", "")[:63])
        return await self._answer(request, lambda sight, now_s: overview(sight, wanted, now_s))

    async def _engineer(self, request: Request) -> Response:
        sort = request.query_params.get("sort", "device")
        question = Question(
            devices=Wanted(_whole(request, "page", 1), request.query_params.get("query", "")[:63]),
            sort=sort if sort in SORTS else "device",
            timeline_round=_whole(request, "round", None),
            timeline_page=_whole(request, "timeline_page", 1),
            rounds_page=_whole(request, "rounds_page", 1),
        )
        return await self._answer(request, lambda sight, now_s: engineer(sight, question, now_s))

    async def _runs(self, request: Request) -> Response:
        """The runs that can be chosen, newest first."""
        if not self._admits(request):
            return _refusal(401, "a token is needed")
        named = self._followers.named
        found = [named] if named else await run_in_threadpool(self._run_ids)
        return JSONResponse({"runs": found})

    def _run_ids(self) -> list[str]:
        return [run.run_id for run in list_runs(self._followers.root)[:MAX_RUNS_LISTED]]

    async def _answer(self, request: Request, document: Document) -> Response:
        if not self._admits(request):
            return _refusal(401, "a token is needed")
        run_id = request.query_params.get("run") or None
        if run_id is not None and not self._may_show(run_id):
            return _refusal(404, "there is no such run")
        try:
            return await run_in_threadpool(self._look, request, run_id, document)
        except FederationError as error:
            log.warning("cannot show the run: %s", error)
            return _refusal(503, "the run's files cannot be read")

    def _look(self, request: Request, run_id: str | None, document: Document) -> Response:
        now_s = self._clock()
        with self._followers.look(run_id) as sight:
            version = sight.version if sight is not None else "none"
            tag = f'"{self._session}.{version}.{now_s // CLOCK_STEP_S:.0f}"'
            headers = {"etag": tag, "cache-control": "no-store"}
            if request.headers.get("if-none-match") == tag:
                return Response(status_code=304, headers=headers)
            body = json.dumps(document(sight, now_s), separators=(",", ":"), allow_nan=False)
        return Response(body, headers=headers, media_type="application/json")

    def _may_show(self, run_id: str) -> bool:
        if not is_identifier(run_id) or self._followers.named not in (None, run_id):
            return False
        return (self._followers.root / run_id / "config.json").is_file()


class _Headers:
    """Puts `HEADERS` on every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-cache")
            await send(message)

        await self._app(scope, receive, send_with_headers)


class PageServer:
    """Listens as soon as it is made; `serve` answers until the process is asked to end.

    Raises:
        ConfigError: the settings cannot work, or the port is taken.
    """

    def __init__(self, runs_folder: Path, run_id: str | None, settings: WebSection) -> None:
        settings.check_tls()
        gate = Gate(settings.token())
        site = Site(
            Followers(runs_folder, run_id, time.monotonic), gate, secure=settings.tls_cert is not None, clock=time.time
        )
        hosts = ["localhost", "127.0.0.1", "[::1]", settings.host] if settings.is_loopback else ["*"]
        config = uvicorn.Config(
            site.app(hosts),
            log_config=None,
            access_log=False,  # addresses hold what visitors typed, once even the token
            server_header=False,
            lifespan="off",
            ws="none",
            loop="asyncio",
            http="h11",
            limit_concurrency=MAX_CONNECTIONS,
            timeout_graceful_shutdown=2,
            ssl_certfile=settings.tls_cert,
            ssl_keyfile=settings.tls_key,
        )
        try:
            config.load()
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"web.tls_cert {settings.tls_cert}, web.tls_key {settings.tls_key}: {error}") from error
        self._socket = _listen(settings.host, settings.port)
        self._server = uvicorn.Server(config)
        scheme = "https" if settings.tls_cert is not None else "http"
        self.url = f"{scheme}://{_name(settings.host)}:{self._socket.getsockname()[1]}/"

    def serve(self) -> None:
        """Answer browsers; returns when SIGINT or SIGTERM comes, or `stop` is called."""
        with contextlib.closing(self._socket):
            self._server.run(sockets=[self._socket])

    def stop(self) -> None:
        """End `serve` from another thread."""
        self._server.should_exit = True


def _name(host: str) -> str:
    """How a browser gets to an address; this machine's name where we listen on all of them."""
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not listened on
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(
            f"web: cannot listen on {host}, port {port}: {reason}; choose another with --port, or --port 0"
        ) from error


def _whole(request: Request, name: str, otherwise: Any) -> Any:
    """A whole number from the address; `otherwise` when there is none."""
    text = request.query_params.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else otherwise


def _refusal(status: int, error: str) -> JSONResponse:
    return JSONResponse({"error": error}, status_code=status)
