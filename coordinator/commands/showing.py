"""`coordinator web`: the live page, in a process of its own."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from coordinator.commands.conversation import LATEST, RunId, RunsFolder, errors_in_one_line, stoppable, talk
from coordinator.config import RunConfig
from coordinator.web.settings import WebOptions, WebSection
from schemas.identifiers import checked_identifier
from transport.settings import load_settings

NICENESS = 5
"""A page beside a run gives way to it."""

LINGER_S = 3.0
"""It outlives its run by so much, so that browsers see how the run has ended."""


def web(
    run_id: RunId = LATEST,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on. Without it only this machine can see the page.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="8700 otherwise; 0 takes a free one.")] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="Holds the token that a browser must show; made when missing.")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="PEM file of the page's certificate.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file of its key.")] = None,
    runs_folder: RunsFolder = Path("runs"),
    beside_run: Annotated[bool, typer.Option("--beside-run", hidden=True)] = False,
) -> None:
    """Show runs in a browser, live: one view for the home, one for the engineer.

    Follows the newest run, or the named one. Reads the runs' folder only, so it may be started and ended at any time.
    Beyond this machine it needs a token, TLS, or both; COORDINATOR_WEB__HOST and the like set them, too.

    \b
    Example:
      coordinator web --host 0.0.0.0 --token-file page.token
    """
    options = {
        "web.host": host,
        "web.port": port,
        "web.token_file": str(token_file) if token_file else None,
        "web.tls_cert": str(tls_cert) if tls_cert else None,
        "web.tls_key": str(tls_key) if tls_key else None,
    }
    console = talk(json_output=False)
    with errors_in_one_line():
        settings = load_settings(WebOptions, None, options).web
        named = None if run_id == LATEST else checked_identifier(run_id, "run id")
        from coordinator.web.server import PageServer

        server = PageServer(runs_folder, named, settings)
        if beside_run:
            os.nice(NICENESS)
            _stop_with_parent(server.stop)
    console.print(f"the page is at {server.url}", soft_wrap=True)
    if settings.token_file is not None:
        console.print(f"browsers are asked for the token in {settings.token_file}", soft_wrap=True)
        if settings.tls_cert is None and not settings.is_loopback:
            console.print("without --tls-cert and --tls-key, whoever can listen on the network can read it")
    try:
        with stoppable():
            server.serve()
    except KeyboardInterrupt:
        return


@contextlib.contextmanager
def shown(config: RunConfig, wanted: bool) -> Iterator[None]:
    """Show a run while it goes on, when that is wanted: by `coordinator web` in a process of its own.

    Nothing that happens to the page touches the run. Ends with us even when we are killed.

    Raises:
        ConfigError: the page's settings cannot work; before anything is started.
    """
    if not wanted:
        yield
        return
    settings = config.web or WebSection()
    settings.check_tls()
    settings.token()
    command = [sys.executable, "-m", "coordinator.cli", "web", str(config.run_id), "--beside-run"]
    command += ["--runs", str(config.runs_folder), "--host", settings.host, "--port", str(settings.port)]
    for option, path in (("token-file", settings.token_file), ("tls-cert", settings.tls_cert)):
        command += [f"--{option}", str(path)] if path is not None else []
    command += ["--tls-key", str(settings.tls_key)] if settings.tls_key is not None else []
    # Its words go where ours for people go: stdout may belong to a machine. Ctrl-C is for the run, which ends the page.
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=sys.stderr, start_new_session=True) as page:
        try:
            yield
        finally:
            if page.stdin is not None:
                page.stdin.close()


def _stop_with_parent(stop: Callable[[], None]) -> None:
    """End when whoever started us lets go of our stdin or has ended, however that was: the kernel closes it then."""

    def wait() -> None:
        sys.stdin.buffer.read()
        time.sleep(LINGER_S)
        stop()

    threading.Thread(target=wait, name="wait for the run's end", daemon=True).start()
