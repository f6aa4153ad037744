"""Which of many streams may fetch its next batch, when one was taken."""

from __future__ import annotations

import asyncio

import pytest

from mainflux_events.entries import Entries
from mainflux_events.hooks import Observers
from mainflux_events.inbox import LEAST_READY, MANY_READY, Batch, Inbox, Part
from mainflux_events.intake import Intake
from mainflux_events.sieve import Sieve

STREAMS = "abcdefgh"


class Stream:
    """A track, and its keeper."""

    def __init__(self, stream: str) -> None:
        self.stream = stream

    def room(self) -> int:
        return 1000


class Readers:
    """Readers of several streams, each of which has put its first batch into the inbox.

    Attributes:
        proceeded: who was to fetch the next, in that order.
    """

    def __init__(self, streams: str = STREAMS) -> None:
        self.intake = Intake(Sieve(None, "skip", Observers(())))
        self.inbox: Inbox = self.intake.inbox
        self.proceeded = ""
        for stream in streams:
            self.put(stream)

    def put(self, stream: str) -> None:
        track = Stream(stream)
        entries = Entries([b"1-1"], [[b"operation", b"thing.remove", b"id", b"t"]])
        part = Part(track, track, entries)  # type: ignore[arg-type]
        self.inbox.put_nowait(Batch([part], lambda _: self.inbox.hold_up(lambda: self.proceed(stream)), 100))

    def proceed(self, stream: str) -> None:
        self.proceeded += stream

    async def take(self, batches: int = 1) -> None:
        for _ in range(batches):
            assert await self.intake.refill()
            assert self.intake.next_run(1000) is not None


@pytest.fixture
def readers() -> Readers:
    return Readers()


async def test_while_enough_batches_are_ready_none_is_fetched(readers: Readers) -> None:
    await readers.take(len(STREAMS) - LEAST_READY)
    assert readers.proceeded == ""
    assert readers.inbox.qsize() == LEAST_READY


async def test_who_waits_for_longest_fetches_first(readers: Readers) -> None:
    await readers.take(len(STREAMS))
    assert readers.proceeded == STREAMS[:LEAST_READY]
    for stream in STREAMS[:LEAST_READY]:
        readers.put(stream)
    await readers.take(LEAST_READY)
    assert readers.proceeded == STREAMS[: 2 * LEAST_READY]


async def test_one_stream_is_never_held_up() -> None:
    readers = Readers("a")
    for times in range(1, 4):
        await readers.take()
        assert readers.proceeded == "a" * times
        readers.put("a")


async def test_when_nothing_is_there_and_somebody_waits_all_are_fetched(readers: Readers) -> None:
    await readers.take(len(STREAMS))
    waiting = asyncio.create_task(readers.take())
    while len(readers.proceeded) < len(STREAMS):
        await asyncio.sleep(0)
    assert readers.proceeded == STREAMS
    readers.put("a")
    await waiting


async def test_where_too_few_were_ready_twice_as_many_are_from_then_on(readers: Readers) -> None:
    await readers.take(len(STREAMS))
    readers.inbox.hurry()
    for stream in STREAMS:
        readers.put(stream)
    readers.proceeded = ""
    await readers.take(len(STREAMS) - 2 * LEAST_READY)
    assert readers.proceeded == ""
    await readers.take()
    assert readers.proceeded == STREAMS[0]


async def test_where_many_in_a_row_were_ready_fewer_are_from_then_on(readers: Readers) -> None:
    await readers.take(len(STREAMS))
    readers.inbox.hurry()  # from now on twice as many
    for stream in STREAMS * (MANY_READY // len(STREAMS) * LEAST_READY):
        readers.put(stream)
    await readers.take(LEAST_READY * MANY_READY - 2 * LEAST_READY)
    readers.proceeded = ""
    await readers.take()
    assert readers.proceeded == "", "one fewer is enough"
    await readers.take(LEAST_READY - 1)
    assert readers.proceeded == STREAMS[: LEAST_READY - 1]


async def test_where_streams_take_turns_none_is_held_up(readers: Readers) -> None:
    await readers.take(len(STREAMS) - LEAST_READY)
    assert readers.proceeded == ""
    assert await readers.intake.refill()
    while readers.intake.next_run(1000, window=100) is not None:
        pass
    assert sorted(readers.proceeded) == [*STREAMS]
