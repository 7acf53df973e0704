"""Each party is killed, suspended or restarted at each phase of a round: the run ends as if nothing had happened.

The phase is reached exactly: the process that is in it stops itself there (see `halting_party.py`). Nothing here waits
for time to pass; a party stays suspended until the broker, or everybody else, has given it up.

Left out of agent, coordinator and broker times every phase: nothing, except that the broker alone can lose a database.
"""

import signal
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from coordinator.commands.conversation import EXIT_STOPPED
from tests.integration.forked_process import ForkedProcess
from tests.integration.halting_party import Halt
from tests.integration.phased_federation import (
    AGENT,
    STRUCK,
    PhasedFederation,
    check_models,
    check_nothing_counted_twice,
    phased_federation,
    undisturbed_models,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

PHASES = ("announcement", "record", "download", "training", "upload", "aggregation", "checkpoint")
CASES = [
    *product(("agent", "coordinator"), PHASES, ("kill", "suspend", "restart")),
    *product(("broker",), PHASES, ("kill", "kill-and-forget", "suspend", "restart")),
]


def strike_process(federation: PhasedFederation, victim: ForkedProcess, halted: ForkedProcess, action: str) -> None:
    """Do something to a process while another one, or itself, stands still; then let everything go on."""
    if action == "suspend":
        victim.signal(signal.SIGSTOP)
        if victim is not halted:
            halted.go_on()
        federation.wait_until_given_up(victim.name)
        victim.go_on()
        return
    if action == "kill":
        victim.kill()
    else:
        victim.signal(signal.SIGTERM)
        victim.go_on()
        assert victim.wait() == (EXIT_STOPPED if victim is federation.coordinator else 0), victim.log()
    if victim is not halted:
        halted.go_on()
    federation.start_again(victim)


def strike_broker(federation: PhasedFederation, halted: ForkedProcess, action: str) -> None:
    """Do something to the broker while a party stands still; then let everything go on."""
    broker = federation.broker
    if action == "suspend":
        broker.suspend()
        halted.go_on()
        federation.wait_until_all_lost_the_broker()
        broker.resume()
        return
    if action == "restart":
        broker.stop()
    else:
        broker.save()  # there is something to lose, and to come back to
        broker.kill()
    if action == "kill-and-forget":
        (broker.folder / "data" / "mosquitto.db").unlink()
    halted.go_on()
    broker.start()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The digests of the global model after each round when nothing happens: from the simulation."""
    return undisturbed_models(tmp_path_factory.mktemp("undisturbed"))


@pytest.fixture
def federation(mosquitto_program: str, tmp_path: Path) -> Iterator[PhasedFederation]:
    """Not started."""
    assert mosquitto_program
    with phased_federation(tmp_path) as federation:
        yield federation


@pytest.mark.parametrize(("party", "phase", "action"), CASES)
def test_run_ends_as_if_nothing_had_happened_when_a_party_fails_in_a_phase(
    federation: PhasedFederation, undisturbed: list[str], party: str, phase: str, action: str
) -> None:
    halted = federation.start_until(phase)
    if party == "broker":
        strike_broker(federation, halted, action)
    else:
        strike_process(federation, federation.party(AGENT if party == "agent" else party), halted, action)
    rounds = federation.finish()

    check_models(federation, rounds, undisturbed)
    check_nothing_counted_twice(federation, rounds)
    check_record(federation, party, phase, action)


def test_update_counts_once_when_its_receipt_was_lost_and_it_is_sent_again(
    federation: PhasedFederation, undisturbed: list[str]
) -> None:
    # In one piece: in chunks it would be offered again only after two minutes.
    federation.config.write_text(federation.config.read_text().replace("chunk_kib = 16", "chunk_kib = 1024"))
    late = federation.party("room-1")
    late.halt = Halt("training", STRUCK)  # the round stays open
    federation.coordinator.command.append("--verbose")
    coordinator = federation.start_until("receipt")
    federation.wait_until(lambda: late.stands_still, "room-1 to train")
    federation.broker.kill()
    coordinator.go_on()
    federation.broker.start()
    again = f"agent_id={AGENT} refused: duplicate"
    federation.wait_until(lambda: again in coordinator.log(), f"{AGENT} to send its update again")
    late.go_on()
    rounds = federation.finish()

    check_models(federation, rounds, undisturbed)
    check_nothing_counted_twice(federation, rounds)
    assert rounds[STRUCK - 1].refused[AGENT]["duplicate"] == 1


def check_record(federation: PhasedFederation, party: str, phase: str, action: str) -> None:
    """The record says what happened, and nothing that did not."""
    began_anew = party == "coordinator" and action != "suspend"
    assert len(federation.events("resumed")) == began_anew
    assert len(federation.events("finished")) == 1
    # What is closed and on disk is not opened again. One that is asked to end closes the round first.
    closed = phase == "checkpoint" or (phase, action) == ("aggregation", "restart")
    # That a round is open is noted last.
    unnoted = phase in ("announcement", "record") and action == "kill"
    opened = [event.round_number for event in federation.events("round-opened")]
    assert opened.count(STRUCK) == (2 if began_anew and not closed and not unnoted else 1)
    lost, connected = federation.events("broker-lost"), federation.events("broker-connected")
    if party == "broker" or (party, action) == ("coordinator", "suspend"):
        assert lost
        assert len(connected) == 1 + len(lost)
    if party == "agent":
        changes = [
            (event.at, event.name)
            for name in ("agent-online", "agent-offline")
            for event in federation.events(name)
            if event.agent_id == AGENT
        ]
        names = [name for _, name in sorted(changes)]
        assert names[0] == names[-1] == "agent-online"
        assert "agent-offline" in names
