"""What idempotent publishing adds: no event is there twice, and a sequence that is lost is told, not guessed at.

More of both is in ``tests/integration/test_idempotent_faults.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from redis.asyncio import Redis

from faults.kit import more_acknowledged, publishing, stored
from faults.proxy import Proxy
from histories import History, numbered
from idempotence import publisher_of, sequences
from mainflux_events import Undelivered
from mainflux_events.testing import RedisServer, redis_server
from support import PATIENCE, wait_until

BATCH = 10


async def test_idempotent_first_copy_delivered_after_the_retry(
    proxy: Proxy, server: RedisServer, client: Redis
) -> None:
    history = History()
    async with publisher_of(proxy.url(), history, attempt_timeout=0.1) as publisher:
        history.publish(publisher, BATCH)
        await publisher.flush(PATIENCE)
        [connection] = proxy.connections
        connection.hold()
        history.publish(publisher, BATCH)
        await publisher.flush(PATIENCE)
        before = await _scripts(client)
        connection.release(late=True)
        await wait_until(lambda: _more_scripts(client, before))
        history.publish(publisher, BATCH)
        await publisher.flush(PATIENCE)
    entries = await stored(server)
    history.check(publisher, entries, duplicates=0)
    assert list(entries.values()) == history.accepted, "exactly one copy of each"


async def _scripts(client: Redis) -> int:
    """How many scripts were run."""
    found = await client.info("commandstats")
    return sum(found.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("eval", "evalsha"))


async def _more_scripts(client: Redis, before: int) -> bool:
    return await _scripts(client) > before


async def _flush(server: RedisServer) -> None:
    await server.command("FLUSHALL")


async def _remove(server: RedisServer) -> None:
    for key in await sequences(server):
        await server.command("PEXPIRE", key, 0)


async def _restart(server: RedisServer) -> None:
    await server.kill()
    await server.restart()


@pytest.mark.parametrize(
    "lose", [_flush, _remove, _restart], ids=["FLUSHALL", "expiry", "restart without data"]
)
async def test_sequence_key_lost(
    lose: Callable[[RedisServer], Awaitable[None]], fresh_server: RedisServer
) -> None:
    history = History()
    async with publisher_of(fresh_server, history) as publisher, publishing(history, publisher):
        for _ in range(3):
            await more_acknowledged(publisher)
            await lose(fresh_server)
        await more_acknowledged(publisher)
    history.check(publisher, await stored(fresh_server), duplicates=0, kept=lose is _remove)
    lost = history.recorder.sequences
    assert len(lost) == publisher.stats.epochs == 3, "each is reported, and begins a new epoch"
    assert sum(details.unknown for details in lost) == publisher.stats.undelivered


async def test_sequence_key_lost_a_batch_whose_fate_is_unknown_is_reported(
    proxy: Proxy, server: RedisServer
) -> None:
    history = History()
    async with publisher_of(proxy.url(), history, attempt_timeout=0.1) as publisher:
        history.publish(publisher)
        await publisher.flush(PATIENCE)
        [connection] = proxy.connections
        connection.hold()
        sending = asyncio.create_task(publisher.send(numbered(1000)))
        history.accepted.append(numbered(1000).id)
        await wait_until(lambda: publisher.stats.in_flight)
        await server.command("DEL", *await sequences(server))
        for told in (sending, publisher.flush(PATIENCE)):
            with pytest.raises(Undelivered):
                await told
        connection.release(late=True)
        history.publish(publisher, BATCH)
        await publisher.flush(PATIENCE)
    history.check(publisher, await stored(server), duplicates=0)
    assert history.recorder.undelivered_ids() == [numbered(1000).id]
    assert [details.unknown for details in history.recorder.sequences] == [1]


async def test_idempotent_kill_9_with_aof_and_restart() -> None:
    history = History()
    async with redis_server(aof=True, config={"appendfsync": "always"}) as server:
        async with publisher_of(server, history) as publisher, publishing(history, publisher):
            for _ in range(3):
                await more_acknowledged(publisher)
                await server.kill()
                await server.restart()
            await more_acknowledged(publisher)
        history.check(publisher, await stored(server), duplicates=0)
    assert publisher.stats.undelivered == 0
