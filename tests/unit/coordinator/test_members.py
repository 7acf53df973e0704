"""Who is there: the counts that spare a walk through all members agree with one."""

from hypothesis import given
from hypothesis import strategies as st

from coordinator.members import REMEMBERED_REPORTS, Members

STEPS = st.lists(
    st.tuples(
        st.sampled_from("abc"), st.sampled_from(["arrive", "leave", "hear", "hush", "forgive"]), st.integers(0, 1)
    )
)


@given(STEPS)
def test_counts_agree_with_the_members(steps: list[tuple[str, str, int]]) -> None:
    members = Members()
    for agent_id, what, minor in steps:
        member = members.admit(agent_id)
        assert member is not None
        match what:
            case "arrive":
                members.arrive(member, minor)
            case "leave":
                members.leave(member)
            case "hear":
                members.hear(member)
            case "hush":
                members.hush(member)
            case _:
                members.forgive()
        online = [members.get(name) for name in members.online()]
        assert members.num_online == len(online)
        assert members.num_eligible == len(members.eligible())
        assert members.lowest_minor(9) == min((m.minor for m in online if m is not None), default=9)


def test_stranger_is_not_admitted_when_there_is_a_list() -> None:
    members = Members(frozenset({"a"}))
    assert members.admit("b") is None
    assert members.admit("a") is members.get("a")


def test_latest_reports_are_remembered() -> None:
    members = Members()
    member = members.admit("a")
    assert member is not None
    assert all(member.add_report(number) for number in range(1, 12))
    assert not member.add_report(11)
    assert member.reports == list(range(12 - REMEMBERED_REPORTS, 12))


def test_snapshot_holds_the_round_that_is_being_saved() -> None:
    members = Members()
    for agent_id in ("a", "b"):
        members.admit(agent_id)
    snapshot = members.snapshot(3, {"a"})
    assert snapshot == {"a": [3, []], "b": [0, []]}
    again = Members()
    again.restore(snapshot, reports_kept=True)
    restored = again.get("a")
    assert restored is not None
    assert (restored.last_accepted_round, restored.online) == (3, False)
