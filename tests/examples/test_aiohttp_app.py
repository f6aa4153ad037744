"""The aiohttp example, under its own server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from redis.asyncio import Redis

from mainflux_events import THINGS_STREAM
from mainflux_events.testing import RedisServer
from support import wait_until

from .running import serving

COMMAND = ("aiohttp.web", "-H", "127.0.0.1", "-P", "0", "aiohttp_app:make_app")
ANA = {"X-User-Id": "u1", "X-User-Email": "ana@example.com"}
PUMP = {"group_id": "g1", "profile_id": "p1", "name": "pump №4"}


@pytest.fixture
async def app(server: RedisServer) -> AsyncIterator[aiohttp.ClientSession]:
    async with (
        serving(*COMMAND, redis_url=server.url) as address,
        aiohttp.ClientSession(address) as session,
    ):
        yield session


async def test_a_handler_publishes_in_the_users_name(app: aiohttp.ClientSession, client: Redis) -> None:
    response = await app.post("/things", data=PUMP, headers=ANA)
    assert response.status == 201
    await wait_until(lambda: client.xlen(THINGS_STREAM))
    [(_, fields)] = await client.xrange(THINGS_STREAM)
    assert fields[b"operation"] == b"thing.create"
    assert fields[b"id"].decode() == (await response.json())["id"]
    assert fields[b"name"].decode() == "pump №4"
    assert fields[b"jwt_identity_user_id"] == b"u1"
    assert fields[b"jwt_identity_user_email"] == b"ana@example.com"


async def test_the_application_consumes_what_it_publishes(app: aiohttp.ClientSession) -> None:
    await app.post("/things", data=PUMP, headers=ANA)
    await app.delete("/things/t1")

    async def history() -> bool:
        response = await app.get("/history")
        return bool(await response.json() == ["u1: thing.create", "somebody: thing.remove"])

    await wait_until(history)


async def test_stopped_and_started_it_consumes_what_was_published_meanwhile(
    server: RedisServer, client: Redis
) -> None:
    async def history(session: aiohttp.ClientSession) -> list[str]:
        async with session.get("/history") as response:
            return list(await response.json())

    async with serving(*COMMAND, redis_url=server.url) as address, aiohttp.ClientSession(address) as session:
        await session.delete("/things/t1", headers=ANA)
        await wait_until(lambda: history(session))
    await client.xadd(THINGS_STREAM, {"operation": "org.create", "id": "o1"})
    async with serving(*COMMAND, redis_url=server.url) as address, aiohttp.ClientSession(address) as session:
        await wait_until(lambda: history(session))
        assert await history(session) == ["somebody: org.create"]


async def test_what_is_accepted_when_the_server_is_stopped_is_stored(
    server: RedisServer, client: Redis
) -> None:
    async with serving(*COMMAND, redis_url=server.url) as address, aiohttp.ClientSession(address) as session:
        await asyncio.gather(*(session.delete(f"/things/{number}") for number in range(20)))
    stored = {fields[b"id"] for _, fields in await client.xrange(THINGS_STREAM)}
    assert stored == {str(number).encode() for number in range(20)}
