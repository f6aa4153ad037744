"""How rates change with what a user has more or less of."""

from __future__ import annotations

import asyncio
import logging
from time import perf_counter

from benchmarks.bench import STREAM, Bench
from benchmarks.events import an_event, events
from benchmarks.measure import Taken, measured
from benchmarks.parts import sized
from benchmarks.record import Curve, Measure, Record
from benchmarks.rivals import mainflux
from mainflux_events import Commit, Publisher, Subscriber

RATE = "events a second"
COUNTS = (1_000, 10_000, 100_000, 1_000_000)
SIZES = (100, 500, 2_000, 10_000, 100_000)
FIELDS = (3, 8, 20, 50)
ROUND_TRIPS = (0, 1, 5, 20)
SUBSCRIBERS = (1, 2, 5, 10, 20, 50)
STREAMS = (1, 3, 10, 30, 100)

MOST_BYTES = 100_000_000  # of one filled stream
SIZED = sized.__name__
OURS = mainflux.__name__

Points = list[tuple[float, float]]


async def run(bench: Bench, record: Record) -> None:
    events = record.effort.events
    thin = slice(None, None, 3) if record.effort.quick else slice(None)
    flat = await _number(bench, record)
    await _pairs(bench, record, "size of an entry", "bytes", "size", SIZES[thin], events // 5)
    await _pairs(bench, record, "fields of an action", "fields", "fields", FIELDS[thin], events // 5)
    _fill_of_buffer(bench, record)
    await _distances(bench, record, ROUND_TRIPS[thin], events // 2)
    await _fan_out(bench, record, thin, events // 5)
    record.measures += [
        Measure(f"{name}: the rate at the most events over that at 10,000", [rates[-1][1] / rates[1][1]], 0.9)
        for name, rates in flat.items()
    ]


async def _filled_and_read(bench: Bench, count: int, **shape: int) -> tuple[float, float]:
    """The rates of publishing and of consuming."""
    await bench.clear()
    common = {"url": bench.url, "stream": STREAM, "count": count}
    published = bench.run(Taken, SIZED, "fill_sized", **common, **shape)
    consumed = bench.run(Taken, __name__, "read_shaped", **common, **shape)
    return count / published.seconds, count / consumed.seconds


async def _number(bench: Bench, record: Record) -> dict[str, Points]:
    counts = COUNTS[:3] if record.effort.quick else COUNTS
    lines: dict[str, Points] = {"publish": [], "consume": []}
    for count in counts:
        for line, rate in zip(lines.values(), await _filled_and_read(bench, count), strict=True):
            line.append((count, rate))
    record.curves.append(Curve("number of events", "events", RATE, lines))
    return lines


async def _pairs(
    bench: Bench, record: Record, name: str, x: str, keyword: str, values: tuple[int, ...], most: int
) -> None:
    lines: dict[str, Points] = {"publish": [], "consume": []}
    for value in values:
        count = min(most, MOST_BYTES // (value if keyword == "size" else 50 * value))
        rates = await _filled_and_read(bench, count, **{keyword: value})
        for line, rate in zip(lines.values(), rates, strict=True):
            line.append((value, rate))
    record.curves.append(Curve(name, x, RATE, lines))


def _fill_of_buffer(bench: Bench, record: Record) -> None:
    points = bench.run(Points, __name__, "fill_of_buffer", url=bench.url)
    record.curves.append(
        Curve("fill of the buffer", "events before", "µs a call", {"publish_nowait": points})
    )


async def _distances(bench: Bench, record: Record, trips: tuple[int, ...], count: int) -> None:
    lines: dict[str, Points] = {"publish": [], "consume, Commit.each()": []}
    for ms in trips:
        with bench.at_distance(ms) as url:
            await bench.clear()
            common = {"url": url, "stream": STREAM, "count": count}
            published = bench.run(Taken, OURS, "publish", **common)
            consumed = bench.run(Taken, OURS, "consume", commit="each", **common)
        for line, taken in zip(lines.values(), (published, consumed), strict=True):
            line.append((ms, count / taken.seconds))
    record.curves.append(Curve("distance (by proxy)", "ms round trip", RATE, lines))


async def _fan_out(bench: Bench, record: Record, thin: slice, count: int) -> None:
    await bench.clear()
    bench.run(Taken, SIZED, "fill_sized", url=bench.url, stream=STREAM, count=count)
    points = []
    for number in SUBSCRIBERS[thin]:
        await bench.clear_positions(STREAM)
        each = max(1000, count // number)
        taken = bench.run(Taken, __name__, "subscribers", url=bench.url, number=number, count=each)
        points.append((number, taken.events / taken.seconds))
    record.curves.append(
        Curve("subscribers on one stream", "subscribers", "events a second, all", {"consume": points})
    )
    points = []
    for number in STREAMS[thin]:
        await bench.clear()
        taken = bench.run(Taken, __name__, "streams", url=bench.url, number=number, count=count // number)
        points.append((number, taken.events / taken.seconds))
    record.curves.append(Curve("streams of one subscriber", "streams", RATE, {"consume": points}))


# What the processes do.


async def read_shaped(url: str, stream: str, count: int, size: int = 0, fields: int = 0) -> Taken:
    """Consume what `fill_sized` published. Without connecting, which would weigh on the small numbers."""
    if fields:
        sized.wide_class(fields)
    left = count
    async with Subscriber(url, stream, "growth", start="earliest", commit=Commit.every()) as subscriber:
        with measured(count) as taken:
            async for event in subscriber:
                assert event.occurred_at
                left -= 1
                if not left:
                    break
    return taken


async def fill_of_buffer(url: str, chunk: int = 1000, rounds: int = 5) -> Points:
    """What a call takes in µs, by how many events wait already; from 10,000 on each call drops the oldest."""
    logging.getLogger("mainflux_events").setLevel(logging.CRITICAL)
    batch = list(events(chunk))
    best: dict[float, float] = {}
    for _ in range(rounds):
        async with Publisher(url, STREAM) as publisher:
            for before in range(0, 13_000, chunk):
                began = perf_counter()
                for event in batch:
                    publisher.publish_nowait(event)
                cost = (perf_counter() - began) / chunk * 1e6
                best[before] = min(cost, best.get(before, cost))
    return list(best.items())


async def subscribers(url: str, number: int, count: int) -> Taken:
    """So many subscribers in one process read the same entries, each under a name of its own."""

    async def one(name: str) -> None:
        left = count
        async with Subscriber(url, STREAM, name, start="earliest", commit=Commit.every()) as subscriber:
            async for event in subscriber:
                assert event.occurred_at
                left -= 1
                if not left:
                    break

    with measured(number * count) as taken:
        await asyncio.gather(*(one(f"growth{place}") for place in range(number)))
    return taken


async def streams(url: str, number: int, count: int) -> Taken:
    """One subscriber reads so many streams, with so many entries each."""
    names = [f"{STREAM}.{place}" for place in range(number)]
    for name in names:
        await sized.fill(url, name, (an_event(1) for _ in range(count)))
    left = number * count
    with measured(left) as taken:
        async with Subscriber(url, names, "growth", start="earliest", commit=Commit.every()) as subscriber:
            async for event in subscriber:
                assert event.occurred_at
                left -= 1
                if not left:
                    break
    return taken
