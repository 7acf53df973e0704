"""Runs of any size and in any state, written as a coordinator writes them, for looking at the page.

Numbers come from a seed; nothing here has trained. What real processes record is tested in `test_live_run.py`.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from coordinator.run_folder import RunFolder
from schemas.messages import AgentReport
from schemas.records import DeviceRecord, RoundRecord, RunEvent

ROUND_S = 42.0
MODEL_BYTES = 190_000


class MadeUpRun:
    """A run that is being written; the methods are what happens, in order.

    Args:
        folder: new, and its lock held, when it is to look as if it were running.
        began_at: UTC seconds.
    """

    def __init__(self, folder: RunFolder, rooms: Sequence[str], began_at: float, seed: int = 1) -> None:
        self.folder = folder
        self.rooms = list(rooms)
        self.now_s = began_at
        self.round_number = 0
        self._rng = np.random.default_rng(seed)
        self._speed = dict(zip(self.rooms, self._rng.uniform(0.85, 1.15, len(self.rooms)), strict=True))

    def event(self, name: str, agent_id: str | None = None, detail: str = "") -> None:
        """Something happened, just now."""
        self.folder.append(
            RunEvent(
                run_id=self.folder.run_id,
                at=self.now_s,
                name=name,
                round_number=self.round_number,
                agent_id=agent_id,
                detail=detail,
            )
        )

    def begin(self) -> None:
        """The coordinator starts, and all rooms come."""
        self.event("started", detail="after round 0")
        self.now_s += 1
        self.event("broker-connected")
        for room in self.rooms:
            self.now_s += 0.01
            self.event("agent-online", room)

    def slow(self, room: str, factor: float) -> None:
        """This room takes so many times as long from now on."""
        self._speed[room] *= factor

    def open_round(self) -> None:
        """A round is announced."""
        self.round_number += 1
        self.event("round-opened", detail=f"{len(self.rooms)} devices asked")

    def report(self, room: str, **changes: object) -> float:
        """A room's report; the latency."""
        train_s: float = 30.0 * self._speed[room] * float(self._rng.uniform(0.97, 1.03))
        download_s, upload_s = (float(value) for value in self._rng.uniform(0.6, 2.2, 2))
        latency_s: float = download_s + train_s + upload_s
        values: dict[str, object] = {
            "download_s": download_s,
            "train_s": train_s,
            "upload_s": upload_s,
            "idle_s": float(self._rng.uniform(1, 8)),
            "batches": 40,
            "examples": 640,
            "loss": 1.9 / (1 + 0.3 * self.round_number),
            "payload_bytes_up": MODEL_BYTES,
            "payload_bytes_down": MODEL_BYTES + 900,
            "packet_bytes_up": MODEL_BYTES + 260,
            "packet_bytes_down": MODEL_BYTES + 1150,
            "cpu_s": train_s,
            "peak_rss_bytes": 231_000_000,
            "cpu_temperature_c": float(self._rng.uniform(52, 66)),
            "throttled": False,
        }
        self.folder.append(
            DeviceRecord(
                run_id=self.folder.run_id,
                round_number=self.round_number,
                agent_id=room,
                started_at=self.now_s,
                latency_s=latency_s,
                report=AgentReport.model_validate(values | changes),
            )
        )
        return latency_s

    def close_round(
        self, accepted: Sequence[str], latency_s: float, refused: dict[str, dict[str, int]] | None = None
    ) -> None:
        """The round ends with the updates of these rooms."""
        number = self.round_number
        accuracy = 0.97 - 0.72 * float(np.exp(-number / 6)) + float(self._rng.uniform(-0.008, 0.008))
        self.folder.append(
            RoundRecord(
                run_id=self.folder.run_id,
                round_number=number,
                attempt=1,
                started_at=self.now_s,
                selected=tuple(sorted(self.rooms)),
                accepted=tuple(sorted(accepted)),
                refused=refused or {},
                ignored_fields=0,
                duration_s=latency_s + 1.6,
                broadcast_s=0.2,
                wait_s=latency_s - 0.2,
                aggregate_s=0.15,
                checkpoint_s=0.25,
                evaluate_s=1.2,
                num_examples=640 * len(accepted),
                train_loss=1.9 / (1 + 0.3 * number),
                loss=2.1 / (1 + 0.35 * number),
                accuracy=accuracy,
                model_sha256=f"{number:064x}",
                payload_bytes_up=MODEL_BYTES * len(self.rooms),
                payload_bytes_down=MODEL_BYTES * len(accepted),
                packet_bytes_up=MODEL_BYTES * len(self.rooms) + 400,
                packet_bytes_down=MODEL_BYTES * len(accepted) + 700,
            )
        )
        self.now_s += latency_s + 1.6

    def rounds(self, count: int, absent: Sequence[str] = ()) -> None:
        """Whole rounds, without those who are absent."""
        there = [room for room in self.rooms if room not in absent]
        for _ in range(count):
            self.open_round()
            latency_s = max(self.report(room) for room in there)
            self.close_round(there, latency_s)


def new_folder(root: Path, run_id: str, rounds: int = 25, **changes: object) -> RunFolder:
    """The folder of a run that has not begun; `changes` go into its `[rounds]`."""
    config = {
        "run_id": run_id,
        "training": {"model": "cnn", "local_batches": 40, "batch_size": 16, "strategy": "fedavg", "codec": "fp32"},
        "rounds": {"count": rounds, "min_agents": 3, "min_updates": 2, "target_accuracy": 0.95, "deadline_s": 300.0}
        | changes,
        "data": {"dataset": "mnist"},
        "plan": {"learning_rate": 0.05},
    }
    return RunFolder.create(root, run_id, config)


def ended_now(rooms: Sequence[str], rounds: int) -> float:
    """When a run of so many rounds began if it has come up to now."""
    return time.time() - rounds * ROUND_S - len(rooms) * 0.01 - 5
