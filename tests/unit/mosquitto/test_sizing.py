"""The broker's limits: the documented formulas with numbers that one can check by hand."""

import itertools
from dataclasses import fields

import pytest

from mosquitto.sizing import DEFAULT_CHUNK_BYTES, BrokerLimits, limits_for
from schemas.errors import ConfigError

KIB = 1024
MIB = 1024 * 1024


def test_limits_follow_the_formulas_when_the_model_fits_one_packet() -> None:
    limits = limits_for(model_bytes=100 * KIB, num_agents=8, chunk_bytes=MIB)

    queued_bytes = 8 * (200 * KIB + 32 * KIB)
    assert limits == BrokerLimits(
        max_packet_bytes=MIB + 64 * KIB,
        max_inflight_messages=100,
        max_inflight_bytes=5 * (MIB + 64 * KIB),
        max_queued_messages=16 * 8 + 1000,
        max_queued_bytes=queued_bytes,
        max_connections=8 + 2 + 16,
        memory_bytes=64 * MIB + 2 * (queued_bytes + 8 * (100 * KIB + 64 * KIB)),
        open_files=26 + 64,
    )


def test_queue_holds_a_window_of_chunks_per_agent_when_the_model_is_large() -> None:
    limits = limits_for(model_bytes=300_000_000, num_agents=5)

    assert limits.max_queued_bytes == 5 * (4 * DEFAULT_CHUNK_BYTES + 32 * KIB)
    assert limits.max_packet_bytes == DEFAULT_CHUNK_BYTES + 64 * KIB


def test_queue_holds_one_packet_at_least_when_the_model_is_tiny() -> None:
    limits = limits_for(model_bytes=1, num_agents=1)

    assert limits.max_queued_bytes == limits.max_packet_bytes


def test_every_retained_status_fits_the_queue_when_there_are_thousands_of_agents() -> None:
    assert limits_for(model_bytes=190_000, num_agents=10_000).max_queued_messages > 10_000


@pytest.mark.parametrize("name", [field.name for field in fields(BrokerLimits)])
def test_no_limit_shrinks_when_agents_or_model_grow(name: str) -> None:
    sizes = [1, 190_000, 7_000_000, 300_000_000]
    agents = [1, 5, 50, 1_000, 10_000]
    for fewer, more in itertools.pairwise(agents):
        assert getattr(limits_for(190_000, fewer), name) <= getattr(limits_for(190_000, more), name)
    for smaller, larger in itertools.pairwise(sizes):
        assert getattr(limits_for(smaller, 5), name) <= getattr(limits_for(larger, 5), name)


def test_queue_fits_the_32_bits_that_mosquitto_reads_when_agents_are_many() -> None:
    assert limits_for(model_bytes=190_000, num_agents=10_000).max_queued_bytes == 2**31 - 1


def test_limits_are_refused_when_a_chunk_does_not_fit_an_mqtt_packet() -> None:
    with pytest.raises(ConfigError, match="MQTT packet"):
        limits_for(model_bytes=1, num_agents=1, chunk_bytes=256 * MIB)


@pytest.mark.parametrize("numbers", [(0, 1, 1), (1, 0, 1), (1, 1, -1)])
def test_limits_are_refused_when_a_number_is_not_positive(numbers: tuple[int, int, int]) -> None:
    with pytest.raises(ConfigError, match="positive"):
        limits_for(*numbers)
