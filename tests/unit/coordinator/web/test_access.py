"""Who knows the token may look, and who has the cookie."""

from coordinator.web.access import Gate

TOKEN = "a token of enough characters"


def test_everybody_may_look_when_there_is_no_token() -> None:
    assert Gate(None).is_open
    assert Gate(None).admits(None)
    assert not Gate(None).knows("")


def test_token_and_cookie_open_the_gate_and_nothing_else_does() -> None:
    gate = Gate(TOKEN)

    assert gate.knows(TOKEN)
    assert gate.knows(f" {TOKEN}\n")
    assert gate.admits(gate.pass_value)
    for wrong in ("", TOKEN[:-1], TOKEN.upper(), "ä"):
        assert not gate.knows(wrong)
        assert not gate.admits(wrong)
    assert not gate.admits(TOKEN)
    assert not gate.admits(None)


def test_cookie_outlives_a_restart_and_ends_with_its_token() -> None:
    value = Gate(TOKEN).pass_value

    assert Gate(TOKEN).admits(value)
    assert not Gate(TOKEN + "2").admits(value)
    assert TOKEN not in value
