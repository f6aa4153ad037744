"""Which events go next, and up to where all are finished, whatever is finished first."""

from __future__ import annotations

import gc
import weakref
from collections import defaultdict
from collections.abc import Collection, Hashable, Sequence
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mainflux_events import Event, ThingRemoved
from mainflux_events.entries import Entries
from mainflux_events.inbox import Part
from mainflux_events.intake import Run
from mainflux_events.keeper import Passage
from mainflux_events.window import MOST_ENTRIES, Slot, Window


class Keeper:
    """Notes the IDs of what is finished."""

    turned = False

    def __init__(self) -> None:
        self.told: list[bytes] = []

    def room(self) -> int:
        raise AssertionError("a window asks for no room")

    def begin(self) -> None:
        raise AssertionError("a window begins nothing")

    async def passing(self, track: Track, id: bytes) -> Passage:
        raise AssertionError("a window dead-letters nothing")

    def look_out(self) -> None:
        raise AssertionError("a window looks out for nothing")

    def finished(self, track: Track, ids: Sequence[bytes]) -> None:
        assert ids
        assert track.keeper is self
        self.told += ids


class Track:
    """A stream, and its entries so far."""

    def __init__(self, stream: str = "things") -> None:
        self.stream = stream
        self.keeper = Keeper()
        self.entries = Entries([], [])

    @property
    def told(self) -> int:
        """How many entries were told to be finished: always the first ones, each once."""
        told = self.keeper.told
        assert told == self.entries.ids[: len(told)]
        return len(told)

    def run(self, pattern: str) -> Run:
        """More entries: an event for each "e", one that is passed over for each "-"."""
        entries = Entries.of(
            (b"%d-0" % (len(self.entries) + place), [b"a", b"b"]) for place in range(len(pattern))
        )
        self.entries = Entries.of([*self.entries, *entries])
        places = [place for place, each in enumerate(pattern) if each == "e"]
        events = [
            Event(
                ThingRemoved(f"t{place}"),
                _stream=self.stream,
                _id=entries.ids[place].decode(),
                _fields=entries.fields[place],
            )
            for place in places
        ]
        ends = [*places[1:], len(pattern)] if places else []
        passed = places[0] if places else len(pattern)
        return Run(Part(self, self.keeper, Entries([], [])), entries, passed, events, None, ends)


def queued(window: Window, run: Run, keys: Sequence[Hashable] | None = None) -> list[Slot]:
    """Add a run, each event with its key: a key of its own, where none are given."""
    slots = window.add(run)
    for place, slot in enumerate(slots):
        window.queue(slot, slot.number if keys is None else keys[place])
    return slots


def finish(window: Window, slots: list[Slot], dropped: Collection[Slot] = ()) -> None:
    """These are finished, and done with where they were taken."""
    taken = [slot for slot in slots if slot.lane is not None and slot.lane.busy]
    assert window.finish(slots) == len([slot for slot in slots if slot not in dropped])
    window.release(taken)


# --- which go next --------------------------------------------------------------------------------------------------


def test_events_of_different_keys_go_at_the_same_time() -> None:
    window = Window(100)
    slots = queued(window, Track().run("eee"))
    assert [window.take(1) for _ in range(4)] == [[slots[0]], [slots[1]], [slots[2]], []]
    assert (window.available, window.in_flight) == (0, 3)


def test_events_of_one_key_go_one_after_another() -> None:
    window = Window(100)
    first, second, other = queued(window, Track().run("eee"), "aab")
    assert [window.take(1), window.take(1), window.take(1)] == [[first], [other], []]
    finish(window, [other])
    assert window.take(1) == []
    finish(window, [first])
    assert window.take(1) == [second]


def test_where_all_go_in_turn_no_key_is_needed_and_none_waits_for_another() -> None:
    window = Window(100)
    slots = window.add(Track().run("eee"))
    for slot in slots:
        window.queue_in_turn(slot)
    assert window.available == 3
    assert [window.take(2), window.take(2), window.take(2)] == [slots[:2], slots[2:], []]
    assert (window.available, window.in_flight) == (0, 3)
    assert window.finish(slots[1:]) == 2
    window.release(slots[1:])
    assert (window.room, window.in_flight) == (97, 1)


def test_the_oldest_that_may_go_goes_first() -> None:
    window = Window(100)
    first, second, third, fourth = queued(window, Track().run("eeee"), "aabc")
    assert window.take(1) == [first]
    assert window.take(1) == [third]
    finish(window, [first])
    assert window.take(1) == [second], "although the fourth has been free for longer"
    assert window.take(1) == [fourth]


def test_a_batch_is_in_order_and_holds_all_that_wait_of_a_key() -> None:
    window = Window(100)
    slots = queued(window, Track().run("eeeeee"), "abacab")
    assert window.take(4) == [slots[0], slots[1], slots[2], slots[4]]
    assert window.available == 1, "the other of b waits for the one in the batch"
    assert window.take(4) == [slots[3]]


def test_a_key_is_free_again_when_its_batch_is_finished() -> None:
    window = Window(100)
    slots = queued(window, Track().run("eeeee"), "aaaab")
    batch = window.take(3)
    assert batch == slots[:3]
    assert window.take(3) == [slots[4]]
    finish(window, batch)
    assert window.take(3) == [slots[3]]


# --- up to where all are finished -----------------------------------------------------------------------------------


def test_what_is_finished_behind_an_unfinished_one_is_told_with_it() -> None:
    window, track = Window(100), Track()
    first, second, third = queued(window, track.run("eee"))
    window.take(1), window.take(1), window.take(1)
    finish(window, [third])
    assert track.told == 0
    finish(window, [first])
    assert track.told == 1
    finish(window, [second])
    assert track.told == 3
    assert not window.unfinished


def test_entries_that_are_passed_over_are_told_with_what_is_before_them() -> None:
    window, track = Window(100), Track()
    [first, second] = queued(window, track.run("-e--e"))
    assert track.told == 1
    queued(window, track.run("--"))
    finish(window, [second])
    assert track.told == 1
    finish(window, [first])
    assert track.told == 7
    queued(window, track.run("--"))
    assert track.told == 9
    assert not window.unfinished


def test_each_stream_has_its_own_end() -> None:
    window, one, other = Window(100), Track("one"), Track("other")
    [first] = queued(window, one.run("e"))
    [second] = queued(window, other.run("e"))
    finish(window, [second])
    assert (one.told, other.told) == (0, 1)
    finish(window, [first])
    assert (one.told, other.told) == (1, 1)


def test_an_event_without_a_key_is_finished_all_the_same() -> None:
    window, track = Window(100), Track()
    [slot] = window.add(track.run("e"))
    with pytest.raises(TypeError):
        window.queue(slot, [])
    assert (window.available, window.take(1)) == (0, [])
    finish(window, [slot])
    assert (track.told, window.in_flight) == (1, 0)


# --- how many -------------------------------------------------------------------------------------------------------


def test_there_is_room_again_when_the_oldest_is_finished() -> None:
    window, track = Window(3), Track()
    first, second, third = queued(window, track.run("eee"))
    assert window.room == 0
    finish(window, [second])
    finish(window, [third])
    assert window.room == 0, "they may come again"
    finish(window, [first])
    assert window.room == 3


def test_entries_that_are_passed_over_take_hardly_any_room() -> None:
    window, track = Window(3), Track()
    [slot] = queued(window, track.run("e" + "-" * 10))
    assert window.room == 2
    queued(window, track.run("-" * (MOST_ENTRIES - 11)))
    assert window.room == 0, "but all have their end"
    assert sum(fields is not None for run in window.rest() for fields in run.entries.fields) == 1
    finish(window, [slot])
    assert window.room == 3


def test_a_key_of_which_all_are_finished_is_forgotten() -> None:
    class Key:
        pass

    window, key = Window(3), Key()
    forgotten = weakref.ref(key)
    queued(window, Track().run("e"), [key])
    finish(window, window.take(1))
    del key
    gc.collect()
    assert forgotten() is None


# --- what is left ---------------------------------------------------------------------------------------------------


def test_what_is_left_begins_with_the_oldest_unfinished_one() -> None:
    window, track = Window(100), Track()
    slots = queued(window, track.run("-e-ee-")) + queued(window, track.run("-e"))
    finish(window, [slots[0], slots[2], slots[3]])
    first, second = window.rest()
    assert [event.id for event in first.events] == ["3-0", "4-0"]
    assert (first.passed, list(first.ends)) == (0, [1, 3])
    assert first.entries.ids == [b"3-0", b"4-0", b"5-0"]
    assert (second.passed, [event.id for event in second.events]) == (1, ["7-0"])


def test_what_is_left_can_be_taken_again() -> None:
    window, track = Window(100), Track()
    slots = queued(window, track.run("--e-ee-"))
    finish(window, [slots[0], slots[2]])
    again = Window(100)
    for run in window.rest():
        finish(again, queued(again, run))
    assert track.told == 7


# --- streams that go ------------------------------------------------------------------------------------------------


def test_of_a_stream_that_is_withdrawn_nothing_begins_behind_the_last_that_has() -> None:
    window, track, other = Window(100), Track(), Track("other")
    first, second, third, *_ = queued(window, track.run("ee-e-e"), "abac")
    queued(window, track.run("-e-"), "d")
    [another] = queued(window, other.run("e"), "e")
    assert [window.take(1), window.take(1)] == [[first], [second]]
    assert not window.withdraw("nothing")
    assert window.withdraw("things"), "the first two are at work"
    assert (window.available, window.room) == (1, 97)
    assert [window.take(1), window.take(1)] == [[another], []]
    finish(window, [first])
    assert window.take(1) == [], "the third was behind the second"
    assert window.withdraw("things")
    finish(window, [second])
    assert not window.withdraw("things")
    assert track.told == 3
    assert third.stretch.run.events == [first.event, second.event]


def test_what_is_before_one_that_has_begun_still_begins_when_its_stream_is_withdrawn() -> None:
    window, track = Window(100), Track()
    first, second, third, _ = queued(window, track.run("eeee"), "aaba")
    assert [window.take(1), window.take(1)] == [[first], [third]]
    finish(window, [third])
    assert window.withdraw("things")
    finish(window, [first])
    assert [window.take(1), window.take(1)] == [[second], []]
    finish(window, [second])
    assert track.told == 3, "nothing that was handled comes again"
    assert not window.withdraw("things")


def test_a_stream_that_is_withdrawn_is_gone_when_all_of_it_that_has_begun_is_finished_already() -> None:
    window, track = Window(100), Track()
    first, _ = queued(window, track.run("ee"), "aa")
    window.take(1)
    finish(window, [first])
    assert not window.withdraw("things")
    assert (track.told, window.room, window.available, window.unfinished) == (1, 100, 0, False)


def test_nothing_of_a_stream_that_was_dropped_counts_any_more_and_its_keys_stay_busy() -> None:
    window, track = Window(100), Track()
    first, _ = queued(window, track.run("e-e"), "aa")
    [other] = queued(window, Track("other").run("e"), "b")
    assert window.take(1) == [first]
    window.drop("things")
    assert first.dropped
    assert (window.available, window.room, window.in_flight) == (1, 99, 1)
    [again] = queued(window, Track().run("e"), "a")
    assert [window.take(1), window.take(1)] == [[other], []], "an event of this key is at work"
    assert window.finish([first]) == 0
    assert track.told == 0
    window.release([first])
    assert window.take(1) == [again]
    assert not any(slot.dropped for slot in (other, again))


def test_a_dropped_stream_takes_nothing_from_what_waits_in_turn() -> None:
    window = Window(100)
    slots = window.add(Track().run("ee")) + window.add(Track("other").run("e"))
    for slot in slots:
        window.queue_in_turn(slot)
    window.drop("things")
    assert (window.available, window.take(3)) == (1, slots[2:])


# --- all of it, in any order ----------------------------------------------------------------------------------------


class Model(RuleBasedStateMachine):
    """Held against lists of all that was added, taken and finished."""

    def __init__(self) -> None:
        super().__init__()
        self.tracks = [Track("one"), Track("other")]
        self.begin()

    def begin(self) -> None:
        self.size = 20
        self.window = Window(self.size)
        self.slots: list[Slot] = []
        self.keys: dict[Slot, Any] = {}
        self.in_flight: list[list[Slot]] = []
        self.finished: set[Slot] = set()
        self.dropped: set[Slot] = set()
        self.ends: dict[Slot, int] = {}
        self.order: defaultdict[Any, list[int]] = defaultdict(list)

    @property
    def waiting(self) -> list[Slot]:
        """Those that were neither taken nor finished, in order."""
        taken = {slot for slots in self.in_flight for slot in slots}
        return [slot for slot in self.slots if slot not in taken and slot not in self.finished]

    @precondition(lambda self: self.window.room > 0)
    @rule(track=st.sampled_from([0, 1]), pattern=st.text("e-", min_size=1, max_size=6), data=st.data())
    def add(self, track: int, pattern: str, data: st.DataObject) -> None:
        run = self.tracks[track].run(pattern[: self.window.room])
        slots = self.window.add(run)
        for slot in slots:
            self.keys[slot] = data.draw(st.sampled_from("abc"))
            self.window.queue(slot, self.keys[slot])
        self.note(slots, run)

    def note(self, slots: list[Slot], run: Run) -> None:
        """These are in the window; up to here, by places in the stream, is told what is finished with each."""
        self.slots += slots
        if slots:
            first = int(run.entries.ids[0].partition(b"-")[0])
            self.ends |= {slot: first + end for slot, end in zip(slots, run.ends, strict=True)}

    @rule(most=st.integers(1, 5))
    def take(self, most: int) -> None:
        busy = {self.keys[slot] for slots in self.in_flight for slot in slots}
        free = [slot for slot in self.waiting if self.keys[slot] not in busy]
        assert self.window.available == len(free)
        taken = self.window.take(most)
        assert bool(taken) == bool(free)
        assert len(taken) <= most
        assert set(taken) <= set(free)
        assert taken == sorted(taken, key=lambda slot: slot.number)
        if taken:
            assert taken[0] is free[0]
            self.in_flight.append(taken)
        for slot in taken:
            self.order[self.keys[slot]].append(slot.number)

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        slots = self.in_flight.pop(data.draw(st.integers(0, len(self.in_flight) - 1)))
        finish(self.window, slots, self.dropped)
        self.finished.update(slots)

    @rule(place=st.sampled_from([0, 1]))
    def withdraw(self, place: int) -> None:
        track = self.tracks[place]
        waiting = set(self.waiting)
        mine = [slot for slot in self.slots if slot.event.stream == track.stream]
        last = max((slot.number for slot in mine if slot not in waiting), default=-1)
        kept = [slot for slot in mine if slot.number <= last]
        self.slots = [slot for slot in self.slots if slot not in mine or slot in kept]
        left = self.window.withdraw(track.stream)
        assert left == any(slot not in self.finished for slot in kept)
        # Whoever goes on behind it reads the rest.
        track.entries = track.entries[: max([track.told, *(self.ends[slot] for slot in kept)])]

    @rule(place=st.sampled_from([0, 1]))
    def drop(self, place: int) -> None:
        stream = self.tracks[place].stream
        self.window.drop(stream)
        mine = {slot for slot in self.slots if slot.event.stream == stream}
        self.dropped |= mine
        self.slots = [slot for slot in self.slots if slot not in mine]
        self.tracks[place] = Track(stream)

    @rule()
    def begin_anew(self) -> None:
        left = self.window.rest()
        for track in self.tracks:
            ids = [id for run in left if run.track is track for id in run.entries.ids]
            assert ids == track.entries.ids[track.told :]
        self.begin()
        for run in left:
            slots = queued(self.window, run, ["a"] * len(run.events))
            self.note(slots, run)
            self.keys |= dict.fromkeys(slots, "a")

    @invariant()
    def what_is_told_is_what_has_nothing_unfinished_before_it(self) -> None:
        for track in self.tracks:
            unfinished = [
                int(slot.event.id.partition("-")[0])
                for slot in self.slots
                if slot.event.stream == track.stream and slot not in self.finished
            ]
            assert track.told == min(unfinished, default=len(track.entries))

    @invariant()
    def each_key_is_in_order(self) -> None:
        assert all(numbers == sorted(numbers) for numbers in self.order.values())

    @invariant()
    def what_may_come_again_is_bounded(self) -> None:
        told = {track.stream: track.told for track in self.tracks}
        kept = [
            slot for slot in self.slots if int(slot.event.id.partition("-")[0]) >= told[slot.event.stream]
        ]
        assert self.window.room == self.size - len(kept)
        assert self.window.in_flight == sum(map(len, self.in_flight))
        assert self.window.unfinished == bool(kept)


TestModel = Model.TestCase
