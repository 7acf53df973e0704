"""`coordinator start` and `stop`: hand a run to systemd, which resumes it after a crash or a reboot, and take it back.

The unit is `coordinator-run@.service`, which the playbook installs. It runs `coordinator resume RUN`, so that the first
start and every later one are the same.
"""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Annotated

import typer

from coordinator.commands.conversation import (
    RUNS_VARIABLE,
    Json,
    RunsFolder,
    errors_in_one_line,
    open_run,
    print_document,
    runs_option,
    talk,
    working,
)
from coordinator.config import RunConfig
from coordinator.run import create, prepare
from coordinator.run_folder import RunFolder, list_runs
from coordinator.run_summary import summarise
from schemas.errors import ConfigError, FederationError, StorageError
from transport.settings import load_settings

UNIT = "coordinator-run@{}.service"
TEMPLATE = UNIT.format("")


class ServiceManagerError(FederationError):
    """systemd did not take the run; the text says why and what to do."""


def start_command(
    run: Annotated[str, typer.Argument(help="A run's TOML file, or the id of a run that was stopped.", metavar="RUN")],
    runs_folder: Annotated[
        Path | None, typer.Option("--runs", help="The folder that holds all runs.", envvar=RUNS_VARIABLE)
    ] = None,
    json_output: Json = False,
) -> None:
    """Start a run in the background, to be resumed by itself.

    systemd runs it as the unit coordinator-run@RUN and resumes it after a crash or a reboot, until it is over. Works
    where the playbook has set up a coordinator, and needs root.

    \b
    Example:
      sudo coordinator start run.toml
    """
    console = talk(json_output)
    with errors_in_one_line():
        _check_service_manager()
        if Path(run).is_file():
            config = load_settings(RunConfig, Path(run), {"runs_folder": runs_folder})
            _check_nothing_runs(config.runs_folder)
            with working(console, "loading the model and the test set"):
                prepare(config)  # whatever cannot work is said now, and not in a log
            folder = create(config)
        else:
            folder = _stopped_run(runs_folder or Path("runs"), run)
        runs = folder.path.parent
        _give_to_owner(folder.path)
        unit = UNIT.format(folder.run_id)
        _systemctl("enable", "--quiet", "--now", "--no-block", unit)
    if json_output:
        print_document({"run_id": folder.run_id, "folder": str(folder.path), "unit": unit})
        return
    console.print(f"run {folder.run_id} is with systemd, which resumes it after a crash or a reboot", soft_wrap=True)
    console.print(f"look at it with  coordinator show {folder.run_id}{runs_option(runs)}", soft_wrap=True)
    console.print(f"its log is       journalctl --follow --unit {unit}", soft_wrap=True)
    console.print(f"stop it with     sudo coordinator stop {folder.run_id}{runs_option(runs)}", soft_wrap=True)


def stop_command(
    run_id: Annotated[str, typer.Argument(help="A run's id, or `latest`.", metavar="RUN")],
    runs_folder: RunsFolder = Path("runs"),
    json_output: Json = False,
) -> None:
    """Stop a run that was started in the background.

    It stays stopped after a reboot, and goes on with `coordinator start RUN`.

    \b
    Example:
      sudo coordinator stop latest
    """
    console = talk(json_output)
    with errors_in_one_line():
        _check_service_manager()
        folder = open_run(runs_folder, run_id)
        _systemctl("disable", "--quiet", "--now", UNIT.format(folder.run_id))
        state = summarise(folder).state
    if json_output:
        print_document({"run_id": folder.run_id, "state": state})
        return
    again = f": go on with  sudo coordinator start {folder.run_id}{runs_option(runs_folder)}"
    console.print(f"run {folder.run_id} is {state}{again if state == 'stopped' else ''}", soft_wrap=True)


def _stopped_run(runs: Path, run_id: str) -> RunFolder:
    """A run that can go on.

    Raises:
        FederationError: there is none of this id, or it runs or is over.
    """
    if "/" in run_id or run_id.endswith(".toml"):
        raise ConfigError(f"cannot read {run_id}: there is no such file")
    folder = open_run(runs, run_id)
    state = summarise(folder).state
    if state != "stopped":
        raise StorageError(f"run {folder.run_id} is {state}: only a stopped one can go on")
    _check_nothing_runs(runs)
    return folder


def _check_service_manager() -> None:
    if os.geteuid() != 0:
        raise ServiceManagerError("systemd takes units from root alone: sudo coordinator ...")
    if shutil.which("systemctl") is None or not Path("/run/systemd/system").is_dir():
        raise ServiceManagerError("systemd does not run here: use `coordinator run`, which stays in the foreground")
    if _ask_systemctl("cat", TEMPLATE).returncode != 0:
        raise ServiceManagerError(
            f"the unit {TEMPLATE} is not installed: ansible/site.yml sets up a coordinator; or use `coordinator run`"
        )


def _check_nothing_runs(runs: Path) -> None:
    """Two coordinators on one prefix would be one too many: the second ends, again and again."""
    for folder in list_runs(runs):
        if folder.lock_holder() is not None:
            raise StorageError(f"run {folder.run_id} is running: wait for its end, or stop it first")


def _give_to_owner(folder: Path) -> None:
    """The unit's user, who owns the folder of all runs, must be able to write this one."""
    owner = folder.parent.stat()
    for path in (folder, *folder.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid)


def _systemctl(*arguments: str) -> None:
    done = _ask_systemctl(*arguments)
    if done.returncode != 0:
        raise ServiceManagerError(f"systemctl {' '.join(arguments)}: {done.stderr.strip() or done.returncode}")


def _ask_systemctl(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemctl") or "systemctl"
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
