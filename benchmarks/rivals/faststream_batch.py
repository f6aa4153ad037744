"""FastStream, as quick as it gets: published through pipelines of 500, consumed by a handler of batches of 1,000."""

from __future__ import annotations

import asyncio

from faststream.redis import StreamSub

from benchmarks.measure import Taken, measured
from benchmarks.rivals.faststream_single import Message, broker, fill

TITLE = "FastStream, in batches"
SHARE = 0.2

publish = fill


async def consume(url: str, stream: str, count: int) -> Taken:
    client = broker(url)
    done = asyncio.Event()
    handled = 0

    @client.subscriber(stream=StreamSub(stream, last_id="0", batch=True, max_records=1000))
    async def handle(messages: list[Message]) -> None:
        nonlocal handled
        for message in messages:
            assert message.operation
            assert message.jwt_identity_user_email
            assert message.occurred_at
        handled += len(messages)
        if handled >= count:
            done.set()

    with measured(count) as taken:
        async with client:
            await client.start()
            await done.wait()
    return taken
