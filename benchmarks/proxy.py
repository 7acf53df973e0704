"""A TCP proxy between a transport and its broker that counts bytes, breaks connections and holds them up."""

import socket
import threading
from types import TracebackType
from typing import Self


class Proxy:
    """Listens on a loopback port (a free one, unless told which) and passes everything on to another one.

    Attributes:
        port: connect here.
        bytes_up, bytes_down: passed on to the broker and from it.
        bytes_held: taken from either side, and not passed on yet.
    """

    def __init__(self, target_port: int, port: int = 0) -> None:
        self.bytes_up = self.bytes_down = self.bytes_held = 0
        self._target_port = target_port
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._flowing = threading.Event()
        self._flowing.set()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def cut(self) -> None:
        """End all connections in both directions; new ones are accepted."""
        with self._lock:
            for sock in self._open:
                _end(sock)

    def hold(self) -> None:
        """Pass nothing on, without ending anything, until `release`."""
        self._flowing.clear()

    def release(self) -> None:
        """Pass on what was held, and everything after it."""
        self._flowing.set()

    def finish(self) -> None:
        """Wait until everything has been passed on, after the connections were closed from either end."""
        for thread in self._threads:
            thread.join()

    def close(self) -> None:
        """Accept nothing more and end all connections."""
        _end(self._listener)
        self._listener.close()
        self.release()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                broker = socket.create_connection(("127.0.0.1", self._target_port))
            except OSError:
                client.close()
                continue
            with self._lock:
                self._open |= {client, broker}
            for source, sink in ((client, broker), (broker, client)):
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                thread = threading.Thread(target=self._pass_on, args=(source, sink, sink is broker), daemon=True)
                thread.start()
                self._threads.append(thread)

    def _pass_on(self, source: socket.socket, sink: socket.socket, upwards: bool) -> None:
        try:
            while data := source.recv(65536):
                with self._lock:
                    self.bytes_held += len(data)
                self._flowing.wait()
                with self._lock:
                    self.bytes_held -= len(data)
                sink.sendall(data)
                if upwards:
                    self.bytes_up += len(data)
                else:
                    self.bytes_down += len(data)
        except OSError:
            pass
        with self._lock:
            # The other direction's thread closes its own source: a socket is closed by its only reader.
            _end(sink)
            source.close()
            self._open.discard(source)


def _end(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        return
