"""The pauses between attempts to connect."""

from transport.timing import Backoff, Timing

TIMING = Timing(first_retry_s=1.0, longest_retry_s=60.0)


def test_pauses_double_up_to_the_longest_within_their_jitter() -> None:
    backoff = Backoff("pi-1", TIMING)

    for middle_s in (1, 2, 4, 8, 16, 32, 60, 60, 60):
        assert 0.5 * middle_s <= backoff.next_pause_s() <= 1.5 * middle_s


def test_first_pause_is_short_again_after_a_connection() -> None:
    backoff = Backoff("pi-1", TIMING)
    for _ in range(10):
        backoff.next_pause_s()

    backoff.reset()

    assert backoff.next_pause_s() <= 1.5


def test_parties_pause_differently_and_each_always_the_same() -> None:
    pauses = [[Backoff(name, TIMING).next_pause_s() for _ in range(2)] for name in ("pi-1", "pi-2")]

    assert pauses[0][0] == pauses[0][1]
    assert pauses[0] != pauses[1]


def test_thousand_failures_do_not_overflow() -> None:
    backoff = Backoff("pi-1", TIMING)

    assert max(backoff.next_pause_s() for _ in range(2000)) <= 90
