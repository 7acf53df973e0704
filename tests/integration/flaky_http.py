"""A small HTTP proxy in front of a metrics server that answers as told: errors, silence, lost answers."""

import http.client
import http.server
import ssl
import threading
from collections import deque
from typing import Self
from urllib.parse import urlsplit

PASS = "pass"
STALL = "stall"
LOSE_ANSWER = "lose-answer"
"""The server gets the write and acknowledges it, but the client never hears of it."""

SLOW = "slow"
"""The server gets the write and acknowledges it, and the client hears of it after `SLOW_S`."""

SLOW_S = 30.0


class FlakyProxy:
    """Forwards POSTs; the behaviours in `plan` are used up one per request, after them comes `always`.

    Attributes:
        plan: PASS, STALL, LOSE_ANSWER, SLOW, or the status of an error.
        always: one of these, PASS unless something else is said.
        requests: how many have arrived; `answers`: how many of them were answered.
    """

    def __init__(self, upstream_url: str, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.plan: deque[str | int] = deque()
        self.always: str | int = PASS
        self.requests = 0
        self.answers = 0
        self._upstream = urlsplit(upstream_url)
        self._over = threading.Event()
        self._server = _Server(("127.0.0.1", port), _handler(self))
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes] | None:
        """The status and body for a request, or None to hang up."""
        self.requests += 1
        behaviour = self.plan.popleft() if self.plan else self.always
        if isinstance(behaviour, int):
            return behaviour, b'{"message":"as planned"}'
        if behaviour == STALL:
            self._over.wait(60)
            return None
        answer = self._forward(path, headers, body)
        if behaviour == SLOW:
            self._over.wait(SLOW_S)
        return None if behaviour == LOSE_ANSWER else answer

    def _forward(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        assert self._upstream.hostname is not None
        connection = http.client.HTTPConnection(self._upstream.hostname, self._upstream.port, timeout=30)
        try:
            connection.request("POST", path, body, {name: headers[name] for name in ("Authorization", "Content-Type")})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that hung up is what the tests are about."""


def _handler(proxy: FlakyProxy) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answer = proxy.answer(self.path, dict(self.headers.items()), body)
            if answer is None:
                self.close_connection = True
                return
            self.send_response(answer[0])
            self.send_header("Content-Length", str(len(answer[1])))
            self.end_headers()
            self.wfile.write(answer[1])
            proxy.answers += 1

        def log_message(self, *_: object) -> None:
            """Silence."""

    return Handler
