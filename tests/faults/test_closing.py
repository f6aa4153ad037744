"""Closing while the server is gone, while others publish, and while it is cancelled itself."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable
from unittest.mock import patch

import pytest
from redis.asyncio import Redis

from consuming import Recorder, things
from faults.kit import LATE, append, consumed, cursor, more, stored, subscriber
from faults.proxy import Proxy, proxy_to
from histories import History, Readings
from mainflux_events import Publisher, PublisherClosed
from mainflux_events.testing import RedisServer
from support import PATIENCE, no_clients_left, wait_until, within

BOUND = 0.3

outage = pytest.mark.parametrize("outage", ["hangs", "refused port"])


async def begin(outage: str, server: RedisServer, proxy: Proxy) -> None:
    if outage == "hangs":
        server.hang()
    else:
        proxy.refuse()
        proxy.reset()


def end(outage: str, server: RedisServer) -> None:
    if outage == "hangs":
        server.resume()


async def in_time(closing: Awaitable[None]) -> None:
    """It ends within its bound and half a second, and leaves no task."""
    with within(BOUND + LATE):
        await closing
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("mainflux_events")]


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


@outage
async def test_close_during_an_outage_publisher(
    outage: str, fresh_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    history = History()
    async with proxy_to(fresh_server) as proxy:
        publisher = history.publisher(proxy.url(), close_timeout=BOUND)
        await publisher.start()
        await history.send(publisher)
        await begin(outage, fresh_server, proxy)
        history.publish(publisher, 10)
        await wait_until(lambda: publisher.stats.in_flight == 10)
        history.publish(publisher, 10)
        await in_time(publisher.aclose())
        await wait_until(lambda: not proxy.connections)
    assert history.recorder.undelivered_ids() == history.accepted[1:]
    assert errors(caplog) == [
        "events_undelivered: 20 events for 'mainflux.things', because the publisher closed"
    ]
    end(outage, fresh_server)
    await no_clients_left(fresh_server)
    history.check(publisher, await stored(fresh_server))


@outage
async def test_close_during_an_outage_subscriber(
    outage: str, fresh_server: RedisServer, direct: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    ids = await append(direct, *things(3))
    async with proxy_to(fresh_server) as proxy:
        with patch("mainflux_events.service.CLOSE_BOUND", BOUND):
            reader = subscriber(proxy.url())
        await reader.start()
        events = aiter(reader)
        await anext(events)
        await begin(outage, fresh_server, proxy)
        await anext(events)
        await anext(events)
        await in_time(reader.aclose())
        await wait_until(lambda: not proxy.connections)
    [told] = errors(caplog)
    assert told.endswith(f"at {ids[1]}, on closing")
    end(outage, fresh_server)
    assert await cursor(direct) in ("0-0", ids[0], ids[1]), "what hung may have been stored, but never more"


async def until_refused(history: History, publisher: Publisher) -> None:
    """Publish until that is refused."""
    with contextlib.suppress(PublisherClosed):
        while True:
            history.publish(publisher)
            await asyncio.sleep(0)


@pytest.mark.parametrize("trouble", [None, "reset", "hold"])
async def test_publish_after_or_during_close(
    trouble: str | None, proxy: Proxy, server: RedisServer, client: Redis
) -> None:
    for turns in range(0, 20, 5 if trouble == "hold" else 1):
        history = History()
        publisher = history.publisher(proxy.url(), close_timeout=0.1 if trouble == "hold" else 5.0)
        await publisher.start()
        racing = asyncio.create_task(until_refused(history, publisher))
        for _ in range(turns):
            await asyncio.sleep(0)
        if trouble is not None:
            getattr(proxy, trouble)()
        await publisher.aclose()
        with pytest.raises(PublisherClosed):
            history.publish(publisher)
        await asyncio.wait_for(racing, PATIENCE)
        proxy.release(late=True)
        await wait_until(lambda: not proxy.connections)
        history.check(publisher, await stored(server))
        if trouble != "hold":
            assert publisher.stats.acknowledged == len(history.accepted)
        await client.delete("mainflux.things")


@outage
async def test_close_is_cancelled_publisher(outage: str, fresh_server: RedisServer) -> None:
    for turns in range(21):
        history = History()
        async with proxy_to(fresh_server) as proxy:
            publisher = history.publisher(proxy.url(), close_timeout=0.05)
            await publisher.start()
            await begin(outage, fresh_server, proxy)
            history.publish(publisher, 10)
            await wait_until(lambda: publisher.stats.in_flight)  # noqa: B023
            await cancelled_after(turns, publisher.aclose())
            await wait_until(
                lambda: not proxy.connections and asyncio.all_tasks() == {asyncio.current_task()}
            )
        end(outage, fresh_server)
        await no_clients_left(fresh_server)
        history.check(publisher, await stored(fresh_server))
        await fresh_server.command("FLUSHALL")


@outage
async def test_close_is_cancelled_subscriber(outage: str, fresh_server: RedisServer, direct: Redis) -> None:
    await append(direct, *things(100))
    for turns in range(21):
        readings, seen = Readings(), Recorder()
        async with proxy_to(fresh_server) as proxy:
            reader = subscriber(proxy.url(), seen, name=f"audit{turns}")
            await reader.start()
            async with consumed(reader, readings):
                await more(lambda: len(readings.loops[0]))  # noqa: B023
            await begin(outage, fresh_server, proxy)
            await cancelled_after(turns, reader.aclose())
            await wait_until(
                lambda: not proxy.connections and asyncio.all_tasks() == {asyncio.current_task()}
            )
        end(outage, fresh_server)


async def cancelled_after(turns: int, closing: Awaitable[None]) -> None:
    """Cancel it after so many turns of the loop, and wait for its end."""
    task = asyncio.ensure_future(closing)
    for _ in range(turns + 1):
        await asyncio.sleep(0)
    task.cancel()
    with within(BOUND + LATE):
        await asyncio.wait([task])
