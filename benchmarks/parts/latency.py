"""From the call of publish to the handler, at 1,000 events a second, publisher and subscriber in one process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter

import msgspec
import redis.asyncio as redis

from benchmarks.bench import STREAM, Bench
from benchmarks.events import MAX_LEN, an_event, fields
from benchmarks.measure import percentile
from benchmarks.record import Measure, Record, over
from mainflux_events import Event, Publisher, Subscriber

RATE = 1000
PATIENCE = 30.0  # seconds, for what is on its way when the last event was published
SIDES = {
    "library": "mainflux-events",
    "plain": "redis-py, XADD and blocked XREAD",
    "control": "only sleeping",
}


async def run(bench: Bench, record: Record) -> None:
    seconds = record.effort.latency
    found: dict[tuple[str, float], list[float]] = {(side, at): [] for side in SIDES for at in (50, 99)}
    for _ in range(record.effort.rounds):
        for side in SIDES:
            await bench.clear()
            late = bench.run(list[float], __name__, side, url=bench.url, seconds=seconds)
            for at in (50, 99):
                found[side, at].append(percentile(late, at))
    record.measures += [
        over(
            f"latency at {RATE:,} events/s, p{at}, over redis-py's",
            found["library", at],
            found["plain", at],
            bar=bar,
            goal=goal,
            at_most=True,
        )
        for at, bar, goal in ((50, 1.3, 1.0), (99, 2.0, 1.2))
    ]
    record.measures += [
        Measure(f"latency p{at}, {title}", [value * 1000 for value in found[side, at]], unit="ms")
        for side, title in SIDES.items()
        for at in (50, 99)
    ]


def stamped(event: Event) -> Event:
    """The event with the moment of its publishing in its name."""
    return msgspec.structs.replace(
        event, action=msgspec.structs.replace(event.action, name=repr(perf_counter()))
    )


async def pace(seconds: float, send: Callable[[], Awaitable[object]]) -> None:
    """Call it a thousand times a second, by the clock: what was late is made up for."""
    began = perf_counter()
    for number in range(int(seconds * RATE)):
        wait = began + number / RATE - perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        await send()


async def library(url: str, seconds: float) -> list[float]:
    event = an_event(1)

    async def consume(subscriber: Subscriber) -> None:
        async for event in subscriber:
            late.append(perf_counter() - float(event.action.name))
            if len(late) == count:
                break

    late: list[float] = []
    count = int(seconds * RATE)
    async with Publisher(url, STREAM) as publisher, Subscriber(url, STREAM, "latency") as subscriber:
        consuming = asyncio.create_task(consume(subscriber))
        await pace(seconds, lambda: publisher.publish(stamped(event)))
        await asyncio.wait_for(consuming, PATIENCE)
    return warm(late)


async def plain(url: str, seconds: float) -> list[float]:
    event = an_event(1)

    async def consume(client: redis.Redis) -> None:
        last: bytes | str = "0-0"
        while len(late) < count:
            for _, entries in await client.xread({STREAM: last}, count=100, block=1000):
                late.extend(perf_counter() - float(entry[b"name"]) for _, entry in entries)
                last = entries[-1][0]

    late: list[float] = []
    count = int(seconds * RATE)
    async with redis.from_url(url) as writer, redis.from_url(url) as reader:
        await writer.ping()
        consuming = asyncio.create_task(consume(reader))
        await pace(seconds, lambda: writer.xadd(STREAM, fields(stamped(event)), maxlen=MAX_LEN))
        await asyncio.wait_for(consuming, PATIENCE)
    return warm(late)


async def control(url: str, seconds: float) -> list[float]:
    """How late a process wakes that does nothing else: what the machine and the event loop cost anyway."""
    late = []
    for _ in range(int(seconds * RATE)):
        began = perf_counter()
        await asyncio.sleep(1 / RATE)
        late.append(perf_counter() - began - 1 / RATE)
    return warm(late)


def warm(late: list[float]) -> list[float]:
    """Without the first tenth, in which everybody warms up."""
    return late[len(late) // 10 :]
