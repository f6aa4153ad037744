"""redis-py, pipelines of 500 without a transaction."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import redis.asyncio as redis

from benchmarks.events import MAX_LEN, fields
from benchmarks.measure import Taken, measured
from mainflux_events import Event

TITLE = "redis-py, pipeline of 500"
SHARE = 0.5
BATCH = 500


async def publish(url: str, stream: str, events: Iterable[Event]) -> Taken:
    events = iter(events)
    async with redis.from_url(url) as client:
        await client.ping()
        with measured() as taken:
            while batch := list(islice(events, BATCH)):
                pipeline = client.pipeline(transaction=False)
                for event in batch:
                    pipeline.xadd(stream, fields(event), maxlen=MAX_LEN, approximate=True)
                taken.events += len(await pipeline.execute())
    return taken
