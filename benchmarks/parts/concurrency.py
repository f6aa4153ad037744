"""Handlers that wait for something, many at a time beside one after another."""

from __future__ import annotations

import asyncio

from benchmarks.bench import STREAM, Bench
from benchmarks.measure import Taken, measured
from benchmarks.record import Record, Speed, over
from benchmarks.rivals import mainflux
from mainflux_events import Event, Subscriber

NAP = 0.001  # seconds
CALLS = (1, 10, 100)


async def run(bench: Bench, record: Record) -> None:
    count = record.effort.events // 2
    await bench.clear()
    bench.run(Taken, mainflux.__name__, "publish", url=bench.url, stream=STREAM, count=count)
    speeds = {calls: Speed(f"handlers that await 1 ms, concurrency={calls}") for calls in CALLS}
    for _ in range(record.effort.rounds):
        for calls, speed in speeds.items():
            await bench.clear_positions(STREAM)
            # About a second and a half each.
            keywords = {"url": bench.url, "stream": STREAM, "count": min(count, 1500 * calls), "calls": calls}
            speed.takes.append(bench.run(Taken, __name__, "consume", **keywords))
    record.speeds["concurrency"] = list(speeds.values())
    record.measures.append(
        over(
            "handlers that await 1 ms, concurrency=100 over one by one",
            speeds[100].rates,
            speeds[1].rates,
            bar=25,
            goal=40,
        )
    )


async def consume(url: str, stream: str, count: int, calls: int) -> Taken:
    seen = mainflux.Seen(count)

    async def handle(event: Event) -> None:
        await asyncio.sleep(NAP)
        seen.look(event)

    with measured(count) as taken:
        async with Subscriber(url, stream, "benchmark", start="earliest") as subscriber:
            task = asyncio.create_task(subscriber.run(handle, concurrency=calls))
            await seen.all.wait()
            task.cancel()
    return taken
