"""Memory: of a full buffer, and of a process that goes on and on."""

from __future__ import annotations

import asyncio

from benchmarks.bench import STREAM, Bench
from benchmarks.events import events
from benchmarks.measure import memory
from benchmarks.record import Curve, Measure, Record
from mainflux_events import Publisher, Subscriber

MB = 1_000_000
BUFFERED = 10_000
LOOKS = 10
AHEAD = (
    20_000  # events that the publisher may be before the subscriber: far below what the stream is trimmed to
)


async def run(bench: Bench, record: Record) -> None:
    await bench.clear()
    grown = bench.run(int, __name__, "buffered", url=bench.url)
    record.measures.append(
        Measure(f"memory of {BUFFERED:,} buffered events", [grown / MB], 10, None, at_most=True, unit="MB")
    )
    await bench.clear()
    count = 5_000_000 if record.effort.long else 50_000 if record.effort.quick else 300_000
    marks = bench.run(list[tuple[int, int]], __name__, "endless", url=bench.url, count=count)
    first, last = marks[0][1], marks[-1][1]
    name = f"memory after {count:,} events, above that after {marks[0][0]:,}"
    record.measures.append(Measure(name, [(last - first) / MB], 5, None, at_most=True, unit="MB"))
    points = [(float(events), at / MB) for events, at in marks]
    record.curves.append(Curve("a process that does both", "events", "MB", {"memory": points}))


async def buffered(url: str) -> int:
    """The memory that a full buffer takes, in bytes. The drain gets no turn meanwhile."""
    async with Publisher(url, STREAM) as publisher:
        before = memory()
        for event in events(BUFFERED):
            publisher.publish_nowait(event)
        assert publisher.stats.buffered == BUFFERED
        return memory() - before


async def endless(url: str, count: int) -> list[tuple[int, int]]:
    """Publish and consume so many events; the memory after each tenth of them."""
    handled = 0
    marks = []
    look = count // LOOKS

    async def publish(publisher: Publisher) -> None:
        for number, event in enumerate(events(count)):
            await publisher.publish(event)
            while number - handled > AHEAD:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.001)

    async with Publisher(url, STREAM) as publisher, Subscriber(url, STREAM, "endless") as subscriber:
        publishing = asyncio.create_task(publish(publisher))
        async for _ in subscriber:
            handled += 1
            if handled % look == 0:
                marks.append((handled, memory()))
            if handled == count:
                break
        await publishing
        assert publisher.stats.dropped == 0
    return marks
