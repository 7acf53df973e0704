"""Records as a run leaves them, for tests that need some."""

from schemas.messages import AgentReport
from schemas.records import DeviceRecord, RoundRecord, RunEvent

RUN_ID = "run-1"
STARTED_AT = 1_790_000_000.25


def round_record(number: int = 1, **changes: object) -> RoundRecord:
    """Round `number`, in which two devices took part."""
    record = RoundRecord(
        run_id=RUN_ID,
        round_number=number,
        attempt=1,
        started_at=STARTED_AT + 10 * number,
        selected=("pi-1", "pi-2", "pi-3"),
        accepted=("pi-1", "pi-2"),
        refused={"pi-3": {"non-finite": 2}},
        ignored_fields=0,
        duration_s=4.5,
        broadcast_s=0.25,
        wait_s=4.0,
        aggregate_s=0.125,
        checkpoint_s=0.0625,
        evaluate_s=0.1,
        num_examples=1200,
        train_loss=0.5,
        loss=0.75,
        accuracy=0.875,
        model_sha256="0" * 64,
        payload_bytes_up=1000,
        payload_bytes_down=2000,
        packet_bytes_up=1100,
        packet_bytes_down=2200,
        slowest_agent_id="pi-2",
        slowest_latency_s=3.75,
        target_accuracy=0.9,
        rounds_planned=20,
    )
    return record.model_copy(update=changes)


def device_record(number: int = 1, agent_id: str = "pi-1", **changes: object) -> DeviceRecord:
    """What one device reported of round `number`."""
    report = AgentReport(
        download_s=0.5,
        train_s=3.0,
        upload_s=0.25,
        idle_s=1.5,
        batches=10,
        examples=600,
        loss=0.5,
        payload_bytes_up=400,
        payload_bytes_down=500,
        packet_bytes_up=450,
        packet_bytes_down=550,
        cpu_s=2.5,
        peak_rss_bytes=300_000_000,
        cpu_temperature_c=61.5,
        throttled=False,
    )
    record = DeviceRecord(
        run_id=RUN_ID,
        round_number=number,
        agent_id=agent_id,
        started_at=STARTED_AT + 10 * number,
        latency_s=3.75,
        report=report,
    )
    return record.model_copy(update=changes)


def run_event(name: str = "started", number: int = 0, **changes: object) -> RunEvent:
    """Something that happened during round `number`."""
    event = RunEvent(run_id=RUN_ID, at=STARTED_AT + 10 * number, name=name, round_number=number)
    return event.model_copy(update=changes)
