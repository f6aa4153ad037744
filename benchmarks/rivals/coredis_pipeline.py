"""coredis, pipelines of 500 without a transaction."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import coredis

from benchmarks.events import MAX_LEN, fields
from benchmarks.measure import Taken, measured
from mainflux_events import Event

TITLE = "coredis, pipeline of 500"
SHARE = 0.2
BATCH = 500


async def publish(url: str, stream: str, events: Iterable[Event]) -> Taken:
    events = iter(events)
    async with coredis.Redis.from_url(url) as client:
        await client.ping()
        with measured() as taken:
            while batch := list(islice(events, BATCH)):
                async with client.pipeline(transaction=False) as pipeline:
                    for event in batch:
                        pipeline.xadd(
                            stream,
                            field_values=fields(event),
                            trim_strategy=coredis.PureToken.MAXLEN,
                            trim_operator=coredis.PureToken.APPROXIMATELY,
                            threshold=MAX_LEN,
                        )
                taken.events += len(pipeline.results or ())
    return taken
