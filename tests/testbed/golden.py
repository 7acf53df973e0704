"""The golden layer: the Debian that a freshly flashed host starts from, made once and kept in the cache.

It has what Raspberry Pi OS Lite has anyway, a user `pi` who may use sudo, and under /srv/debian the packages that the
playbook installs, as a local package source: the hosts have no internet, and apt works on them all the same. It is made
anew when its recipe changes.
"""

import fcntl
import hashlib
import inspect
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.testbed.names import USER, cache_folder
from tests.testbed.programs import run

BASE = (
    *("systemd", "systemd-sysv", "systemd-timesyncd", "dbus", "libpam-systemd", "udev", "kmod"),
    *("openssh-server", "sudo", "python3", "python3-apt", "ca-certificates", "cron", "logrotate"),
    *("iproute2", "iputils-ping", "iptables", "nftables", "ethtool", "procps", "less", "rsync", "curl"),
)
"""On every host before the playbook comes: what a Pi has, and what the tests shape the link with."""

SOURCE = (
    *("mosquitto", "mosquitto-clients", "python3-venv", "python3-pip", "python3-packaging", "python3-setuptools"),
    *("influxdb", "influxdb-client", "nginx-light", "chrony", "zram-tools", "openssl", "acl"),
    *("python3-cryptography", "python3-requests", "python3-yaml", "unattended-upgrades"),
)
"""What the local package source offers, with everything that these need."""

SHARED_SITE = Path("/srv/site")
"""Where hosts that share the controller's PyTorch find it; nothing lies there on the others."""

_DEBIANS = {"bookworm", "trixie"}
_BUILD_LIMIT_S = 900.0
_MASKED = ("apt-daily.timer", "apt-daily-upgrade.timer", "systemd-networkd-wait-online.service")


def golden_layer() -> Path:
    """The root of the golden layer; made when it is missing or its recipe has changed."""
    layer = _layer()
    with _lock(cache_folder() / "layer.lock"):
        if not layer.exists():
            print("testbed: making the Debian that the hosts start from; this takes minutes, once", file=sys.stderr)  # noqa: T201
            _make(layer)
            _remove_others(layer)
    return layer / "root"


def is_made() -> bool:
    """True when the golden layer is there, so that hosts boot within seconds."""
    return _layer().exists()


def _layer() -> Path:
    return cache_folder() / f"layer-{recipe()}"


def recipe() -> str:
    """Changes whenever a layer made now would differ by our doing: packages, release or the steps' own text."""
    steps = "".join(inspect.getsource(step) for step in (_bootstrap, _index_packages, _configure))
    ingredients = repr((release(), BASE, SOURCE, _MASKED, SHARED_SITE, USER, steps))
    return hashlib.sha256(ingredients.encode()).hexdigest()[:12]


def release() -> str:
    """The hosts' Debian: this machine's, as hosts that share its PyTorch need its Python; else Debian 12."""
    described = Path("/etc/os-release").read_text() if Path("/etc/os-release").exists() else ""
    found = re.search(r"^VERSION_CODENAME=(\w+)$", described, re.MULTILINE)
    return found[1] if found and found[1] in _DEBIANS else "bookworm"


def _make(layer: Path) -> None:
    """Build beside its place and move it there whole, so that an interrupted build leaves no half layer."""
    with tempfile.TemporaryDirectory(dir=layer.parent, prefix="building-") as folder:
        build = Path(folder) / "layer"
        build.mkdir()
        root = build / "root"
        _bootstrap(root)
        _index_packages(root / "srv" / "debian")
        _configure(root)
        build.rename(layer)


def _bootstrap(root: Path) -> None:
    download = (
        'APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get install --download-only --yes '
        f'-o Dir::Cache::Archives="$1/srv/debian" {" ".join(SOURCE)}'
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


def _remove_others(layer: Path) -> None:
    """Layers of former recipes, unless a test bed stands on them."""
    mounts = Path("/proc/mounts").read_text()
    for other in layer.parent.glob("layer-*"):
        if other.is_dir() and other != layer and str(other) not in mounts:
            shutil.rmtree(other)


@contextmanager
def _lock(file: Path) -> Iterator[None]:
    descriptor = os.open(file, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
