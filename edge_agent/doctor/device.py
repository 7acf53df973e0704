"""Checks of the device itself: room data, state folder, disk, memory, clock and PyTorch. Nothing is changed."""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import edge_agent
from edge_agent.config import AgentConfig
from edge_agent.doctor.findings import Finding, note, ok, problem, skipped, warning
from learning.folders import load_folder
from schemas.errors import FederationError

MB = 1_000_000
LITTLE_DISK_BYTES = 500 * MB
NO_DISK_BYTES = 50 * MB
AGENT_BYTES = 400 * MB
"""What an agent takes at most with the CNN."""

TOO_LITTLE_MEMORY_BYTES = 250 * MB
IMPORT_LIMIT_S = 180.0


def check_user() -> Finding:
    """Rights differ from user to user, so it matters who asks."""
    name = pwd.getpwuid(os.geteuid()).pw_name
    if os.geteuid() == 0:
        return note(
            "user", "root, who may do everything", "ask as the agent's user: sudo -u USER edge-agent doctor ..."
        )
    return ok("user", f"{name}; the agent has to run as the same user")


def check_data(config: AgentConfig) -> Finding:
    """The room's data can be read and is usable."""
    try:
        examples = load_folder(config.data_folder)
    except FederationError as error:
        return problem("data", str(error), "copy this room's folder here; `coordinator partition` makes such folders")
    classes = np.unique(examples.labels)
    shape = "x".join(map(str, examples.shape))
    detail = f"{examples.num_examples} examples of {shape} in {len(classes)} of {examples.num_classes} classes"
    if _open_to_others(config.data_folder):
        fix = f"chmod -R go= {config.data_folder}"
        return warning("data", f"{detail}; but other users of this device can read it", fix)
    return ok("data", detail)


def check_model(config: AgentConfig, model: str | None) -> Finding:
    """The model that runs will ask for can be built here and fits the room's data."""
    if model is None:
        return skipped("model", "no model named", "name the one that runs train: --model cnn")
    from learning.models import build_model, check_fits, num_parameters  # noqa: PLC0415 - loads torch

    try:
        module = build_model(model, seed=0, model_path=config.model_path)
        check_fits(module, load_folder(config.data_folder))
    except FederationError as error:
        return problem("model", str(error), "choose another model, or put this room's data in the shape it takes")
    return ok("model", f"{model} with {num_parameters(module):,} parameters fits the data")


def check_state(config: AgentConfig) -> Finding:
    """The state folder can be written, or can be made."""
    folder = config.state_folder
    existing = _nearest_existing(folder)
    if existing != folder:
        if existing.is_dir() and os.access(existing, os.W_OK | os.X_OK):
            return ok("state", f"{folder} does not exist yet and can be made")
        return problem("state", f"{folder} cannot be made in {existing}", _ownership_fix(folder))
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"doctor")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return problem("state", f"{folder} cannot be written: {error.strerror or error}", _ownership_fix(folder))
    return ok("state", f"{folder} can be written")


def check_disk(config: AgentConfig) -> Finding:
    """There is room for updates."""
    place = _nearest_existing(config.state_folder)
    free_bytes = shutil.disk_usage(place).free
    detail = f"{free_bytes / MB:,.0f} MB free where {place} is"
    if free_bytes < NO_DISK_BYTES:
        return problem("disk", detail, "make room: an agent keeps its update on disk until the round is closed")
    if free_bytes < LITTLE_DISK_BYTES:
        return warning("disk", detail, "make room before it runs out; large models need several times their size")
    return ok("disk", detail)


def check_memory(meminfo: Path = Path("/proc/meminfo")) -> Finding:
    """There is memory to train in."""
    try:
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        free_bytes = int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError, IndexError):
        return skipped("memory", f"{meminfo} does not say")
    detail = f"{free_bytes / MB:,.0f} MB available; an agent with the CNN takes up to {AGENT_BYTES / MB:.0f} MB"
    fix = "stop other programs, or use a device with more memory"
    if free_bytes < TOO_LITTLE_MEMORY_BYTES:
        return problem("memory", detail, fix)
    return warning("memory", detail, fix) if free_bytes < AGENT_BYTES else ok("memory", detail)


def check_limits(controllers: Path = Path("/sys/fs/cgroup/cgroup.controllers")) -> Finding:
    """The kernel counts memory, so that the limits of the agent's unit hold; Raspberry Pi OS does not by itself."""
    try:
        counted = controllers.read_text().split()
    except OSError:
        return skipped("limits", f"{controllers} does not say")
    if "memory" in counted:
        return ok("limits", "systemd can hold the agent to the memory and CPU of its unit")
    return warning(
        "limits",
        "the kernel does not count memory, so the agent's unit has no memory limit",
        "add cgroup_enable=memory cgroup_memory=1 to /boot/firmware/cmdline.txt, and restart the device",
    )


def check_sensors(temperature_c: float | None, throttled: bool | None, swaps: Path = Path("/proc/swaps")) -> Finding:
    """What the device can tell about itself in its reports, and whether it is held back right now.

    Args:
        temperature_c, throttled: as `edge_agent.sensors` reads them.
    """
    seen = [f"{temperature_c:.0f} degrees C" if temperature_c is not None else "no temperature sensor"]
    if throttled is None:
        seen.append("nothing says whether the CPU is held back")
    if swaps.exists() and "zram" in swaps.read_text():
        seen.append("compressed swap is on")
    if throttled:
        return warning("sensors", f"{seen[0]}; the CPU is held back", "a stronger power supply, or cooling")
    missing = temperature_c is None or throttled is None
    return note("sensors", "; ".join(seen)) if missing else ok("sensors", "; ".join(seen))


def check_clock(now_s: float | None = None) -> Finding:
    """Certificates have dates, so the clock must be right to a day or so; rounds never compare clocks.

    Args:
        now_s: UTC seconds; the clock's when None.
    """
    now_s = time.time() if now_s is None else now_s
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now_s))
    installed_s = Path(edge_agent.__file__).stat().st_mtime
    fix = "sudo timedatectl set-ntp true, and let the device reach a time server"
    if now_s < installed_s - 86400:
        return problem("clock", f"{shown} is before this software was installed", fix)
    synchronised = _ntp_synchronised()
    if synchronised is None:
        return note("clock", f"{shown}; nothing here says whether a time server agrees. Compare it with your watch")
    if not synchronised:
        return warning("clock", f"{shown}, and no time server has confirmed it", fix)
    return ok("clock", f"{shown}, confirmed by a time server")


def check_torch() -> Finding:
    """PyTorch can be loaded; in a process of its own, as a build for another processor would end this one."""
    code = "import time; t = time.monotonic(); import torch; print(torch.__version__, time.monotonic() - t)"
    fix = "install it again: pip install --force-reinstall 'federation[agent]'"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=IMPORT_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return problem("PyTorch", f"could not be loaded in {IMPORT_LIMIT_S:.0f} s", "is the device out of memory?")
    if done.returncode < 0:
        return problem(
            "PyTorch", f"ended by signal {-done.returncode} while loading: it is not for this processor", fix
        )
    if done.returncode > 0:
        return problem("PyTorch", done.stderr.strip().splitlines()[-1], fix)
    version, seconds = done.stdout.split()
    return ok("PyTorch", f"{version}, loaded in {float(seconds):.1f} s")


def _open_to_others(folder: Path) -> bool:
    """True when users outside the owner's group can get at a file in the folder."""
    if not folder.stat().st_mode & 0o001:
        return False
    return any(path.stat().st_mode & 0o004 for path in folder.iterdir())


def _nearest_existing(folder: Path) -> Path:
    return next(place for place in (folder, *folder.absolute().parents) if place.exists())


def _ownership_fix(folder: Path) -> str:
    name = pwd.getpwuid(os.geteuid()).pw_name
    return f"sudo install -d -m 0700 -o {name} {folder}"


def _ntp_synchronised() -> bool | None:
    """What systemd knows about time servers; None when it does not say."""
    program = shutil.which("timedatectl")
    if program is not None:
        try:
            done = subprocess.run(
                [program, "show", "--property=NTPSynchronized", "--value"],
                capture_output=True, text=True, timeout=5, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return None
        if done.stdout.strip() in ("yes", "no"):
            return done.stdout.strip() == "yes"
    return True if Path("/run/systemd/timesync/synchronized").exists() else None
