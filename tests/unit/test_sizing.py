"""How many entries are asked for, near the server and far from it, by slow handlers and quick ones."""

from __future__ import annotations

import pytest

from mainflux_events.sizing import (
    BATCH_BYTES,
    FIRST_ENTRIES,
    MANY_IN_TIME,
    MOST_ENTRIES,
    MOST_WAITING,
    SHORT_ENTRIES,
    Sizing,
)

ENTRY = 300  # bytes


class Reading:
    """A stream without an end, of which one batch is fetched while the one before is handled.

    Args:
        trip: seconds of a round trip.
        fetching, handling: seconds that each takes for an entry.

    Attributes:
        asked: how many entries were asked for, each time.
        waited: how long each batch was waited for.
    """

    def __init__(self, trip: float, *, fetching: float = 2e-6, handling: float = 8e-6) -> None:
        self.trip, self.fetching, self.handling = trip, fetching, handling
        self.sizing = Sizing(1, FIRST_ENTRIES)
        self.asked: list[int] = []
        self.waited: list[float] = []
        self._in_hand = 0

    def read(self, batches: int) -> None:
        for _ in range(batches):
            entries = self.sizing.entries
            handling = self._in_hand * self.handling
            waited = max(0.0, self.trip + entries * self.fetching - handling)
            self.sizing.came([entries], entries * ENTRY)
            self.sizing.taken(handling, waited)
            self.asked.append(entries)
            self.waited.append(waited)
            self._in_hand = entries

    def at_work(self, batches: int) -> float:
        """The part of the time of the last batches that was not waited."""
        work = sum(self.asked[-batches:]) * self.handling
        return work / (work + sum(self.waited[-batches:]))


def test_batches_stay_short_where_the_server_is_near() -> None:
    reading = Reading(0.0001)
    reading.read(200)
    assert reading.asked[:4] == [16, 32, 64, 128]
    assert set(reading.asked[4:]) == {SHORT_ENTRIES}


@pytest.mark.parametrize("milliseconds", [2, 5, 20])
def test_at_a_distance_they_outlast_a_round_trip(milliseconds: int) -> None:
    reading = Reading(milliseconds / 1000)
    reading.read(40)
    reading.read(1000)
    assert reading.at_work(1000) > 1 / (1 + MOST_WAITING)


def test_they_grow_with_each_trip() -> None:
    reading = Reading(0.02)
    reading.read(9)
    assert reading.asked == [16, 32, 64, 128, 256, 512, 1024, 2048, 4096]


def test_no_more_is_asked_for_than_the_most() -> None:
    reading = Reading(3.0)
    reading.read(50)
    assert max(reading.asked) == MOST_ENTRIES


def test_slow_handlers_keep_them_short_at_a_distance() -> None:
    reading = Reading(0.02, handling=0.001)
    reading.read(200)
    assert max(reading.asked) == SHORT_ENTRIES


def test_they_are_short_again_when_the_server_is_near_again() -> None:
    reading = Reading(0.005)
    reading.read(20)
    grown = reading.asked[-1]
    reading.trip = 0.0001
    reading.read(MANY_IN_TIME)
    assert reading.asked[-1] >= grown // 2
    reading.read(5 * MANY_IN_TIME)
    assert reading.asked[-1] == SHORT_ENTRIES


def test_one_that_came_late_is_no_distance() -> None:
    reading = Reading(0.0001)
    reading.read(20)
    reading.trip = 0.05
    reading.read(1)
    reading.trip = 0.0001
    reading.read(2 * MANY_IN_TIME)
    assert max(reading.asked) == 2 * SHORT_ENTRIES
    assert reading.asked[-1] == SHORT_ENTRIES


def test_who_waits_for_what_is_published_asks_for_no_more() -> None:
    sizing = Sizing(1, FIRST_ENTRIES)
    for _ in range(100):
        sizing.came([1], ENTRY)
        sizing.taken(0.00001, 0.5)
    assert sizing.entries == FIRST_ENTRIES


def test_large_entries_come_in_fewer() -> None:
    sizing = Sizing(1, FIRST_ENTRIES)
    sizing.came([FIRST_ENTRIES], FIRST_ENTRIES * BATCH_BYTES // 4)
    assert sizing.entries == 4


def test_the_bytes_of_a_batch_are_those_of_all_its_streams() -> None:
    sizing = Sizing(4, FIRST_ENTRIES)
    sizing.came([FIRST_ENTRIES] * 4, 4 * FIRST_ENTRIES * BATCH_BYTES // 32)
    assert sizing.entries == 8


def test_what_is_limited_grows_when_it_is_waited_for() -> None:
    sizing = Sizing(1, 1)
    sizing.limit(1)
    asked = []
    for _ in range(5):
        asked.append(sizing.entries)
        sizing.came([sizing.entries], sizing.entries * ENTRY)
        sizing.taken(0.00001, 0.01)
    assert asked == [1, 1, 2, 4, 8]
