"""What was fetched, and in which order it is handed out: streams in turns, each of them in its own order."""

from __future__ import annotations

import asyncio

import pytest

from mainflux_events.entries import Entries
from mainflux_events.errors import StreamGap
from mainflux_events.hooks import GapDetails, Observers
from mainflux_events.inbox import Batch, Part
from mainflux_events.intake import BESIDE_BYTES, Intake
from mainflux_events.notices import Notice, Notices
from mainflux_events.sieve import Sieve

ALL = 1000  # more than there is


class Stream:
    """A track."""

    def __init__(self, stream: str) -> None:
        self.stream = stream


class Unbounded:
    """A keeper that need not be told of anything soon."""

    def room(self) -> int:
        return ALL


class Fetched:
    """Batches in the inbox of an intake, with the entries 1-1, 1-2 … of each stream.

    Attributes:
        taken: the streams of the batches that were taken, in that order.
    """

    def __init__(self) -> None:
        self.intake = Intake(Sieve(None, "skip", Observers(())))
        self.taken: list[str] = []
        self._tracks: dict[str, Stream] = {}
        self._counts: dict[str, int] = {}

    def part(self, stream: str, count: int) -> Part:
        first = self._counts.get(stream, 0) + 1
        self._counts[stream] = first + count - 1
        fields = [b"operation", b"thing.remove", b"id", b"t"]
        entries = Entries.of((f"1-{number}".encode(), fields) for number in range(first, first + count))
        track = self._tracks.setdefault(stream, Stream(stream))
        return Part(track, Unbounded(), entries)  # type: ignore[arg-type]

    def put(self, *parts: Part | Notice, size: int = 100) -> None:
        streams = "".join(part.stream for part in parts)
        self.intake.inbox.put_nowait(Batch([*parts], lambda waited: self.taken.append(streams), size))

    def runs(self, window: int, most: int = ALL) -> list[str]:
        """All that can be had without waiting: the stream and the last digits of the IDs of each run."""
        found: list[str] = []
        while (run := self.intake.next_run(most, window)) is not None:
            found.append(
                run.track.stream + " " + ",".join(event.id.removeprefix("1-") for event in run.events)
            )
        return found

    async def all_runs(self, window: int) -> list[str]:
        found: list[str] = []
        while not self.intake.inbox.empty():
            assert await self.intake.refill()
            found += self.runs(window)
        return found


@pytest.fixture
async def fetched() -> Fetched:
    return Fetched()


async def test_with_a_window_streams_take_turns_each_with_an_equal_part_of_it(fetched: Fetched) -> None:
    for stream in "abc":
        fetched.put(fetched.part(stream, 4))
    assert await fetched.all_runs(window=6) == ["a 1,2", "b 1,2", "c 1,2", "a 3,4", "b 3,4", "c 3,4"]


async def test_without_one_each_batch_comes_in_one_piece_and_is_taken_when_it_is_begun(
    fetched: Fetched,
) -> None:
    for stream in "ab":
        fetched.put(fetched.part(stream, 3))
    assert await fetched.intake.refill()
    assert fetched.runs(window=0, most=2) == ["a 1,2", "a 3"]
    assert fetched.taken == ["a"]


async def test_the_streams_of_one_batch_take_turns_too(fetched: Fetched) -> None:
    fetched.put(fetched.part("a", 3), fetched.part("b", 1), fetched.part("c", 2))
    assert await fetched.all_runs(window=3) == ["a 1", "b 1", "c 1", "a 2", "c 2", "a 3"]


async def test_what_is_left_of_few_streams_has_larger_turns(fetched: Fetched) -> None:
    fetched.put(fetched.part("a", 7), fetched.part("b", 2))
    assert await fetched.all_runs(window=4) == ["a 1,2", "b 1,2", "a 3,4,5,6", "a 7"]


async def test_a_turn_is_never_empty(fetched: Fetched) -> None:
    fetched.put(fetched.part("a", 2), fetched.part("b", 2))
    assert await fetched.all_runs(window=1) == ["a 1", "b 1", "a 2", "b 2"]


async def test_of_one_stream_a_later_batch_never_passes_an_earlier_one(fetched: Fetched) -> None:
    fetched.put(fetched.part("a", 4))
    fetched.put(fetched.part("a", 2))
    fetched.put(fetched.part("b", 2))
    assert await fetched.all_runs(window=2) == ["a 1", "b 1", "a 2", "b 2", "a 3,4", "a 5,6"]
    assert fetched.taken == ["a", "b", "a"]


async def test_a_stream_that_comes_again_has_its_turn_with_those_that_are_begun(fetched: Fetched) -> None:
    fetched.put(fetched.part("a", 1))
    fetched.put(fetched.part("a", 1))
    fetched.put(fetched.part("b", 3))
    assert await fetched.all_runs(window=2) == ["a 1", "b 1", "a 2", "b 2,3"]


async def test_no_more_bytes_are_begun_than_one_batch_may_have(fetched: Fetched) -> None:
    for stream in "abc":
        fetched.put(fetched.part(stream, 2), size=BESIDE_BYTES // 2)
    assert await fetched.intake.refill()
    fetched.intake.next_run(1, 2)
    assert fetched.taken == ["a", "b"]
    fetched.runs(window=2)
    assert fetched.taken == ["a", "b", "c"]


async def test_what_may_not_pass_others_is_begun_when_those_are_handed_out(fetched: Fetched) -> None:
    fetched.put(fetched.part("a", 2))
    fetched.put(fetched.part("b", 1), size=0)
    fetched.put(fetched.part("c", 1))
    assert await fetched.all_runs(window=2) == ["a 1,2", "b 1", "c 1"]


async def test_what_is_told_of_a_stream_keeps_its_place_and_nothing_passes_it(fetched: Fetched) -> None:
    details = GapDetails("b", after="0-0", next="1-1", missed=1, exact=True)
    notice = Notice(Notices("raise", Observers(())), details)
    fetched.put(fetched.part("a", 2))
    fetched.put(notice, fetched.part("b", 2))
    fetched.put(fetched.part("c", 1))
    assert await fetched.intake.refill()
    assert fetched.runs(window=2) == ["a 1,2"], "nothing was begun beside it, which would go on for ever"
    assert await fetched.intake.refill()
    assert fetched.intake.at_notice
    with pytest.raises(StreamGap):
        fetched.intake.next_run(ALL, 2)
    assert fetched.runs(window=2) == ["b 1", "c 1", "b 2"]


async def test_the_end_stays_behind_what_was_fetched_before_it(fetched: Fetched) -> None:
    fetched.put(fetched.part("a", 2))
    fetched.intake.inbox.put_nowait(None)
    fetched.put(fetched.part("b", 1))
    assert await fetched.intake.refill()
    assert fetched.runs(window=2) == ["a 1,2"]
    assert not await asyncio.wait_for(fetched.intake.refill(), 1)
