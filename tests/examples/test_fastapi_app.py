"""The FastAPI example, under uvicorn."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from redis.asyncio import Redis

from mainflux_events import (
    THINGS_STREAM,
    Event,
    Identity,
    Subscriber,
    ThingCreated,
    ThingRemoved,
    ThingUpdated,
)
from mainflux_events.testing import RedisServer

from .running import serving

ANA = {"X-User-Id": "u1", "X-User-Email": "ana@example.com"}
BEN = {"X-User-Id": "u2"}


@pytest.fixture
async def app(server: RedisServer) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        serving("uvicorn", "fastapi_app:app", "--port", "0", redis_url=server.url) as address,
        httpx.AsyncClient(base_url=address, trust_env=False) as client,
    ):
        yield client


@pytest.fixture
async def events(server: RedisServer) -> AsyncIterator[Subscriber]:
    """A subscriber that begins before the application does."""
    async with Subscriber(server.url, THINGS_STREAM, "test", start="earliest") as subscriber:
        yield subscriber


async def test_an_async_endpoint_publishes_in_the_users_name(
    events: Subscriber, app: httpx.AsyncClient
) -> None:
    parameters = {"group_id": "g1", "profile_id": "p1", "name": "датчик"}
    response = await app.post("/things", params=parameters, headers=ANA)
    assert response.status_code == 201
    event = await anext(events)
    assert event.action == ThingCreated(response.json()["id"], "g1", "p1", "датчик")
    assert event.identity == Identity("u1", "ana@example.com")
    assert event.occurred_at is not None


async def test_a_plain_endpoint_publishes_from_its_thread_in_the_users_name(
    events: Subscriber, app: httpx.AsyncClient
) -> None:
    response = await app.put("/things/t1", params={"profile_id": "p1"}, headers=BEN)
    assert response.status_code == 204
    event = await anext(events)
    assert event == Event(ThingUpdated("t1", "p1"), Identity("u2"), occurred_at=event.occurred_at)


async def test_an_endpoint_that_must_know_gives_the_entry_that_is_stored(
    events: Subscriber, app: httpx.AsyncClient
) -> None:
    response = await app.delete("/things/t1", headers=ANA)
    event = await anext(events)
    assert response.json() == {"entry": event.id}
    assert (event.action, event.identity.id) == (ThingRemoved("t1"), "u1")


async def test_a_request_does_not_inherit_the_identity_of_the_one_before(
    events: Subscriber, app: httpx.AsyncClient
) -> None:
    for headers in (ANA, {}, BEN):
        await app.put("/things/t1", params={"profile_id": "p1"}, headers=headers)
        await app.delete("/things/t1", headers=headers)
    assert [(await anext(events)).identity.id for _ in range(6)] == ["u1", "u1", "", "", "u2", "u2"]


async def test_what_is_accepted_when_the_server_is_stopped_is_stored(
    server: RedisServer, client: Redis
) -> None:
    async with (
        serving("uvicorn", "fastapi_app:app", "--port", "0", redis_url=server.url) as address,
        httpx.AsyncClient(base_url=address, trust_env=False) as app,
    ):
        parameters = {"group_id": "g1", "profile_id": "p1"}
        ids = [(await app.post("/things", params=parameters)).json()["id"] for _ in range(20)]
    stored = [fields[b"id"].decode() for _, fields in await client.xrange(THINGS_STREAM)]
    assert stored == ids
