"""The same at a distance: through a proxy that adds a round trip, over the same proxy that adds none."""

from __future__ import annotations

from statistics import median
from time import perf_counter

import redis.asyncio as redis

from benchmarks.bench import STREAM, Bench
from benchmarks.measure import Taken
from benchmarks.record import Record, Speed, over

OURS = "benchmarks.rivals.mainflux"
FAR = 5.0  # ms


async def run(bench: Bench, record: Record) -> None:
    effort = record.effort
    publish = {ms: Speed(f"publish, {ms:g} ms, through the proxy") for ms in (0.0, FAR)}
    consume = {ms: Speed(f"consume, {ms:g} ms, Commit.each(), through the proxy") for ms in (0.0, FAR)}
    trips: dict[float, float] = {}
    for _ in range(effort.rounds):
        for ms in (0.0, FAR):
            with bench.at_distance(ms) as url:
                await bench.clear()
                trips[ms] = bench.run(float, __name__, "round_trip", url=url)
                common = {"url": url, "stream": STREAM, "count": effort.events}
                taken = bench.run(Taken, OURS, "publish", **common)
                assert taken.events == effort.events, f"{effort.events - taken.events} were dropped"
                publish[ms].takes.append(taken)
                consume[ms].takes.append(bench.run(Taken, OURS, "consume", commit="each", **common))
    record.speeds["distance"] = [*publish.values(), *consume.values()]
    record.measures += [
        over("publish at 5 ms over 0 ms", publish[FAR].rates, publish[0.0].rates, bar=0.7, goal=0.9),
        over("consume at 5 ms over 0 ms", consume[FAR].rates, consume[0.0].rates, bar=0.6, goal=0.9),
    ]
    measured = ", ".join(f"{trips[ms] * 1000:.2f} ms at {ms:g} ms" for ms in trips)
    record.notes.append(f"A PING through the proxy, which runs on the server's core, took {measured}.")


async def round_trip(url: str) -> float:
    """The median time of a PING, in seconds."""
    async with redis.from_url(url) as client:
        taken = []
        for _ in range(100):
            began = perf_counter()
            await client.ping()
            taken.append(perf_counter() - began)
    return median(taken)
