"""What the library leaves to others: the event loop under load, the core when idle, the time of its import."""

from __future__ import annotations

import asyncio
from time import perf_counter, process_time

import redis.asyncio as redis

from benchmarks.bench import STREAM, Bench
from benchmarks.events import events
from benchmarks.measure import Taken, percentile
from benchmarks.parts import sized
from benchmarks.record import Measure, Record, over
from benchmarks.rivals import mainflux
from mainflux_events import Publisher, Subscriber

NAP = 0.001  # seconds
CONTROL = "an event loop only turns"
LOADS = {
    "publishing": {"load": "publish"},
    "consuming, Commit.every()": {"load": "every"},
    "consuming, Commit.each()": {"load": "each"},
    "consuming entries of 10 kB": {"load": "each"},
    CONTROL: {"load": "spin"},
}


async def run(bench: Bench, record: Record) -> None:
    await bench.clear()
    count, quick = record.effort.events, record.effort.quick
    common = {"url": bench.url, "stream": STREAM, "count": count}
    bench.run(Taken, mainflux.__name__, "publish", **common)
    large = {"stream": f"{STREAM}.10kB", "count": count // 10}
    bench.run(Taken, sized.__name__, "fill_sized", size=10_000, **(common | large))
    for load, settings in LOADS.items():
        await bench.clear_positions(STREAM)
        keywords = common | (large if "10 kB" in load else {}) | {"seconds": 0.5 if quick else 5.0} | settings
        late = bench.run(list[float], __name__, "lateness", **keywords)
        name = f"p99.9 lateness of a 1 ms sleep while {load}"
        bar = None if load == CONTROL else 20
        record.measures.append(Measure(name, [percentile(late, 99.9) * 1000], bar, None, True, "ms"))
    await bench.clear()
    part = bench.run(float, __name__, "idle", url=bench.url, seconds=2.0 if quick else 10.0)
    record.measures.append(
        Measure("CPU of an idle publisher and subscriber", [part * 100], 0.3, None, True, "% of a core")
    )
    times = bench.import_times(("mainflux_events", "redis.asyncio"), 3 if quick else 15)
    ours, theirs = map(list, zip(*times, strict=True))
    record.measures.append(over("import, over that of redis.asyncio", ours, theirs, bar=1.3, at_most=True))


async def lateness(url: str, stream: str, count: int, seconds: float, load: str) -> list[float]:
    """How late a task wakes that sleeps 1 ms at a time, while events are published or consumed at full rate."""
    late: list[float] = []

    async def nap() -> None:
        while True:
            began = perf_counter()
            await asyncio.sleep(NAP)
            late.append(perf_counter() - began - NAP)

    async def work() -> None:
        if load == "publish":
            await mainflux.publish(url, stream, events(count))
        elif load == "spin":
            for _ in range(count):
                await asyncio.sleep(0)
        else:
            await mainflux.consume(url, stream, count, load)
            async with redis.from_url(url) as client:
                await client.delete(f"mainflux:cursor:benchmark:{stream}")

    napping = asyncio.create_task(nap())
    await work()
    late.clear()  # until here, everybody warmed up
    began = perf_counter()
    while perf_counter() - began < seconds:
        await work()
    napping.cancel()
    return late


async def idle(url: str, seconds: float) -> float:
    """The part of a core that a publisher and a subscriber with nothing to do use."""
    async with Publisher(url, STREAM), Subscriber(url, STREAM, "idle"):
        await asyncio.sleep(0.5)
        began, cpu = perf_counter(), process_time()
        await asyncio.sleep(seconds)
        return (process_time() - cpu) / (perf_counter() - began)
