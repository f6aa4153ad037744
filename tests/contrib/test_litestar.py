"""Litestar applications under uvicorn, in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from litestar import Litestar, delete, get, post
from litestar.datastructures import State
from litestar.di import Provide
from litestar.params import FromPath

from mainflux_events import Event, Identity, OrgCreated, Publisher, Subscriber, ThingRemoved
from mainflux_events.contrib.litestar import (
    Consume,
    Events,
    IdentityMiddleware,
    events_lifespan,
    publisher_of,
    running_of,
)
from mainflux_events.testing import RedisServer
from support import wait_until

from .serving import STREAM, published, requested, serving


async def identify(request: Any) -> Identity | None:
    user = request.headers.get("x-user-id")
    return Identity(user) if user else None


@delete("/things/{id:str}", status_code=200)
async def remove(id: FromPath[str], events: Events) -> str:
    return await events.send(ThingRemoved(id))


@post("/orgs/{id:str}", sync_to_thread=True)
def create(id: FromPath[str], events: Events) -> None:
    events.publish_threadsafe(OrgCreated(id))


def application(server: RedisServer, *consume: Consume) -> Litestar:
    return Litestar(
        [remove, create],
        lifespan=[events_lifespan(lambda: Publisher(server.url, STREAM), *consume)],
        dependencies={"events": Provide(publisher_of)},
        middleware=[IdentityMiddleware(identify)],
    )


async def test_a_handler_publishes_in_the_name_of_who_was_identified(server: RedisServer) -> None:
    async with serving(application(server)) as client:
        assert (await client.delete("/things/t1", headers={"X-User-Id": "ana"})).status_code == 200
        assert (await client.delete("/things/t2")).status_code == 200
    found = [(event.action, event.identity) for event in await published(server)]
    assert found == [(ThingRemoved("t1"), Identity("ana")), (ThingRemoved("t2"), Identity())]


async def test_a_plain_handler_publishes_from_its_thread_in_the_users_name(server: RedisServer) -> None:
    async with serving(application(server)) as client:
        assert (await client.post("/orgs/o1", headers={"X-User-Id": "ana"})).status_code == 201
    [event] = await published(server)
    assert (event.action, event.identity) == (OrgCreated("o1"), Identity("ana"))


async def test_requests_at_the_same_time_have_their_own_identities(server: RedisServer) -> None:
    await requested(application(server), users=30)
    events = await published(server)
    assert len(events) == 30
    assert all(event.identity.id[1:] == event.action.id[1:] for event in events)  # type: ignore[attr-defined]


async def test_an_application_can_be_started_again(server: RedisServer) -> None:
    await requested(application(server), users=1, times=2)
    assert len(await published(server)) == 2


async def test_a_lifespan_behind_it_can_publish_to_its_end(server: RedisServer) -> None:
    @asynccontextmanager
    async def own(app: Litestar) -> AsyncIterator[None]:
        publisher = await publisher_of(app.state)
        await publisher.publish(OrgCreated("begins"))
        yield
        await publisher.publish(OrgCreated("ends"))

    app = Litestar(lifespan=[events_lifespan(lambda: Publisher(server.url, STREAM)), own])
    async with serving(app):
        pass
    assert [event.action for event in await published(server)] == [OrgCreated("begins"), OrgCreated("ends")]


async def test_a_subscriber_of_the_application_handles_what_its_handlers_publish(server: RedisServer) -> None:
    handled: list[Event] = []
    consume = Consume(lambda: Subscriber(server.url, STREAM, "app", start="earliest"), handled.append)
    async with serving(application(server, consume)) as client:
        await client.post("/orgs/o1")
        await wait_until(lambda: handled)
    assert [event.action for event in handled] == [OrgCreated("o1")]


async def test_without_the_lifespan_the_error_says_what_to_do() -> None:
    @get("/")
    async def look(state: State) -> str:
        with pytest.raises(RuntimeError, match="lifespan=.*events_lifespan"):
            running_of(state)
        return "told"

    async with serving(Litestar([look])) as client:
        assert (await client.get("/")).text == "told"


async def test_without_a_publisher_the_error_says_so(server: RedisServer) -> None:
    @get("/")
    async def look(state: State) -> str:
        with pytest.raises(RuntimeError, match="was given none"):
            await publisher_of(state)
        return "told"

    async with serving(Litestar([look], lifespan=[events_lifespan()])) as client:
        assert (await client.get("/")).text == "told"
