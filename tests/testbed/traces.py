"""What is on a host, so that before and after can be compared."""

from dataclasses import dataclass

from tests.testbed.bed import Bed

_NOISE = (
    # The system's own bookkeeping, which goes on whatever is installed and removed.
    *("/proc", "/sys", "/dev", "/run", "/tmp", "/var/tmp", "/srv"),  # noqa: S108 (not used, left out)
    *("/var/log", "/var/cache", "/var/lib/apt", "/var/lib/dpkg", "/var/lib/systemd", "/var/lib/ucf", "/var/backups"),
    # Ansible's own, and what an operator types.
    *("/home/pi/.ansible", "/root"),
)


@dataclass(frozen=True, slots=True)
class Traces:
    """Everything of a host that outlives a reboot.

    Attributes:
        files: paths.
        packages: Debian's, installed or with configuration left.
        accounts: users and groups.
        units: systemd's, and whether they are enabled.
    """

    files: frozenset[str]
    packages: frozenset[str]
    accounts: frozenset[str]
    units: frozenset[str]

    def without(self, other: "Traces") -> dict[str, list[str]]:
        """By kind, what is here and not there; kinds without any left out."""
        kinds = {kind: sorted(getattr(self, kind) - getattr(other, kind)) for kind in self.__slots__}
        return {kind: found for kind, found in kinds.items() if found}


def traces(bed: Bed, host: str) -> Traces:
    """Look at a host."""

    def lines(command: str) -> frozenset[str]:
        return frozenset(bed.on(host, command).splitlines())

    pruned = " -o ".join(f"-path {path}" for path in _NOISE)
    return Traces(
        files=lines(f"find / \\( {pruned} \\) -prune -o -name __pycache__ -prune -o -print"),
        packages=lines("dpkg-query --show --showformat '${Package} ${db:Status-Status}\\n'"),
        accounts=lines("getent passwd; getent group"),
        units=lines("systemctl list-unit-files --no-legend --plain | awk '$2 != \"transient\" {print $1, $2}'"),
    )
