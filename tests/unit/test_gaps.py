"""The verdicts on what is gone: by tables, and against a model of a stream that knows the truth."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainflux_events.cursor import FIRST, Cursor, Lag
from mainflux_events.entries import Entries
from mainflux_events.gaps import MOST_MARKS, Extent, Mark, Place, number
from mainflux_events.hooks import GapDetails, ResetDetails
from mainflux_events.refusals import Refusal

LARGEST = 2**64 - 1
STREAM = "things"


def extent(first: int | None, last: int, length: int, added: int | None = None, deleted: int = 0) -> Extent:
    """What is said of entries with the IDs first-0 to last-0; ``added`` is None before Redis 7.0."""
    removed = None if added is None else added - length
    return Extent(length, None if first is None else (first, 0), (last, 0), added, removed, (deleted, 0))


NOTHING = extent(None, 0, 0, 0)


def entries(*milliseconds: int) -> Entries:
    return Entries.of((b"%d-0" % each, [b"operation", b"%d" % each]) for each in milliseconds)


def gap(after: int, next: int, missed: int | None, exact: bool) -> GapDetails:
    return GapDetails(STREAM, f"{after}-0", f"{next}-0", missed, exact)


def begun(id: str, said: Extent) -> Place:
    """Where somebody begins to read for the first time."""
    place = Place(Cursor("audit", STREAM))
    place.cursor.attach(id)
    place.begin(id, said)
    return place


def resumed(id: str) -> Place:
    """Where somebody goes on to read, in a new process."""
    place = Place(Cursor("audit", STREAM))
    place.cursor.attach(id)
    place.resume(id)
    return place


def caught_up(added: int | None = 5) -> Place:
    """Read from 1-0 to 5-0, all that was ever added."""
    place = begun(FIRST, extent(1, 5, 5, added))
    assert place.follow(entries(1, 2, 3, 4, 5), extent(1, 5, 5, added)) is None
    return place


# --- what the server says -------------------------------------------------------------------------------------------


def test_an_extent_is_read_from_what_redis_7_says() -> None:
    reply: list[Any] = [b"length", 2, b"last-generated-id", b"7-1", b"max-deleted-entry-id", b"4-0"]
    reply += [b"entries-added", 5, b"first-entry", [b"5-2", [b"a", b"1"]]]
    assert Extent.of(reply) == Extent(2, (5, 2), (7, 1), 5, 3, (4, 0))
    assert Extent.of(reply).last_id == "7-1"


def test_an_extent_is_read_from_what_redis_6_says() -> None:
    reply = [b"length", 0, b"last-generated-id", b"7-1", b"first-entry", None]
    assert Extent.of(reply) == Extent(0, None, (7, 1), None, None, (0, 0))


def test_a_stream_that_is_not_there_is_empty() -> None:
    assert Extent.of(Refusal("ERR no such key")) == NOTHING


def test_a_refusal_is_raised() -> None:
    with pytest.raises(Refusal, match="NOPERM"):
        Extent.of(Refusal("NOPERM no permission"))


# --- no gap ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("added", [None, 8])
@pytest.mark.parametrize("first", [1, 3, 5])
def test_nothing_is_missing_where_an_entry_at_or_before_the_place_is_there(
    first: int, added: int | None
) -> None:
    place = caught_up(None if added is None else 5)
    assert place.follow(entries(6, 7, 8), extent(first, 8, 9 - first, added)) is None
    assert (place.id, place.read) == ("8-0", 8)


def test_an_entry_of_its_own_that_was_trimmed_is_not_missing() -> None:
    assert caught_up().follow(entries(6, 7), extent(6, 7, 2, 7)) is None


def test_an_entry_of_its_own_that_was_trimmed_while_idle_is_not_missing() -> None:
    place = caught_up()
    assert place.follow(entries(), extent(None, 5, 0, 5)) is None
    assert place.follow(entries(6), extent(6, 6, 1, 6)) is None


@pytest.mark.parametrize("id", ["2-0", "2-7", f"3-{LARGEST}"])
@pytest.mark.parametrize("added", [None, 12])
def test_a_beginning_between_entries_misses_nothing(id: str, added: int | None) -> None:
    place = begun(id, extent(1, 6, 6, added))
    assert place.follow(entries(4, 5, 6), extent(1, 6, 6, added)) is None


@pytest.mark.parametrize("id", [FIRST, "2-0", f"4-{LARGEST}"])
@pytest.mark.parametrize("added", [None, 9])
def test_what_was_trimmed_before_a_subscription_began_is_not_missing(id: str, added: int | None) -> None:
    place = begun(id, extent(5, 9, 5, added))
    assert place.follow(entries(5, 6), extent(5, 9, 5, added)) is None
    assert place.follow(entries(7, 8), extent(6, 9, 4, added)) is None


def test_where_a_stored_cursor_is_before_a_stream_that_lost_nothing_there_is_no_gap() -> None:
    assert resumed("3-0").follow(entries(5, 6), extent(5, 6, 2, 2)) is None


@pytest.mark.parametrize("id", ["9-0", f"9-{LARGEST}"])
def test_a_beginning_ahead_of_the_stream_waits_for_it(id: str) -> None:
    place = begun(id, extent(1, 5, 5, 5))
    assert not place.broken(extent(1, 6, 6, 6))
    assert place.follow(entries(), extent(1, 6, 6, 6)) is None
    assert place.follow(entries(10), extent(1, 10, 7, 7)) is None


def test_what_was_deleted_in_the_middle_is_no_gap() -> None:
    place = caught_up()
    assert place.follow(entries(6, 8), extent(1, 9, 8, 9, deleted=7)) is None


def test_a_consumer_that_deletes_what_it_has_handled_misses_nothing() -> None:
    place = caught_up()
    for each in range(6, 20):
        assert place.follow(entries(each), extent(each, each + 1, 2, each + 1, deleted=each - 1)) is None


def test_before_redis_7_nothing_is_missing_behind_the_beginning() -> None:
    place = begun(FIRST, extent(None, 0, 0, None))
    assert place.follow(entries(3, 4), extent(3, 4, 2, None)) is None


# --- gaps -----------------------------------------------------------------------------------------------------------


def test_what_was_trimmed_unread_is_counted() -> None:
    assert caught_up().follow(entries(8, 9), extent(8, 9, 2, 9)) == gap(5, 8, 2, True)


def test_what_was_trimmed_unread_while_idle_is_told_with_the_next_entry() -> None:
    place = caught_up()
    assert place.follow(entries(), extent(None, 7, 0, 7)) is None
    assert place.follow(entries(8), extent(8, 8, 1, 8)) == gap(5, 8, 2, True)


def test_before_redis_7_nobody_knows_how_many() -> None:
    assert caught_up(None).follow(entries(8, 9), extent(8, 9, 2, None)) == gap(5, 8, None, False)


def test_behind_a_gap_the_count_goes_on() -> None:
    place = caught_up()
    place.follow(entries(8, 9), extent(8, 20, 13, 20))
    assert place.follow(entries(15, 16), extent(15, 20, 6, 20)) == gap(9, 15, 5, True)
    assert place.follow(entries(17, 18), extent(17, 20, 4, 20)) is None


def test_what_was_trimmed_since_a_subscription_began_is_counted() -> None:
    place = begun(FIRST, extent(5, 9, 5, 9))
    assert place.follow(entries(7), extent(7, 9, 3, 9)) == gap(0, 7, 2, True)


def test_what_was_trimmed_of_a_stream_that_was_not_there_is_counted() -> None:
    assert begun(FIRST, NOTHING).follow(entries(7), extent(7, 9, 3, 9)) == gap(0, 7, 6, True)


def test_in_a_new_process_it_is_at_most_what_was_ever_removed() -> None:
    assert resumed("5-0").follow(entries(8, 9), extent(8, 9, 2, 9)) == gap(5, 8, 7, False)


def test_a_cursor_at_the_streams_end_is_counted_from_in_a_new_process_too() -> None:
    place = resumed("5-0")
    assert place.follow(entries(), extent(2, 5, 4, 5)) is None
    assert place.follow(entries(8, 9), extent(8, 9, 2, 9)) == gap(5, 8, 2, True)


def test_from_the_middle_of_a_stream_on_what_is_known_to_be_before_is_no_part_of_the_bound() -> None:
    place = resumed("5-0")
    # Up to 6-0 there are the three that are gone, one that is left, and the one that was read.
    assert place.follow(entries(6), extent(4, 20, 17, 20)) is None
    assert place.follow(entries(12), extent(12, 20, 9, 20)) == gap(6, 12, 11 - 3 - 1 - 1, False)


def test_from_the_middle_of_a_stream_on_a_new_subscription_knows_that_too() -> None:
    place = begun("5-0", extent(4, 20, 17, 20))
    assert place.follow(entries(12), extent(12, 20, 9, 20)) == gap(5, 12, 11 - 3 - 1, False)


def test_what_was_deleted_before_a_subscription_began_is_no_part_of_a_count() -> None:
    place = begun(FIRST, extent(5, 9, 4, 9, deleted=7))
    assert place.follow(entries(8), extent(8, 9, 2, 9, deleted=7)) == gap(0, 8, 2, True)


@pytest.mark.parametrize("looked", [False, True])
def test_what_came_before_a_beginning_that_is_ahead_of_the_stream_makes_a_count_a_bound(looked: bool) -> None:
    place = begun("9-0", extent(1, 5, 5, 5))
    if looked:
        place.follow(entries(), extent(1, 5, 5, 5))
    # Of 6-0 and 10-0, which are gone, the first is before the beginning.
    assert place.follow(entries(11), extent(11, 11, 1, 8)) == gap(9, 11, 2, False)


def test_a_gap_is_counted_when_what_was_read_is_partly_gone_already() -> None:
    assert caught_up().follow(entries(8, 9, 10), extent(10, 12, 3, 12)) == gap(5, 8, 2, True)


def test_where_all_that_was_read_is_gone_already_the_gap_is_around_it() -> None:
    place = caught_up()
    # Of 6-0 to 11-0 two were read, and the others are gone: before them, or behind them.
    assert place.follow(entries(7, 8), extent(12, 20, 9, 20)) == gap(5, 12, 4, True)
    assert place.follow(entries(12, 13), extent(12, 20, 9, 20)) is None


def test_what_is_gone_behind_such_a_gap_is_another_one() -> None:
    place = caught_up()
    place.follow(entries(7, 8), extent(12, 20, 9, 20))
    assert place.follow(entries(15), extent(15, 20, 6, 20)) == gap(8, 15, 3, True)


def test_what_such_a_gap_has_told_of_is_not_told_of_again_where_it_is_a_bound() -> None:
    place = caught_up()
    said = extent(12, 20, 8, 20, deleted=15)
    assert place.follow(entries(7, 8), said) == gap(5, 12, 5, False)
    assert place.follow(entries(12, 13), said) is None


def test_where_all_is_gone_already_the_gap_reaches_to_what_can_come_next() -> None:
    place = caught_up()
    said = extent(None, 10, 0, 10)
    assert place.follow(entries(7, 8), said) == GapDetails(STREAM, "5-0", "10-1", 3, True)
    assert place.follow(entries(11), extent(11, 11, 1, 11)) is None
    assert place.follow(entries(14), extent(14, 14, 1, 14)) == gap(11, 14, 2, True)


def test_where_nothing_but_what_was_read_is_gone_there_is_no_gap() -> None:
    place = caught_up()
    assert place.follow(entries(6, 7), extent(None, 7, 0, 7)) is None
    assert place.follow(entries(10), extent(10, 10, 1, 10)) == gap(7, 10, 2, True)


def test_where_what_was_read_is_gone_and_nothing_else_the_count_goes_on() -> None:
    place = caught_up()
    assert place.follow(entries(6, 7), extent(8, 8, 1, 8)) is None
    assert place.follow(entries(11), extent(11, 20, 10, 20)) == gap(7, 11, 3, True)


def test_what_was_deleted_behind_a_gap_makes_it_a_bound() -> None:
    assert caught_up().follow(entries(8, 9), extent(8, 20, 12, 20, deleted=15)) == gap(5, 8, 3, False)


def test_what_was_deleted_unread_makes_the_next_count_a_bound() -> None:
    place = caught_up()
    assert place.follow(entries(6, 8), extent(1, 30, 29, 30, deleted=7)) is None
    assert place.follow(entries(12), extent(12, 30, 19, 30, deleted=7)) == gap(8, 12, 4, False)


def test_at_the_streams_end_all_is_known_again() -> None:
    place = caught_up()
    place.follow(entries(6, 8), extent(1, 9, 8, 9, deleted=7))
    place.follow(entries(9), extent(1, 9, 8, 9, deleted=7))
    assert place.follow(entries(12), extent(12, 30, 19, 30, deleted=7)) == gap(9, 12, 2, True)


# --- resets ---------------------------------------------------------------------------------------------------------


def test_the_same_stream_is_not_broken() -> None:
    place = caught_up()
    for said in (extent(1, 5, 5, 5), extent(None, 5, 0, 5), extent(1, 9, 9, 9), extent(8, 9, 2, 9)):
        assert not place.broken(said)


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(NOTHING, id="deleted"),
        pytest.param(extent(1, 3, 3, 3), id="lower IDs"),
        pytest.param(extent(1, 3, 3, None), id="lower IDs, before Redis 7"),
        pytest.param(extent(7, 8, 2, 2), id="fewer were ever added"),
        pytest.param(extent(11, 18, 8, 8), id="fewer are gone than were read"),
    ],
)
def test_a_stream_whose_ids_or_counts_ran_backwards_is_another_one(said: Extent) -> None:
    assert caught_up(None if said.added is None else 5).broken(said)


def test_a_stream_of_which_fewer_are_gone_than_were_is_another_one() -> None:
    place = begun("7-0", extent(5, 9, 5, 9))
    assert place.broken(extent(6, 12, 9, 12))


def test_a_stream_to_which_fewer_were_added_than_were_is_another_one() -> None:
    place = resumed("3-0")
    place.follow(entries(), extent(1, 10, 10, 10))
    assert place.broken(extent(20, 24, 5, 5))


def test_a_stream_that_ends_before_what_was_seen_of_it_is_another_one() -> None:
    place = begun("3-0", extent(1, 9, 9, 9))
    assert place.broken(extent(1, 7, 7, 7))


@pytest.mark.parametrize("said", [NOTHING, extent(1, 3, 3, 3), extent(1, 3, 3, None)])
def test_a_stored_cursor_that_is_ahead_of_the_stream_is_of_another_one(said: Extent) -> None:
    assert resumed("5-0").broken(said)


def test_a_stored_time_is_ahead_of_a_stream_that_has_been_quiet_since() -> None:
    assert not resumed(f"8-{LARGEST}").broken(extent(1, 5, 5, 5))


def test_a_cursor_at_the_beginning_is_ahead_of_nothing() -> None:
    assert not resumed(FIRST).broken(NOTHING)


def test_reading_goes_on_at_the_beginning_of_another_stream() -> None:
    place = caught_up()
    said = extent(1, 3, 3, 3)
    assert place.reset(said, None) == ResetDetails(STREAM, "5-0", "3-0", FIRST)
    assert place.id == FIRST
    assert place.follow(entries(1, 2, 3), said) is None


def test_what_was_trimmed_of_a_stream_that_was_deleted_and_is_there_again_is_counted() -> None:
    place = caught_up()
    place.reset(NOTHING, None)
    assert place.follow(entries(9), extent(9, 9, 1, 4)) == gap(0, 9, 3, True)


def test_what_was_trimmed_of_another_stream_is_at_most_what_was_ever_removed_of_it() -> None:
    place = caught_up()
    place.reset(extent(2, 4, 3, 4), None)
    assert place.follow(entries(2, 3, 4), extent(2, 4, 3, 4)) == gap(0, 2, 1, False)


def test_a_reset_is_not_found_twice() -> None:
    place = caught_up()
    place.reset(extent(1, 3, 3, 3), None)
    assert not place.broken(extent(1, 3, 3, 3))
    assert not place.broken(extent(1, 4, 4, 4))


def test_in_a_stream_that_was_restored_reading_goes_on_behind_what_is_known_again() -> None:
    place = begun(FIRST, extent(1, 9, 9, 9))
    for each in range(1, 10):
        place.follow(entries(each), extent(1, 9, 9, 9))
    kept = place.marks[5]
    restored = extent(1, 6, 6, 6)
    assert place.reset(restored, kept) == ResetDetails(STREAM, "9-0", "6-0", "6-0")
    assert [mark.id for mark in place.marks] == ["1-0", "2-0", "3-0", "4-0", "5-0", "6-0"]
    assert place.follow(entries(20), extent(20, 20, 1, 9)) == gap(6, 20, 2, True), "counted from what is kept"


def test_where_only_unread_entries_are_lost_reading_goes_on_as_it_was() -> None:
    place = begun(FIRST, extent(1, 9, 9, 9))
    place.follow(entries(1, 2, 3), extent(1, 9, 9, 9))
    restored = extent(1, 6, 6, 6)
    assert place.broken(restored)
    assert place.reset(restored, place.marks[-1]) is None
    assert not place.broken(restored)
    assert place.follow(entries(4, 5, 6), restored) is None


# --- marks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("id", "before"), [("5-3", "5-2"), ("5-0", f"4-{LARGEST}"), ("0-1", "0-0")])
def test_an_entry_is_asked_for_from_the_id_before_it_on(id: str, before: str) -> None:
    assert Mark(1, id, 0, 0, False).before == before


def test_an_entry_is_known_again_by_its_id_and_its_fields() -> None:
    mark = caught_up().marks[-1]
    assert mark.known_again(entries(5))
    assert not mark.known_again(Entries([b"5-0"], [[b"operation", b"6"]]))
    assert not mark.known_again(Entries([b"6-0"], [[b"operation", b"5"]]))
    assert not mark.known_again(entries())


def test_of_late_many_entries_are_remembered_and_of_long_ago_a_few() -> None:
    everything = extent(1, 10_000, 10_000, 10_000)
    place = begun(FIRST, everything)
    for each in range(1, 10_001):
        place.follow(entries(each), everything)
        assert len(place.marks) < MOST_MARKS
    ages = [10_000 - number(mark.id)[0] for mark in reversed(place.marks)]
    assert ages[:5] == [0, 1, 2, 3, 4]
    assert ages[-1] > 2500
    assert all(further <= 2 * nearer + 1 for nearer, further in pairwise(ages))


# --- lag ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("added", [None, 10])
def test_the_lag_at_both_ends_of_a_stream_is_told_by_every_server(added: int | None) -> None:
    said = extent(1000, 10_000, 10, added)
    assert begun(FIRST, said).lag(said) == Lag(10, 9.0)
    assert resumed("10000-0").lag(said) == Lag(0, 0.0)
    assert begun(FIRST, extent(None, 0, 0, added)).lag(extent(None, 0, 0, added)) == Lag(0, 0.0)


@pytest.mark.parametrize("added", [None, 10])
def test_the_lag_in_the_middle_of_a_stream_that_was_never_read_to_its_end_cannot_be_told(
    added: int | None,
) -> None:
    assert resumed("5000-0").lag(extent(1000, 10_000, 10, added)) == Lag(None, 5.0)


@pytest.mark.parametrize("added", [None, 5])
def test_what_was_read_ahead_is_not_handled_yet(added: int | None) -> None:
    place = caught_up(added)
    place.cursor.finish(b"2-0", 2)
    assert place.lag(extent(1, 5, 5, added)) == Lag(3, 0.003)


def test_from_a_place_that_is_known_entries_are_counted() -> None:
    place = caught_up()
    place.cursor.finish(b"4-0", 4)
    assert place.lag(extent(3, 12, 10, 12)).entries == 1 + 7


def test_a_lag_that_a_deletion_may_have_made_wrong_is_not_given() -> None:
    assert caught_up().lag(extent(1, 12, 11, 12, deleted=8)).entries is None


def test_where_all_that_was_read_is_gone_what_is_there_is_behind() -> None:
    place = caught_up()
    place.cursor.finish(b"5-0", 5)
    assert place.lag(extent(9, 12, 4, 12)) == Lag(4, 0.003)


# --- against a stream that knows the truth --------------------------------------------------------------------------


class Stream:
    """Entries that come and go, and what Redis says of them: with counts from 7.0 on."""

    def __init__(self, counts: bool) -> None:
        self.counts = counts
        self.history: list[int] = []
        self.there: list[int] = []
        self.trimmed: set[int] = set()
        self.deleted = 0
        self.serial: dict[int, int] = {}
        self.serials = 0

    def add(self, count: int, next: int | None = None) -> None:
        """Append entries, no two of which have the same fields."""
        for _ in range(count):
            id = next or (self.history[-1] if self.history else 0) + 1
            next = None
            self.serials += 1
            self.serial[id] = self.serials
            self.history.append(id)
            self.there.append(id)

    def trim(self, keep: int) -> None:
        gone = max(0, len(self.there) - keep)
        self.trimmed.update(self.there[:gone])
        del self.there[:gone]

    def delete(self, which: int) -> None:
        if self.there:
            self.deleted = max(self.deleted, self.there.pop(which % len(self.there)))

    def restore(self, length: int) -> None:
        """To what it was after so many entries."""
        del self.history[length:]
        self.there = [id for id in self.there if id in self.history]

    def behind(self, id: str, count: int) -> Entries:
        behind = [each for each in self.there if (each, 0) > number(id)][:count]
        return Entries.of((b"%d-0" % each, [b"operation", b"%d" % self.serial[each]]) for each in behind)

    def gone(self, after: str, before: bytes | str) -> set[int]:
        """What was between these two and is not there."""
        between = range(number(after)[0] + 1, number(before)[0] + (number(before)[1] > 0))
        return set(between).intersection(self.history).difference(self.there)

    def said(self) -> Extent:
        first = self.there[0] if self.there else None
        last = self.history[-1] if self.history else 0
        if not self.counts:
            return extent(first, last, len(self.there))
        return extent(first, last, len(self.there), len(self.history), self.deleted)


add = st.tuples(st.just("add"), st.integers(1, 6))
changes = st.lists(
    add | st.tuples(st.just("trim"), st.integers(0, 6)) | st.tuples(st.just("delete"), st.integers(0, 9)),
    max_size=5,
)


def change(stream: Stream, steps: list[tuple[str, int]]) -> None:
    for what, count in steps:
        getattr(stream, what)(count)


@pytest.mark.parametrize("counts", [True, False])
@given(
    before=changes,
    start=st.sampled_from(["new", "earliest", "stored"]),
    # What happens before a read, how many are read, and what happens before the server says what there is.
    steps=st.lists(st.tuples(changes, st.integers(1, 4), changes), max_size=12),
)
def test_no_gap_is_passed_over_and_no_count_is_wrong(
    counts: bool, before: list[tuple[str, int]], start: str, steps: list[Any]
) -> None:
    stream = Stream(counts)
    change(stream, before)
    said = stream.said()
    begins = said.last_id if start == "new" else FIRST
    place = resumed(begins) if start == "stored" else begun(begins, said)
    excused = set() if start == "stored" else set(stream.history) - set(stream.there)
    for changed, count, meanwhile in steps:
        change(stream, changed)
        after, found = place.id, stream.behind(place.id, count)
        trimmed = stream.gone(after, found.ids[0]) & stream.trimmed - excused if found else set()
        change(stream, meanwhile)
        said = stream.said()
        assert not place.broken(said)
        told = place.follow(found, said)
        if told is None:
            assert not trimmed or (not counts and after == FIRST)
            continue
        assert told.after == after
        missing = stream.gone(after, told.next) - excused - {number(id)[0] for id in found.ids}
        excused |= missing
        if told.exact:
            assert told.missed == len(missing) > 0
        elif counts:
            assert (told.missed or 0) >= len(missing)
        else:
            assert told.missed is None


@given(
    steps=st.lists(
        add | st.tuples(st.just("read"), st.integers(0, 4)) | st.tuples(st.just("trim"), st.integers(0, 9)),
        max_size=20,
    )
)
def test_what_is_read_and_what_is_missed_is_all_that_was_ever_added(steps: list[tuple[str, int]]) -> None:
    stream, missed = Stream(counts=True), 0
    place = begun(FIRST, stream.said())
    for what, count in [*steps, ("add", 1), ("read", 1000)]:
        if what != "read":
            change(stream, [(what, count)])
            continue
        told = place.follow(stream.behind(place.id, count), stream.said())
        if told is not None:
            assert told.exact
            missed += told.missed or 0
    assert place.read + missed == len(stream.history)


@pytest.mark.parametrize("counts", [True, False])
@given(
    steps=st.lists(
        add
        | st.tuples(st.just("read"), st.integers(0, 4))
        | st.tuples(st.sampled_from(["restore", "recreate"]), st.integers(0, 9)),
        max_size=20,
    )
)
def test_nothing_of_a_stream_that_was_replaced_is_passed_over(
    counts: bool, steps: list[tuple[str, int]]
) -> None:
    stream, newest, replaced = Stream(counts), 0, False
    place = begun(FIRST, stream.said())
    seen: set[bytes] = set()
    for what, count in [*steps, ("read", 1000), ("read", 1000)]:
        if what == "add":
            stream.add(count, next=newest + 1)  # as the clock goes on
        elif what != "read":
            replaced = True
            stream.restore(count)
            if what == "recreate":
                stream.restore(0)
                newest = 0  # the clock was set back
        newest = max(newest, *stream.history, 0)
        if what == "add":
            continue
        found, said = stream.behind(place.id, count if what == "read" else 0), stream.said()
        if place.broken(said):
            assert replaced
            kept = [mark for mark in place.marks if mark.known_again(stream.behind(mark.before, 1))]
            place.reset(said, kept[-1] if kept else None)
        else:
            assert place.follow(found, said) is None
            seen.update(fields[1] for _, fields in found)
    assert seen >= {fields[1] for _, fields in stream.behind(FIRST, 1000)}
