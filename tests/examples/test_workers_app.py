"""The example of several workers, under uvicorn: one handles the events, while it is killed again and again."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from pathlib import Path

import httpx
from redis.asyncio import Redis

from mainflux_events import THINGS_STREAM, Publisher, ThingRemoved
from mainflux_events.testing import RedisServer
from support import wait_until

from .running import serving

TESTS = Path(__file__).parents[1]
CURSOR = f"mainflux:cursor:trail:{THINGS_STREAM}"
WORKERS = 4
KILLS = 4


async def trail(client: Redis) -> list[tuple[str, int]]:
    """Which entries were handled, and by which worker, in order."""
    lines = [line.decode().split() for line in await client.lrange("example:trail", 0, -1)]
    return [(id, int(worker)) for id, _, worker in lines]


async def test_what_a_worker_publishes_one_worker_handles(server: RedisServer, client: Redis) -> None:
    command = ["uvicorn", "workers_app:app", "--port", "0", "--workers", "2"]
    async with (
        serving(*command, redis_url=server.url) as address,
        httpx.AsyncClient(base_url=address, trust_env=False) as app,
    ):
        await wait_until(lambda: _connected(client, "eval", 2))
        for number in range(50):
            assert (await app.delete(f"/things/t{number}")).status_code == 204
        await wait_until(lambda: _has(client, 50))
        lines = (await app.get("/trail")).json()
        answers = [(await app.get("/health")).json() for _ in range(20)]
    entries = [id.decode() for id, _ in await client.xrange(THINGS_STREAM)]
    assert [line.split()[0] for line in lines] == entries
    [reader] = {int(line.split()[2]) for line in lines}
    assert all(answer["reads"] == (answer["worker"] == reader) for answer in answers)


async def _connected(client: Redis, command: str, count: int) -> bool:
    """Whether so many clients' last command was this one: those that hold the lease, or ask for it."""
    return [each["cmd"] for each in await client.client_list()].count(command) >= count


async def _has(client: Redis, count: int) -> bool:
    return len(await trail(client)) == count


async def test_each_event_is_handled_once_but_for_the_one_in_hand_of_each_worker_that_is_killed(
    server: RedisServer, client: Redis
) -> None:
    killed: list[int] = []
    command = [
        "uvicorn",
        "quick_workers:app",
        "--app-dir",
        str(TESTS),
        "--port",
        "0",
        "--workers",
        str(WORKERS),
    ]
    async with (
        serving(*command, redis_url=server.url),
        Publisher(server.url, THINGS_STREAM) as publisher,
    ):
        await wait_until(lambda: client.exists(CURSOR), what="one of the workers reads")
        enough = asyncio.Event()

        async def publish_on() -> None:
            while not enough.is_set():
                await publisher.publish(ThingRemoved("t1"))
                await asyncio.sleep(0.002)

        publishing = asyncio.create_task(publish_on())
        try:
            for _ in range(KILLS):
                await wait_until(lambda: _another_reads(client, killed))
                killed.append((await trail(client))[-1][1])
                os.kill(killed[-1], signal.SIGKILL)
            await wait_until(lambda: _another_reads(client, killed))
        finally:
            enough.set()
            await publishing
        await publisher.flush()
        entries = [id.decode() for id, _ in await client.xrange(THINGS_STREAM)]
        await wait_until(lambda: _handled_all(client, entries))
    handled = await trail(client)
    assert list(dict.fromkeys(id for id, _ in handled)) == entries, (
        "each one, in order, but for what came again"
    )
    last_of_each = {worker: id for id, worker in handled}
    again = [id for id, times in Counter(id for id, _ in handled).items() if times > 1]
    assert set(again) <= {last_of_each[worker] for worker in killed}
    assert len(handled) <= len(entries) + KILLS


async def _another_reads(client: Redis, killed: list[int]) -> bool:
    """Whether a worker that lives has handled a good many events."""
    by = Counter(worker for _, worker in await trail(client))
    return any(times >= 50 for worker, times in by.items() if worker not in killed)


async def _handled_all(client: Redis, entries: list[str]) -> bool:
    return {id for id, _ in await trail(client)} == set(entries)
