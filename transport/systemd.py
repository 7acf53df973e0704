"""Tells systemd how the process is doing (sd_notify), without a dependency.

Does nothing when the process was not started by a unit with `Type=notify`.
Protocol: https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
"""

import math
import os
import socket
from collections.abc import Mapping


class Notifier:
    """Reports readiness, status and liveness to the service manager named in the environment."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        meant_for_us = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        timeout_us = int(environment.get("WATCHDOG_USEC", "0")) if meant_for_us and self._address else 0
        self._interval_s = timeout_us / 2e6 if timeout_us else math.inf
        self.ping_at_s = -math.inf if timeout_us else math.inf

    def send(self, state: str) -> None:
        """Send one assignment such as `READY=1`; a manager that is away is no reason to fail."""
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            try:
                sock.sendto(state.encode(), socket.MSG_DONTWAIT, address)
            except OSError:
                return

    def ping_if_due(self, now_s: float) -> None:
        """Send the watchdog's sign of life when half of its time is over."""
        if now_s >= self.ping_at_s:
            self.send("WATCHDOG=1")
            self.ping_at_s = now_s + self._interval_s
