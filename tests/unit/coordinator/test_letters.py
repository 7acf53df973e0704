"""What the coordinator writes: topics, what is retained, what is written once for many."""

from coordinator.letters import Letters
from coordinator.members import Member
from coordinator.rules import RoundRules
from schemas import wire
from schemas.messages import CoordinatorStatus, RoundAnnouncement, Standing
from schemas.topics import Kind
from schemas.versions import CURRENT
from tests.unit.coordinator.engine_driver import PLAN
from tests.unit.coordinator.test_open_round import opened

RULES = RoundRules(run_id="run-1", plan=PLAN, rounds=3)


def test_status_is_retained_unless_it_is_a_claim_or_answers_one() -> None:
    letters = Letters(RULES)
    status = CoordinatorStatus(state="online", session="1")
    assert letters.status(status).retain
    assert not letters.status(status.model_copy(update={"claim": True})).retain
    assert not letters.status(status.model_copy(update={"answers": "2"})).retain


def test_status_is_written_in_minor_zero() -> None:
    payload = Letters(RULES).status(CoordinatorStatus(state="online", session="1")).payload
    assert b'"v":"1.0"' in bytes(payload)


def test_announcement_is_personal() -> None:
    letters, round_ = Letters(RULES), opened("a", "b")
    first = letters.invitation(round_, "a", Member(last_accepted_round=3, recorded_reports=(1, 2)), 12.5)
    second = letters.invitation(round_, "b", Member(), 12.5)
    read = [wire.decode(letter.payload, RoundAnnouncement).message for letter in (first, second)]
    assert [(m.last_accepted_round, m.recorded_reports) for m in read] == [(3, (1,)), (0, ())]
    assert [m.deadline_s for m in read] == [12.5, 12.5]
    assert (first.address.kind, first.address.agent_id, first.expiry_s) == (Kind.ANNOUNCEMENT, "a", 12)


def test_reports_of_the_two_rounds_before_make_no_difference_to_the_announcement() -> None:
    round_ = opened("a")
    early, late = (Member(last_accepted_round=3, recorded_reports=recorded) for recorded in ((1, 2, 3), (1,)))
    payloads = [Letters(RULES).invitation(round_, "a", member, 12.5).payload for member in (early, late)]
    assert payloads[0] == payloads[1]


def test_announcement_is_written_anew_when_the_minor_changes() -> None:
    letters, round_, member = Letters(RULES), opened("a"), Member(minor=CURRENT.minor)
    before = letters.invitation(round_, "a", member, 5.0).payload
    assert letters.invitation(round_, "b", member, 5.0).payload is before
    assert b'"v":"1.0"' in bytes(letters.invitation(round_, "a", Member(minor=0), 5.0).payload)


def test_standing_says_what_counted_for_this_agent() -> None:
    standing = Standing(phase="waiting", run_id="run-1", closed_round=4)
    letter = Letters(RULES).standing("a", Member(last_accepted_round=2, recorded_reports=(1, 2)), standing)
    read = wire.decode(letter.payload, Standing).message
    assert (read.closed_round, read.last_accepted_round, read.recorded_reports) == (4, 2, (1, 2))
