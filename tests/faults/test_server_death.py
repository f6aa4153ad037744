"""The server is killed, hangs, loads its data, or is gone for longer than the buffer lasts."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from redis.asyncio import Redis

from consuming import Recorder, quick_subscribers, take
from faults.kit import (
    all_read,
    append,
    consumed,
    more,
    more_acknowledged,
    publishing,
    stored,
    subscriber,
    turns,
)
from histories import History, Readings
from mainflux_events import Backoff, BufferFull, Publisher
from mainflux_events.testing import RedisServer, redis_server
from support import LOADS_SLOWLY, PATIENCE, restart_with_much_to_load, wait_until

# --- kill -9 ---


async def written(server: RedisServer) -> None:
    """Wait until no fsync goes on: during one, with `everysec`, the server acknowledges what it has yet to write."""

    async def nothing_pending() -> bool:
        return b"aof_pending_bio_fsync:0" in await server.command("INFO", "persistence")

    await wait_until(nothing_pending)


async def test_kill_9_with_aof_everysec_and_restart() -> None:
    history, readings, seen = History(), Readings(), Recorder()
    async with (
        redis_server(aof=True, config={"appendfsync": "everysec"}) as server,
        subscriber(server, seen) as reader,
        history.publisher(server.url) as publisher,
        consumed(reader, readings),
    ):
        async with publishing(history, publisher):
            for _ in range(3):
                await more_acknowledged(publisher)
                await more(lambda: len(readings.loops[0]))
                await written(server)
                await server.kill()
                await server.restart()
            await more_acknowledged(publisher)
        await publisher.flush(PATIENCE)
        entries = await all_read(readings, server)
    history.check(publisher, entries)
    assert publisher.stats.acknowledged == publisher.stats.accepted
    assert publisher.stats.reconnects >= 3
    assert {details.what for details in seen.of("reconnected")} == {"read", "commit"}
    assert seen.of("lease_lost") == []


async def test_kill_9_without_persistence_publishing_goes_on(fresh_server: RedisServer) -> None:
    history = History()
    async with history.publisher(fresh_server.url) as publisher, publishing(history, publisher):
        await more_acknowledged(publisher)
        await fresh_server.kill()
        await fresh_server.restart()
        await more_acknowledged(publisher)
    history.check(publisher, await stored(fresh_server), kept=False)
    assert publisher.stats.acknowledged == publisher.stats.accepted


# --- hanging ---


async def test_server_hangs(fresh_server: RedisServer) -> None:
    history, readings = History(), Readings()
    settings = {"attempt_timeout": 0.1, "backoff": Backoff(0.1, 0.1)}
    with quick_subscribers(patience=0.2):
        async with (
            subscriber(fresh_server) as reader,
            history.publisher(fresh_server.url, **settings) as publisher,
            consumed(reader, readings),
        ):
            async with publishing(history, publisher):
                for _ in range(2):
                    await more_acknowledged(publisher)
                    fresh_server.hang()
                    await more(lambda: len(history.recorder.retries), 3)
                    assert turns(publisher.publish(history.next())) <= 1
                    history.accepted.append(history.next().id)
                    fresh_server.resume()
                await more_acknowledged(publisher)
            await publisher.flush(PATIENCE)
            entries = await all_read(readings, fresh_server)
    history.check(publisher, entries)
    assert publisher.stats.acknowledged == publisher.stats.accepted
    first, *others = (details.reason for details in history.recorder.retries)
    assert first == "no reply in 0.1 s"
    assert all("no reply in 0.1 s" in reason or "did not answer in 0.1 s" in reason for reason in others)


# --- loading ---


async def test_loading_publisher() -> None:
    history = History()
    async with redis_server(config=LOADS_SLOWLY) as server:
        async with history.publisher(server.url, attempt_timeout=2.0) as publisher:
            await restart_with_much_to_load(server)
            history.publish(publisher, 10)
            await wait_until(lambda: any("LOADING" in details.reason for details in history.recorder.retries))
            await publisher.flush(PATIENCE)
        history.check(publisher, await stored(server))
        assert publisher.stats.acknowledged == 10


async def test_loading_subscriber() -> None:
    seen = Recorder()
    async with redis_server(config=LOADS_SLOWLY) as server:
        async with Redis.from_url(server.url) as client:
            await append(client, "t1")
        await restart_with_much_to_load(server)
        async with subscriber(server, seen) as reader:
            await wait_until(lambda: seen.of("retrying"))
            assert "LOADING" in seen.of("retrying")[0].reason
            assert await take(reader, 1) == ["t1"]


# --- the buffer overflows meanwhile ---


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest", "raise", "wait"])
async def test_buffer_overflows_in_an_outage(overflow: str) -> None:
    history = History()
    settings = {"overflow": overflow, "buffer_size": 10, "attempt_timeout": 0.5}
    async with redis_server(aof=True) as server:
        async with history.publisher(server.url, **settings) as publisher:
            await history.send(publisher)
            server.hang()
            history.publish(publisher, 5)
            await wait_until(lambda: publisher.stats.in_flight == 5)
            await server.kill()
            filling = asyncio.create_task(fill(history, publisher, 25))
            await wait_until(lambda: publisher.stats.buffered == 10)
            await wait_until(lambda: filling.done() or overflow == "wait")
            await server.restart()
            await filling
            await wait_until(lambda: publisher.stats.buffered == publisher.stats.in_flight == 0)
        history.check(publisher, await stored(server))
        lost = {"drop_oldest": history.accepted[6:-10], "drop_newest": history.accepted[-15:]}
        assert history.recorder.dropped_ids() == lost.get(overflow, [])
        accepted = 16 if overflow == "raise" else 31
        assert publisher.stats.accepted == accepted
        assert publisher.stats.acknowledged == accepted - publisher.stats.dropped
        assert history.recorder.undelivered_ids() == []


async def fill(history: History, publisher: Publisher, count: int) -> None:
    """Publish so many; note which were accepted."""
    for _ in range(count):
        event = history.next()
        with contextlib.suppress(BufferFull):
            await publisher.publish(event)
            history.accepted.append(event.id)
