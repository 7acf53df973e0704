"""The run's configuration and both example files: complete, loadable, and true about the defaults."""

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from coordinator.config import RunConfig
from edge_agent.config import AgentConfig
from schemas.errors import ConfigError
from transport.setting_problems import all_keys
from transport.settings import FileSettings, load_settings, settings_from

EXAMPLES = Path(__file__).parents[3] / "examples"
EXAMPLE_FILES: list[tuple[str, type[FileSettings]]] = [("run.toml", RunConfig), ("agent.toml", AgentConfig)]

_KEY = re.compile(r"^(?P<off># )?(?P<line>(\[[a-z]+\].*|[a-z_]+ = .*))$")


def uncommented(text: str) -> str:
    """The file with every key switched on."""
    lines = (_KEY.match(line.rstrip()) for line in text.splitlines())
    return "\n".join(match["line"] for match in lines if match)


def keys_in(text: str) -> set[str]:
    """Dotted keys of a TOML text."""
    out: set[str] = set()
    for key, value in tomllib.loads(text).items():
        out |= {f"{key}.{inner}" for inner in value} if isinstance(value, dict) else {key}
    return out


@pytest.mark.parametrize(("name", "kind"), EXAMPLE_FILES)
def test_example_holds_every_key_and_no_other(name: str, kind: type[FileSettings]) -> None:
    dotted = {".".join(key) for key in all_keys(kind)}
    leaves = {key for key in dotted if not any(other.startswith(f"{key}.") for other in dotted)}

    assert keys_in(uncommented((EXAMPLES / name).read_text())) == leaves


@pytest.mark.parametrize(("name", "kind"), EXAMPLE_FILES)
def test_every_key_of_an_example_is_explained(name: str, kind: type[FileSettings]) -> None:
    del kind
    lines = (EXAMPLES / name).read_text().splitlines()
    twins = {"password_file", "url"}  # explained by the line above, or by their names

    bare = [
        line
        for line in lines
        if (match := _KEY.match(line.rstrip())) and " # " not in line[2:] and match["line"][0] != "["
    ]

    assert {line.lstrip("# ").split(" ")[0] for line in bare} <= twins


def test_example_run_has_the_defaults() -> None:
    assert load_settings(RunConfig, EXAMPLES / "run.toml") == RunConfig()


def test_example_agent_has_the_defaults() -> None:
    config = load_settings(AgentConfig, EXAMPLES / "agent.toml")

    required = {"agent_id": "kitchen", "data_folder": EXAMPLES / "data", "state_folder": EXAMPLES / "state"}
    assert config == AgentConfig.model_validate(required)


def test_rules_carry_every_number_of_the_rounds_section() -> None:
    config = settings_from(
        RunConfig,
        {"rounds.count": 7, "rounds.max_model_mib": 2, "rounds.chunk_kib": 32, "rounds.min_updates": 3}
        | {"rounds.deadline_s": 11.0, "rounds.required_agents": ["a"], "data.dataset": "none"},
    )

    rules = config.rules("run-1")

    assert (rules.rounds, rules.min_updates, rules.deadline_s, rules.required_agents) == (7, 3, 11.0, frozenset({"a"}))
    assert (rules.max_model_bytes, rules.chunk_bytes, rules.evaluate) == (2 * 1024 * 1024, 32 * 1024, False)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"training.strategy": "fedavgg"}, "there is no strategy 'fedavgg': expected one of"),
        ({"training.strategy": "fedavgg"}, "did you mean 'fedavg'?"),
        ({"training.codec": "fp33"}, "codec 'fp33': expected fp32, fp16"),
        ({"rounds.quorum": 1, "rounds.min_updates": 2}, "quorum 1 is lower than min_updates 2"),
        (
            {"rounds.required_agents": ["a"], "rounds.allowed_agents": ["b"]},
            "required_agents ['a'] are not in allowed_agents",
        ),
        ({"aggregation.rule": "medain"}, "there is no aggregation 'medain': expected one of"),
        (
            {"aggregation.rule": "krum", "rounds.min_updates": 4},
            "'krum' withstands 1 attackers in rounds of at least 5 updates, but rounds.min_updates is 4",
        ),
        ({"aggregation.rule": "norm-clipping", "rounds.min_updates": 2}, "at least 3 updates"),
        ({"run_id": "Run 1"}, "run_id: expected 1 to 63 lower-case letters, digits or '-'"),
        ({"data.dataset": "cifar"}, "data.dataset: expected one of 'mnist'"),
    ],
)
def test_run_that_cannot_work_is_refused(options: dict[str, object], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings_from(RunConfig, options)

    assert expected in str(caught.value)
    assert str(caught.value).startswith("command line: ")


@pytest.mark.parametrize(
    ("name", "whose"),
    [
        ("coordinator", "the coordinator's own name"),
        ("monitor", "the name of the broker's monitor"),
        ("unknown", "the name under which strangers are counted"),
    ],
)
def test_agent_cannot_take_a_name_that_means_somebody_else(name: str, whose: str) -> None:
    with pytest.raises(ConfigError, match=f"agent_id: '{name}' is {whose}: choose another one, such as 'room-1'"):
        settings_from(AgentConfig, {"agent_id": name, "data_folder": "d", "state_folder": "s"})
    with pytest.raises(ConfigError, match=f"'{name}' is {whose}"):
        settings_from(RunConfig, {"rounds.allowed_agents": ["room-1", name]})


def test_updates_that_would_not_fit_into_memory_are_refused_with_the_numbers() -> None:
    model = {"w": np.zeros(2**20, np.float32)}
    options = {"aggregation.rule": "median", "aggregation.max_memory_mib": 15, "rounds.min_updates": 3}

    assert settings_from(RunConfig, options).put_together(model).max_updates(model) == 3
    with pytest.raises(ConfigError) as caught:
        settings_from(RunConfig, options | {"rounds.min_agents": 4}).put_together(model)

    expected = "4 agents of 4,194,304 bytes each are 16 MiB, but aggregation.max_memory_mib is 15"
    assert expected in str(caught.value)


def test_mean_keeps_no_updates_and_needs_no_memory_for_them() -> None:
    model = {"w": np.zeros(2**20, np.float32)}
    options = {"aggregation.max_memory_mib": 1, "rounds.min_agents": 1000}

    assert settings_from(RunConfig, options).put_together(model).max_updates(model) is None
