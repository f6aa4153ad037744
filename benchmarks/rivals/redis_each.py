"""redis-py, awaiting each XADD."""

from __future__ import annotations

from collections.abc import Iterable

import redis.asyncio as redis

from benchmarks.events import MAX_LEN, fields
from benchmarks.measure import Taken, measured
from mainflux_events import Event

TITLE = "redis-py, each XADD awaited"
SHARE = 0.1


async def publish(url: str, stream: str, events: Iterable[Event]) -> Taken:
    async with redis.from_url(url) as client:
        await client.ping()
        with measured() as taken:
            for event in events:
                await client.xadd(stream, fields(event), maxlen=MAX_LEN, approximate=True)
                taken.events += 1
    return taken
