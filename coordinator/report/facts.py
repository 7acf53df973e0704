"""What a report is about, read once from a run's folder, and its configuration without secrets."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from coordinator import summary
from coordinator.run_folder import Record, RunFolder
from coordinator.run_summary import RunSummary, summarise
from coordinator.study import StudyResult, study_result

_ELSEWHERE = {"run_id", "environment", "hardware"}
_SECRETS = {"username", "password_file", "ca", "cert", "key", "token_file", "user", "tls_cert", "tls_key"}
_LEFT_OUT = frozenset(_ELSEWHERE | _SECRETS)
"""Of the configuration: what stands elsewhere in the report, and who has which secret."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the report is about, read once."""

    run: RunFolder
    state: RunSummary
    records: list[Record]
    devices: list[summary.DeviceSummary]
    totals: summary.RunTotals
    latencies: Mapping[int, Mapping[str, float]]
    straggler: summary.Straggler | None
    study: StudyResult | None

    @classmethod
    def read(cls, run: RunFolder) -> "Facts":
        """Everything about a run.

        Raises:
            StorageError: its files cannot be read.
        """
        records = run.records()
        latencies = summary.latencies_by_round(records)
        return cls(
            run=run,
            state=summarise(run),
            records=records,
            devices=summary.summarise_devices(records),
            totals=summary.total(records),
            latencies=latencies,
            straggler=summary.find_straggler(latencies),
            study=_study_of(run.config),
        )


def _study_of(config: Mapping[str, Any]) -> StudyResult | None:
    """The reference study's result, when this run trains the same model on the same data."""
    training, data = config.get("training", {}), config.get("data", {})
    comparable = (training.get("model"), data.get("dataset"), training.get("batch_size")) == ("cnn", "mnist", 16)
    return study_result(str(data.get("partition"))) if comparable else None


def target_of(config: Mapping[str, Any]) -> float | None:
    """The accuracy at which the run was to end, where it had a target."""
    target = config.get("rounds", {}).get("target_accuracy")
    return float(target) if target is not None else None


def settings_of(config: Mapping[str, Any]) -> dict[str, dict[str, object]]:
    """The configuration by section; top-level keys are under an empty name."""
    shown = {key: value for key, value in config.items() if key not in _LEFT_OUT}
    sections: dict[str, dict[str, object]] = {
        "": {key: value for key, value in shown.items() if not isinstance(value, Mapping) and value is not None}
    }
    for name, values in shown.items():
        if isinstance(values, Mapping):
            sections[name] = {key: value for key, value in values.items() if key not in _LEFT_OUT}
    return sections
