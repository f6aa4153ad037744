"""Starlette and FastAPI applications under uvicorn, in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from mainflux_events import (
    Event,
    HandlerFailed,
    Identity,
    OrgCreated,
    Publisher,
    Retry,
    Subscriber,
    ThingRemoved,
)
from mainflux_events.contrib.fastapi import Events, running_of
from mainflux_events.contrib.starlette import (
    Consume,
    IdentityMiddleware,
    events_lifespan,
    publisher_of,
)
from mainflux_events.testing import RedisServer
from support import wait_until

from .serving import STREAM, published, requested, serving


async def identify(request: HTTPConnection) -> Identity | None:
    user = request.headers.get("x-user-id")
    return Identity(user) if user else None


async def remove(request: Request) -> PlainTextResponse:
    id = await publisher_of(request).send(ThingRemoved(request.path_params["id"]))
    return PlainTextResponse(id)


def starlette_app(server: RedisServer, **settings: Any) -> Starlette:
    return Starlette(
        routes=[Route("/things/{id}", remove, methods=["DELETE"])],
        middleware=[Middleware(IdentityMiddleware, identify=identify)],
        lifespan=events_lifespan(lambda: Publisher(server.url, STREAM), **settings),
    )


async def test_an_endpoint_publishes_in_the_name_of_who_was_identified(server: RedisServer) -> None:
    async with serving(starlette_app(server)) as client:
        await client.delete("/things/t1", headers={"X-User-Id": "ana"})
        await client.delete("/things/t2")
    found = [(event.action, event.identity) for event in await published(server)]
    assert found == [(ThingRemoved("t1"), Identity("ana")), (ThingRemoved("t2"), Identity())]


async def test_requests_at_the_same_time_have_their_own_identities(server: RedisServer) -> None:
    await requested(starlette_app(server), users=30)
    events = await published(server)
    assert len(events) == 30
    assert all(event.identity.id[1:] == event.action.id[1:] for event in events)  # type: ignore[attr-defined]


async def test_an_application_can_be_started_again(server: RedisServer) -> None:
    await requested(starlette_app(server), users=1, times=2)
    assert len(await published(server)) == 2


async def test_the_applications_own_lifespan_keeps_its_state_and_lies_within(server: RedisServer) -> None:
    order = []

    @asynccontextmanager
    async def inner(app: Any) -> AsyncIterator[dict[str, str]]:
        order.append("begins")
        yield {"greeting": "hello"}
        order.append("ends")

    def greet(request: Request) -> PlainTextResponse:
        publisher_of(request).publish_threadsafe(OrgCreated("o1"))
        return PlainTextResponse(request.state.greeting)

    class Noting(Publisher):
        async def aclose(self) -> None:
            order.append("publisher closes")
            await super().aclose()

    lifespan = events_lifespan(lambda: Noting(server.url, STREAM), inner=inner)
    async with serving(Starlette(routes=[Route("/", greet)], lifespan=lifespan)) as client:
        assert (await client.get("/")).text == "hello"
    assert order == ["begins", "ends", "publisher closes"]
    assert [event.action for event in await published(server)] == [OrgCreated("o1")]


async def test_a_subscriber_of_the_application_handles_what_its_endpoints_publish(
    server: RedisServer,
) -> None:
    handled: list[Event] = []
    consume = Consume(lambda: Subscriber(server.url, STREAM, "app", start="earliest"), handled.append)
    app = FastAPI(lifespan=events_lifespan(lambda: Publisher(server.url, STREAM), consume))

    @app.post("/orgs/{id}")
    async def create(id: str, events: Events) -> None:
        await events.publish(OrgCreated(id))

    async with serving(app) as client:
        assert (await client.post("/orgs/o1")).status_code == 200
        await wait_until(lambda: handled)
    assert [event.action for event in handled] == [OrgCreated("o1")]


async def test_an_error_that_ends_the_handling_is_told_at_once_and_raised_at_the_end(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(event: Event) -> None:
        raise LookupError("no such thing")

    consume = Consume(
        lambda: Subscriber(server.url, STREAM, "app", start="earliest"), fail, on_failure="raise"
    )
    lifespan = events_lifespan(lambda: Publisher(server.url, STREAM), consume)(None)
    state = await lifespan.__aenter__()
    await state["mainflux_events"].publisher.publish(OrgCreated("o1"))
    await wait_until(lambda: "consumer_died" in caplog.text)
    with pytest.raises(HandlerFailed):
        await lifespan.__aexit__(None, None, None)


async def test_where_the_application_fails_handling_ends_and_what_goes_wrong_then_is_told(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    begun = asyncio.Event()

    async def fail_in_the_end(event: Event) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            raise LookupError("no such thing")

    consume = Consume(
        lambda: Subscriber(server.url, STREAM, "app", start="earliest"),
        fail_in_the_end,
        on_failure="raise",
        retry=Retry(attempts=1),
    )
    lifespan = events_lifespan(lambda: Publisher(server.url, STREAM), consume)(None)
    state = await lifespan.__aenter__()
    await state["mainflux_events"].publisher.publish(OrgCreated("o1"))
    await begun.wait()
    assert not await lifespan.__aexit__(ZeroDivisionError, ZeroDivisionError(), None), "its own error goes on"
    assert "consumer_died" in caplog.text


async def test_without_the_lifespan_the_error_says_what_to_do(server: RedisServer) -> None:
    def look(request: Request) -> PlainTextResponse:
        with pytest.raises(RuntimeError, match="lifespan=events_lifespan"):
            running_of(request)
        return PlainTextResponse("told")

    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(Starlette(routes=[Route("/", look)])), base_url="http://app"
    ) as client:
        assert (await client.get("/")).text == "told"
