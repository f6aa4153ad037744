"""A batch whose commands wait at the server, for the one before to be answered."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import Redis

from faults.kit import stored
from faults.proxy import Proxy
from histories import STREAM, History
from mainflux_events import Backoff, Publisher
from mainflux_events.drain import BATCH_EVENTS
from mainflux_events.testing import RedisServer
from support import PATIENCE, wait_until


async def queued(client: Redis) -> list[int]:
    """How many commands wait in open transactions."""
    return [int(each["multi"]) for each in await client.client_list() if each["multi"] != "-1"]


async def nothing_waits(client: Redis) -> bool:
    return await queued(client) == []


@asynccontextmanager
async def one_is_applied_and_one_waits(
    proxy: Proxy, client: Redis, history: History, **settings: float
) -> AsyncIterator[Publisher]:
    """A publisher of two batches, that of the answers to the first knows nothing yet."""

    async def so_far() -> bool:
        return await client.xlen(STREAM) == BATCH_EVENTS and await queued(client) == [BATCH_EVENTS]

    async with history.publisher(proxy.url(), attempt_timeout=5.0, **settings) as publisher:
        proxy.delay(0.3)
        history.publish(publisher, 2 * BATCH_EVENTS)
        await wait_until(so_far)
        yield publisher
    proxy.delay(0.0)


async def test_a_full_batch_is_at_the_server_before_the_one_before_is_answered(
    proxy: Proxy, server: RedisServer, client: Redis
) -> None:
    history = History()
    async with one_is_applied_and_one_waits(proxy, client, history) as publisher:
        assert publisher.stats.acknowledged == 0
        assert (publisher.stats.buffered, publisher.stats.in_flight) == (0, 2 * BATCH_EVENTS)
        proxy.delay(0.0)
        await publisher.flush(PATIENCE)
    history.check(publisher, await stored(server), duplicates=0)


async def test_what_is_no_full_batch_waits_in_the_buffer(
    proxy: Proxy, server: RedisServer, client: Redis
) -> None:
    history = History()
    async with history.publisher(proxy.url(), attempt_timeout=5.0) as publisher:
        proxy.delay(0.3)
        history.publish(publisher, 2 * BATCH_EVENTS - 1)
        await wait_until(lambda: client.xlen(STREAM))
        assert await queued(client) == []
        assert publisher.stats.buffered == BATCH_EVENTS - 1
        proxy.delay(0.0)
        await publisher.flush(PATIENCE)
    history.check(publisher, await stored(server), duplicates=0)


async def test_behind_a_refused_batch_it_is_not_applied(server: RedisServer, client: Redis) -> None:
    history = History()
    slow = Backoff(initial=0.5, maximum=0.5)
    async with history.publisher(server.url, attempt_timeout=5.0, backoff=slow) as publisher:
        await client.set(STREAM, "no stream")
        history.publish(publisher, 3 * BATCH_EVENTS)
        await wait_until(lambda: publisher.stats.retries)
        await wait_until(lambda: nothing_waits(client))
        assert publisher.stats.acknowledged == 0
        await client.delete(STREAM)
        await publisher.flush(PATIENCE)
        assert publisher.stats.reconnects == 0
    history.check(publisher, await stored(server), duplicates=0)


async def test_with_the_connection_it_is_forgotten_and_sent_again(
    proxy: Proxy, server: RedisServer, client: Redis
) -> None:
    history = History()
    async with one_is_applied_and_one_waits(proxy, client, history) as publisher:
        proxy.delay(0.0)
        proxy.reset()
        await publisher.flush(PATIENCE)
    # Of the first nobody could know that it was applied. The second was not, and that is known.
    history.check(publisher, await stored(server), duplicates=BATCH_EVENTS)


async def test_a_close_that_runs_out_of_time_leaves_nothing_of_it(
    proxy: Proxy, server: RedisServer, client: Redis
) -> None:
    async with one_is_applied_and_one_waits(proxy, client, History(), close_timeout=0.0) as publisher:
        pass
    assert publisher.stats.undelivered == 2 * BATCH_EVENTS
    await wait_until(lambda: not proxy.connections)
    assert len(await stored(server)) == BATCH_EVENTS
