"""A TCP relay as a process of its own: suspended, it leaves both sides with connections on which nothing comes.

Run as `python -m tests.integration.relay LISTEN_PORT PORT`; it says `ready` on stdout when it listens.
"""

import asyncio
import contextlib
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

from mosquitto.broker import LOOPBACK, free_port

_PIECE_BYTES = 64 * 1024


class Relay:
    """In front of a port of this machine, for the length of a `with` block."""

    def __init__(self, to_port: int) -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "tests.integration.relay", str(self.port), str(to_port)]
        root = Path(__file__).parents[2]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, cwd=root)

    def __enter__(self) -> Self:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def suspend(self) -> None:
        """Pass nothing on, close nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Pass on what has come meanwhile, and all that follows."""
        self._process.send_signal(signal.SIGCONT)


async def _serve(listen_port: int, to_port: int) -> None:
    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(LOOPBACK, to_port)
        await asyncio.gather(_pass_on(reader, far_writer), _pass_on(far_reader, writer))

    server = await asyncio.start_server(join, LOOPBACK, listen_port)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await server.serve_forever()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(_PIECE_BYTES):
            writer.write(piece)
            await writer.drain()
    writer.close()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2])))
