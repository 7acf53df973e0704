"""Set-up says in one line what a person must install, and does nothing when there is nothing to do."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
NOBODY = 65534
TOOLS = ("apt-get", "bash", "dirname", "env", "flock", "grep", "head", "python3", "sha256sum", "tail", "tee")


@pytest.fixture
def checkout() -> Iterator[Path]:
    """As much of a checkout as set-up looks at, where any user may read it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "scripts").mkdir()
        shutil.copy(ROOT / "scripts" / "setup", folder / "scripts")
        shutil.copy(ROOT / "pyproject.toml", folder)
        yield folder


def set_up(checkout: Path, command: str, path: str, *, as_nobody: bool) -> subprocess.CompletedProcess[str]:
    user = NOBODY if as_nobody and os.geteuid() == 0 else None
    return subprocess.run(
        [command], cwd=checkout, env={"PATH": path}, user=user, capture_output=True, text=True, timeout=50, check=False
    )


@pytest.mark.skipif(shutil.which("apt-get") is None, reason="no apt on this machine")
def test_user_who_may_not_install_is_told_the_one_line_that_installs_what_is_missing(checkout: Path) -> None:
    tools = checkout / "tools"
    tools.mkdir()
    for name in TOOLS:
        # The system's own: another user may not be able to run what lies in somebody's home.
        found = shutil.which(name, path="/usr/bin:/bin")
        assert found, name
        (tools / name).symlink_to(found)

    done = set_up(checkout, str(checkout / "scripts" / "setup"), str(tools), as_nobody=True)

    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("set-up: please run this once, then start again:  sudo apt install ")
    assert "mosquitto-clients" in line.split()
    assert not (checkout / ".venv").exists()


@pytest.mark.usefixtures("mosquitto_program")
@pytest.mark.parametrize("command", ["scripts/setup", "{checkout}/scripts/setup"])
def test_nothing_is_done_or_said_when_everything_is_there(checkout: Path, command: str) -> None:
    programs = checkout / ".venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "python").symlink_to(sys.executable)
    (programs / "pip").symlink_to("/bin/true")
    inputs = [str(checkout / "pyproject.toml"), str(checkout / "scripts" / "setup")]
    hashes = subprocess.run(["sha256sum", *inputs], capture_output=True, text=True, check=True).stdout
    version = subprocess.run([sys.executable, "--version"], capture_output=True, text=True, check=True).stdout
    (checkout / ".venv" / ".set-up").write_text(f"agent,coordinator\n{hashes}{version}")

    done = set_up(checkout, command.format(checkout=checkout), os.environ["PATH"], as_nobody=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
