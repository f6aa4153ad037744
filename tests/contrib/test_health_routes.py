"""The health routes of the frameworks, under real servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from aiohttp import web
from fastapi import FastAPI
from litestar import Litestar
from starlette.applications import Starlette
from starlette.routing import Route

from mainflux_events import Event, OrgCreated, Publisher, Subscriber
from mainflux_events.contrib import aiohttp as for_aiohttp
from mainflux_events.contrib import fastapi as for_fastapi
from mainflux_events.contrib import litestar as for_litestar
from mainflux_events.contrib import starlette as for_starlette
from mainflux_events.contrib.running import Consume
from mainflux_events.testing import RedisServer
from support import wait_until

from .serving import serving as serving_asgi

STREAM = "routes"
MAX_STALL = 0.05


def starlette_app(make: Any, consume: Consume) -> Any:
    return Starlette(
        routes=[Route("/health", for_starlette.health_endpoint(max_stall=MAX_STALL))],
        lifespan=for_starlette.events_lifespan(make, consume),
    )


def fastapi_app(make: Any, consume: Consume) -> Any:
    app = FastAPI(lifespan=for_fastapi.events_lifespan(make, consume))
    app.add_route("/health", for_fastapi.health_endpoint(max_stall=MAX_STALL))
    return app


def aiohttp_app(make: Any, consume: Consume) -> Any:
    app = web.Application()
    app.cleanup_ctx.append(for_aiohttp.events_context(make, consume))
    app.router.add_get("/health", for_aiohttp.health_handler(max_stall=MAX_STALL))
    return app


def litestar_app(make: Any, consume: Consume) -> Any:
    health = for_litestar.health_handler(max_stall=MAX_STALL)
    return Litestar([health], lifespan=[for_litestar.events_lifespan(make, consume)])


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    if not isinstance(app, web.Application):
        async with serving_asgi(app) as client:
            yield client
        return
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    address = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        async with httpx.AsyncClient(base_url=address, trust_env=False) as client:
            yield client
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("make_app", [starlette_app, fastapi_app, aiohttp_app, litestar_app])
async def test_the_route_says_200_while_all_get_on_and_503_while_a_handler_hangs(
    make_app: Any, server: RedisServer
) -> None:
    returns = asyncio.Event()
    events: list[Event] = []

    async def handle(event: Event) -> None:
        events.append(event)
        await returns.wait()

    consume = Consume(lambda: Subscriber(server.url, STREAM, "routes", start="earliest"), handle)
    async with serving(make_app(lambda: Publisher(server.url, STREAM), consume)) as client:

        async def status() -> int:
            return (await client.get("/health")).status_code

        answer = await client.get("/health")
        assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (
            200,
            "application/json",
        )
        said = answer.json()
        assert (said["healthy"], said["publisher"]["healthy"]) == (True, True)
        assert [each["reason"] for each in said["subscribers"]] == ["it waits for events"]

        async with Publisher(server.url, STREAM) as other:
            await other.send(OrgCreated("o1"))
        await wait_until(lambda: events)

        async def unhealthy() -> bool:
            return await status() == 503

        await wait_until(unhealthy)
        said = (await client.get("/health")).json()
        assert (said["healthy"], said["publisher"]["healthy"]) == (False, True)
        assert events[0].id in said["subscribers"][0]["reason"]

        returns.set()

        async def healthy() -> bool:
            return await status() == 200

        await wait_until(healthy)


async def test_a_run_that_has_ended_is_told_though_there_is_nothing_to_do(server: RedisServer) -> None:
    consume = Consume(lambda: Subscriber(server.url, STREAM, "routes"), lambda event: None, on_failure="no")
    lifespan = for_starlette.events_lifespan(None, consume)(None)
    state = await lifespan.__aenter__()
    running = state["mainflux_events"]
    await wait_until(lambda: not running.health()[0])
    [said] = running.health()[1]["subscribers"]
    assert "on_failure" in said["reason"]
    assert "publisher" not in running.health()[1]
    with pytest.raises(Exception, match="on_failure"):
        await lifespan.__aexit__(None, None, None)
