"""redis-py, a bare XREAD of 1,000 at a time: nothing is decoded, nothing committed."""

from __future__ import annotations

import redis.asyncio as redis

from benchmarks.measure import Taken, measured

TITLE = "redis-py, bare xread(count=1000)"
SHARE = 1.0


async def consume(url: str, stream: str, count: int) -> Taken:
    last: bytes | str = "0-0"
    with measured() as taken:
        async with redis.from_url(url) as client:
            while taken.events < count:
                [[_, entries]] = await client.xread({stream: last}, count=1000)
                taken.events += len(entries)
                last = entries[-1][0]
    return taken
