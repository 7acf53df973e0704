"""The disk of a run's folder, of an agent's state or of a room's data is full: small file systems, real processes.

Whoever cannot write says which file and what to do. The run goes on, or stops and can be resumed; when there is room
again it comes to the same models as if there had always been, with nothing lost and nothing counted twice.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from coordinator.commands.conversation import EXIT_ERROR, EXIT_STOPPED
from learning.folders import load_folder
from tests.integration.federation import RUN_ID, Process
from tests.integration.halting_party import Halt
from tests.integration.phased_federation import (
    AGENT,
    PhasedFederation,
    check_models,
    check_nothing_counted_twice,
    phased_federation,
    undisturbed_models,
)
from tests.integration.small_disk import NoMountError, SmallDisk

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

TODO = "No space left on device; make room on this disk"

Mount = Callable[[str], SmallDisk]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Mounts a small disk on a folder of the federation. Where nobody may, the test is skipped, but in CI it fails."""
    with ExitStack() as disks:

        def mount(folder: str) -> SmallDisk:
            try:
                return disks.enter_context(SmallDisk(tmp_path / folder))
            except NoMountError as error:
                if os.environ.get("CI"):
                    raise
                pytest.skip(str(error))

        yield mount


@pytest.fixture
def disk(request: pytest.FixtureRequest, mount: Mount) -> SmallDisk:
    """On the folder that the test asks for; there before the federation is, and after it."""
    return mount(request.param)


@pytest.fixture
def federation(mosquitto_program: str, tmp_path: Path, disk: SmallDisk) -> Iterator[PhasedFederation]:
    """Not started; a folder of it is on the small disk."""
    assert mosquitto_program
    assert disk
    with phased_federation(tmp_path) as federation:
        yield federation


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The digests of the global model after each round when nothing happens."""
    return undisturbed_models(tmp_path_factory.mktemp("undisturbed"))


on_the_runs_disk = pytest.mark.parametrize("disk", ["runs"], indirect=True)
on_the_agents_disk = pytest.mark.parametrize("disk", [f"{AGENT}/state"], indirect=True)
on_the_rooms_disk = pytest.mark.parametrize("disk", [f"{AGENT}/data"], indirect=True)


def check_complaint(process: Process, file: Path) -> None:
    """It has said what cannot be written, and what to do, without a word that is only for programmers."""
    lines = [line for line in process.log().splitlines() if str(file) in line]
    assert any(TODO in line for line in lines), process.log()
    assert "Traceback" not in process.log()


@on_the_runs_disk
@pytest.mark.parametrize("phase", ["aggregation", "checkpoint"])
def test_run_stops_with_the_reason_when_its_disk_is_full_and_goes_on_when_there_is_room(
    federation: PhasedFederation, undisturbed: list[str], disk: SmallDisk, phase: str
) -> None:
    coordinator = federation.start_until(phase)
    disk.fill()
    coordinator.go_on()

    assert coordinator.wait() == EXIT_STOPPED
    check_complaint(coordinator, federation.runs / RUN_ID)
    assert f"coordinator resume {RUN_ID}" in coordinator.log()
    assert all(agent.exit_code is None for agent in federation.agents.values())
    closed = [record.model_sha256 for record in federation.rounds()]
    assert closed == undisturbed[: len(closed)]

    disk.make_room()
    federation.resume()

    rounds = federation.finish()
    check_models(federation, rounds, undisturbed)
    check_nothing_counted_twice(federation, rounds)


@on_the_runs_disk
def test_run_stops_again_when_it_is_resumed_and_its_disk_is_still_full(
    federation: PhasedFederation, undisturbed: list[str], disk: SmallDisk
) -> None:
    coordinator = federation.start_until("aggregation")
    disk.fill()
    coordinator.go_on()
    assert coordinator.wait() == EXIT_STOPPED

    federation.resume()

    assert coordinator.wait() == EXIT_STOPPED
    check_complaint(coordinator, federation.runs / RUN_ID)

    disk.make_room()
    federation.resume()
    check_models(federation, federation.finish(), undisturbed)


@on_the_runs_disk
def test_new_run_does_not_begin_when_the_disk_is_full_and_leaves_nothing_in_its_way(
    federation: PhasedFederation, undisturbed: list[str], disk: SmallDisk
) -> None:
    disk.fill()
    federation.coordinator.start("run", str(federation.config))
    assert federation.coordinator.wait() == EXIT_ERROR
    check_complaint(federation.coordinator, federation.runs / RUN_ID)

    disk.make_room()
    federation.start()

    check_models(federation, federation.finish(), undisturbed)


@on_the_agents_disk
def test_update_waits_for_room_on_the_agents_disk_and_counts_when_there_is(
    federation: PhasedFederation, undisturbed: list[str], disk: SmallDisk
) -> None:
    agent = federation.start_until("training")
    disk.fill()
    agent.go_on()
    federation.wait_until(lambda: bool(federation.events("agent-failed")), "the coordinator to be told")
    check_complaint(agent, disk.folder)
    assert TODO in federation.events("agent-failed")[0].detail

    disk.make_room()

    rounds = federation.finish()
    check_models(federation, rounds, undisturbed)
    check_nothing_counted_twice(federation, rounds)
    assert agent.log().count("round_number=2: training") == 1


@on_the_agents_disk
def test_round_asks_again_when_the_agent_whose_disk_was_full_is_started_anew(
    federation: PhasedFederation, undisturbed: list[str], disk: SmallDisk
) -> None:
    agent = federation.start_until("training")
    disk.fill()
    agent.go_on()
    federation.wait_until(lambda: bool(federation.events("agent-failed")), "the coordinator to be told")
    agent.kill()
    disk.make_room()

    agent.start()

    rounds = federation.finish()
    check_models(federation, rounds, undisturbed)
    check_nothing_counted_twice(federation, rounds)
    assert agent.log().count("round_number=2: training") == 1


@on_the_agents_disk
def test_update_that_carries_nothing_goes_out_although_the_agents_disk_is_full(
    federation: PhasedFederation, disk: SmallDisk
) -> None:
    federation.config.write_text(federation.config.read_text().replace('"scaffold"', '"fedavg"'))
    agent = federation.party(AGENT)
    agent.halt = Halt("training", 1)
    federation.start()
    federation.wait_until(lambda: agent.stands_still, "the agent to train")
    disk.fill()
    agent.go_on()

    rounds = federation.finish()

    check_nothing_counted_twice(federation, rounds)
    check_complaint(agent, disk.folder)
    assert "after a restart this must be trained or fetched again" in agent.log()


@on_the_agents_disk
def test_agent_says_what_to_do_when_it_is_started_on_a_full_disk(
    federation: PhasedFederation, undisturbed: list[str], disk: SmallDisk
) -> None:
    agent = federation.party(AGENT)
    disk.fill()
    agent.start()
    assert agent.wait() == EXIT_ERROR
    check_complaint(agent, disk.folder)

    disk.make_room()
    federation.start()

    check_models(federation, federation.finish(), undisturbed)


@on_the_rooms_disk
def test_room_trains_on_when_the_disk_of_its_data_is_full(
    federation: PhasedFederation, undisturbed: list[str], disk: SmallDisk
) -> None:
    disk.fill()
    federation.start()

    rounds = federation.finish()

    check_models(federation, rounds, undisturbed)
    check_nothing_counted_twice(federation, rounds)


@on_the_rooms_disk
def test_data_stays_whole_when_the_disk_has_no_room_for_what_shall_replace_it(
    federation: PhasedFederation, disk: SmallDisk
) -> None:
    before = load_folder(disk.folder)
    program = federation.coordinator
    disk.fill()
    out = ("--agents", disk.folder.name, "--out", str(disk.folder.parent), "--overwrite")

    program.start("partition", "--dataset", "digits", *out)

    assert program.wait() == EXIT_ERROR
    check_complaint(program, disk.folder)
    assert load_folder(disk.folder).features.tobytes() == before.features.tobytes()
    disk.make_room()
    assert [path.name for path in disk.folder.iterdir()] == ["examples.npz"]


@on_the_rooms_disk
def test_agent_names_the_file_when_its_data_was_cut_off_by_a_full_disk(
    federation: PhasedFederation, undisturbed: list[str], disk: SmallDisk
) -> None:
    agent = federation.party(AGENT)
    file = disk.folder / "examples.npz"
    copy = file.read_bytes()
    file.unlink()
    disk.fill()
    file.with_name("ballast-1").unlink()  # a file more, of whose content nothing finds room
    with pytest.raises(OSError, match="No space left"):
        file.write_bytes(copy)
    agent.start()
    assert agent.wait() == EXIT_ERROR
    assert f"{file.parent}: examples.npz is truncated" in agent.log()

    disk.make_room()
    file.write_bytes(copy)
    federation.start()

    check_models(federation, federation.finish(), undisturbed)
