"""What the device can tell about itself: CPU time, memory, temperature, throttling. Reads files, decides nothing."""

import os
import resource
from pathlib import Path

THERMAL = Path("/sys/class/thermal/thermal_zone0/temp")
THROTTLED = Path("/sys/devices/platform/soc/soc:firmware/get_throttled")
"""A Raspberry Pi's firmware: bits 0-3 under-voltage, frequency capped, throttled, soft temperature limit, now."""

_NOW = 0xF
_MOST_BYTES = 64


def cpu_seconds() -> float:
    """CPU seconds of this process so far, all threads, user and system."""
    times = os.times()
    return times.user + times.system


def peak_rss_bytes() -> int:
    """The highest resident set size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def cpu_temperature_c(path: Path = THERMAL) -> float | None:
    """Degrees Celsius, or None where there is no sensor."""
    text = _read(path)
    try:
        return int(text) / 1000 if text else None
    except ValueError:
        return None


def throttled(path: Path = THROTTLED) -> bool | None:
    """True when the firmware holds the CPU back right now; None on other machines."""
    text = _read(path)
    try:
        return bool(int(text, 16) & _NOW) if text else None
    except ValueError:
        return None


def _read(path: Path) -> str:
    # Once a round on the way to the next one: without the layers of a text file, which cost ten times the reading.
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(fd, _MOST_BYTES).decode("ascii", "replace").strip()
    except OSError:
        return ""
    finally:
        os.close(fd)
