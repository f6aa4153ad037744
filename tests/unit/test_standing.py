"""How far a group is behind, by what the server says."""

from __future__ import annotations

import pytest

from mainflux_events import Lag
from mainflux_events.answers import Group, Stream
from mainflux_events.standing import lag

# A stream of ten entries, one a second, of which the first three were removed.
STREAM = Stream(length=7, first_id=b"4000-0", last_generated_id=b"10000-0")
NOTHING = 0, None


def group(delivered: str, undelivered: int | None = None) -> Group:
    return Group(b"mailers", delivered.encode(), undelivered)


@pytest.mark.parametrize(
    ("delivered", "pending", "expected"),
    [
        (group("10000-0"), NOTHING, Lag(0, 0.0)),
        (group("10000-0"), (2, b"8000-0"), Lag(2, 2.0)),
        (group("6000-0", 4), NOTHING, Lag(4, 4.0)),
        (group("6000-0", 4), (1, b"5000-0"), Lag(5, 5.0)),
        (group("2000-0"), NOTHING, Lag(7, 6.0)),
        (group("2000-0"), (1, b"1000-0"), Lag(8, 9.0)),
    ],
)
def test_what_is_not_delivered_and_what_is_pending_are_behind(
    delivered: Group, pending: tuple[int, bytes | None], expected: Lag
) -> None:
    assert lag(STREAM, delivered, *pending) == expected


def test_in_the_middle_only_later_servers_know_how_many() -> None:
    assert lag(STREAM, group("6000-0"), *NOTHING) == Lag(None, 4.0)


def test_a_stream_without_entries_leaves_only_what_is_pending() -> None:
    empty = Stream(length=0, first_id=None, last_generated_id=b"10000-0")
    assert lag(empty, group("5000-0"), *NOTHING) == Lag(0, 0.0)
    assert lag(empty, group("5000-0"), 1, b"4000-0") == Lag(1, 6.0)
