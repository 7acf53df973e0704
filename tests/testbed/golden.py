"""The golden layer: the Debian that a freshly flashed host starts from, made once and kept in the cache.

It has what Raspberry Pi OS Lite has anyway, a user `pi` who may use sudo, and under /srv/debian the packages that the
playbook installs, as a local package source: the hosts have no internet, and apt works on them all the same. It is made
anew when its recipe changes.
"""

import inspect
import re
import shutil
from pathlib import Path

from tests.testbed.cache import Cached
from tests.testbed.names import USER
from tests.testbed.programs import run

BASE = (
    *("systemd", "systemd-sysv", "systemd-timesyncd", "dbus", "libpam-systemd", "udev", "kmod"),
    *("openssh-server", "sudo", "python3", "python3-apt", "ca-certificates", "cron", "logrotate"),
    *("iproute2", "iputils-ping", "iptables", "nftables", "ethtool", "procps", "less", "rsync", "curl"),
)
"""On every host before the playbook comes: what a Pi has, and what the tests shape the link with."""

SOURCE = (
    *("mosquitto", "mosquitto-clients", "influxdb", "influxdb-client", "nginx", "chrony", "openssl"),
    *("python3-venv", "python3-packaging", "systemd-zram-generator", "zram-tools"),
)
"""What the local package source offers, with everything that these need."""

REPLACED = ("systemd-timesyncd",)
"""What is on every host and goes when something of SOURCE comes; offered as well, so that it can come back."""

SHARED_SITE = Path("/srv/site")
"""Where the hosts' Python finds packages that this machine lends them; empty on a host that installs all its own."""

_DEBIANS = {"bookworm", "trixie"}
_BUILD_LIMIT_S = 900.0
_MASKED = ("apt-daily.timer", "apt-daily-upgrade.timer", "systemd-networkd-wait-online.service")


def golden_layer() -> Path:
    """The root of the golden layer; made when it is missing or its recipe has changed."""
    return _cached().get() / "root"


def is_made() -> bool:
    """True when the golden layer is there, so that hosts boot within seconds."""
    return _cached().is_made


def _cached() -> Cached:
    steps = "".join(inspect.getsource(step) for step in (_bootstrap, _index_packages, _configure))
    ingredients = (release(), BASE, SOURCE, REPLACED, SHARED_SITE, _MASKED, USER, steps)
    return Cached("layer", ingredients, "the Debian that hosts start from", _make)


def release() -> str:
    """The hosts' Debian: this machine's, as hosts that share its PyTorch need its Python; else Debian 12."""
    described = Path("/etc/os-release").read_text() if Path("/etc/os-release").exists() else ""
    found = re.search(r"^VERSION_CODENAME=(\w+)$", described, re.MULTILINE)
    return found[1] if found and found[1] in _DEBIANS else "bookworm"


def _make(folder: Path) -> None:
    root = folder / "root"
    _bootstrap(root)
    _index_packages(root / "srv" / "debian")
    _configure(root)


def _bootstrap(root: Path) -> None:
    download = (
        'APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get install --download-only --yes '
        f'-o Dir::Cache::Archives="$1/srv/debian" {" ".join(SOURCE)}'
        f' && cd "$1/srv/debian" && APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get download {" ".join(REPLACED)}'
    )
    options = [
        *("--mode=root", "--variant=minbase", "--format=directory"),
        *(f"--aptopt={option}" for option in ("APT::Install-Recommends false", *_machine_apt_options())),
        *("--dpkgopt=force-unsafe-io", "--dpkgopt=path-exclude=/usr/share/man/*"),
        f"--include={','.join(BASE)}",
        '--customize-hook=mkdir -p "$1/srv/debian/partial"',
        f"--customize-hook={download}",
    ]
    # Sources on stdin, where "-" says so; without any, mmdebstrap takes Debian's own mirror.
    sources = "\n".join(_machine_sources())
    mirror = ("-",) if sources else ()
    run("mmdebstrap", *options, release(), str(root), *mirror, limit_s=_BUILD_LIMIT_S, stdin=sources)


def _machine_sources() -> list[str]:
    """Where this machine gets its own Debian from, when it is the same release."""
    line = "deb $(REPO_URI) $(RELEASE) $(COMPONENT)"
    listed = run("apt-get", "indextargets", "--format", f"$(CREATED_BY)|$(ORIGIN)|{line}").stdout.splitlines()
    ours = [entry.split("|", 2)[2] for entry in listed if entry.startswith("Packages|Debian|")]
    return sorted({entry for entry in ours if entry.split()[2].startswith(release())})


def _machine_apt_options() -> list[str]:
    """How this machine's apt reaches its sources (proxies, checks of dates); mmdebstrap does not look there itself."""
    dumped = run("apt-config", "dump").stdout.splitlines()
    wanted = re.compile(r'^(Acquire::(?:https?(?:::\S+)?|Check-\S+|Retries)) "(.+)";$')
    return [f'{found[1]} "{found[2]}"' for found in map(wanted.match, dumped) if found]


def _index_packages(folder: Path) -> None:
    for leftover in (folder / "lock", folder / "partial"):
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink(missing_ok=True)
    index = run("sh", "-c", 'cd "$1" && exec apt-ftparchive packages .', "index", str(folder)).stdout
    (folder / "Packages").write_text(index)


def _configure(root: Path) -> None:
    etc = root / "etc"
    (etc / "apt" / "sources.list").write_text("deb [trusted=yes] file:/srv/debian ./\n")
    for file in (etc / "apt" / "apt.conf.d").glob("*mmdebstrap*"):
        file.unlink()
    (etc / "apt" / "apt.conf.d" / "90recommends").write_text('APT::Install-Recommends "false";\n')
    run("chroot", str(root), "apt-get", "update", "--quiet")
    run("chroot", str(root), "useradd", "--create-home", "--shell", "/bin/bash", "--groups", "sudo", USER)
    (etc / "sudoers.d" / f"010_{USER}-nopasswd").write_text(f"{USER} ALL=(ALL) NOPASSWD: ALL\n")
    for key in (etc / "ssh").glob("ssh_host_*"):
        key.unlink()  # each host has its own
    for unit in _MASKED:
        (etc / "systemd" / "system" / unit).symlink_to("/dev/null")
    (root / "var" / "log" / "journal").mkdir(exist_ok=True)  # the journal outlives a reboot
    # Debian's Python reads this in every virtual environment: what lies in SHARED_SITE counts as installed there.
    site = f'import os, site\nif os.path.isdir("{SHARED_SITE}"):\n    site.addsitedir("{SHARED_SITE}")\n'
    for folder in etc.glob("python3.*"):
        (folder / "sitecustomize.py").write_text(site)
